"""The HTTP API of the local server: middleware, endpoints, rate limits and counters."""
