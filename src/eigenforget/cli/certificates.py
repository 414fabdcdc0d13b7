"""Commands that write certificates."""
