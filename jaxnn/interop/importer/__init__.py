"""From a PyTorch model to a tree of Flax NNX modules.

`capture` exports the model, `lower` makes one program of each module's call, `leaves` makes the
layers that jaxnn has, and `imported` runs the programs over the table of `operators`. Only
`capture`, `lower` and `leaves` touch torch, and only inside their functions.
"""
