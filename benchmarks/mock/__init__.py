"""A server with the OpenAI routes that answers at once, and counts what it was asked."""
