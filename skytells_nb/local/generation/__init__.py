"""Text and structured output from a small language model on this machine."""
