"""The HTTP exchange: addresses, the API key, timeouts, statuses to errors, server-sent events."""
