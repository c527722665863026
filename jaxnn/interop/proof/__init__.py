"""The proof that a model in JAX is the model that it was in PyTorch: one comparison for all."""
