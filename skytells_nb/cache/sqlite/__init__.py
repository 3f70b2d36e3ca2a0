"""The default store: one SQLite file, shared by the processes of one machine."""

from skytells_nb.cache.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
