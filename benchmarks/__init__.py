"""Clients measured side by side against one mock server; ``README.md`` says how to run and read it."""
