"""From a PyTorch model to a tree of Flax NNX modules.

Before a capture, `probing` runs the model to find what it depends on beside its arguments. Then
`capture` exports it, with the contexts of `marks`, `gradients`, `guards`, `decisions`, `quirks` and
`restoring`; `lowering` makes one program of each module's call; and `capturing` does so in both
modes. `tree` is what the model is made of, with `naming` for what is shared, `layers` for what
jaxnn has too and `training_modes` for what `train` does to the parts. `making` turns it into
modules, and `importation` is the whole way.

Without torch: a `program` is data, an `imported` module runs it over the table of `operators`, with
`binding` for arguments, `record` for results, `custom_vjp` for functions with a gradient of their
own and `tying` for what has several names. `observers` see the values.
"""
