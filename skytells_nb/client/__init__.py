"""The typed client: one method per endpoint; no retry, no cache, no settings."""
