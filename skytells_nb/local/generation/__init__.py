"""Text and structured output of a small language model on this machine."""
