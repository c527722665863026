"""The source port: a PyTorch model as a Python file that one would keep.

`parts` are the modules of the importer's tree with what their source needs, and `classes` says
which classes these need and what their instances differ in. `observing` tells what the values of
the programs are. `modes` makes one program of both modes where one will do, `simplify` leaves out
what does nothing, and `methods` writes what is left, with `spellings` for the operators, `hints`
for the original's names, `loops`, `wrapping` and `code` for the text. `source` is the file, and
`port` what the user calls. `parity` keeps what the original returned (`as_json`), and proves the
port by it.
"""
