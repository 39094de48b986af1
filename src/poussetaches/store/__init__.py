"""Where tasks are kept."""

from __future__ import annotations

from collections.abc import Callable

from poussetaches.core.moment import Moment
from poussetaches.store.base import Store
from poussetaches.store.folder import DataFolder
from poussetaches.store.runner import ThreadRunner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.reserve import Reserve

__all__ = ["open_store"]


async def open_store(folder: DataFolder, *, now: Callable[[], Moment], window: float) -> Store:
    """Open the store in a folder that is locked; ``window`` is group commit's, in seconds.

    Raises:
        CannotOpenStore: it is damaged, from a newer version, or not writable.
    """
    store = SqliteStore(
        folder.database,
        writer=ThreadRunner("store-writer"),
        reader=ThreadRunner("store-reader"),
        now=now,
        window=window,
        reserve=Reserve(folder.reserve),
    )
    await store.open()
    return store
