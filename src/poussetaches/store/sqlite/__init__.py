"""A store in one SQLite file, or in memory."""

from poussetaches.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
