"""The source port: a PyTorch model as a Python file that one would keep.

`tree` says what the model is made of, `classes` which classes it needs and what these differ in,
`forward` writes the programs of the import as methods, `spelling` their operators as JAX has them,
and `source` the file. `parity` keeps what the original returned, and proves the port by it; only
its recording, `tree` and `source` touch torch.
"""
