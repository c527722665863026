"""Text from imported causal language models."""
