"""The HTTP API of the local Skytells: middleware, endpoints, limits and counters."""
