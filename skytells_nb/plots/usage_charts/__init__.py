"""Charts of tokens, cost, rate and latency."""
