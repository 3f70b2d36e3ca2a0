"""Requests, responses and safety results, as pydantic models shared by client and local server."""
