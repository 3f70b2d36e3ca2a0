"""Stores on a server, shared by the processes of several machines: Redis and PostgreSQL."""
