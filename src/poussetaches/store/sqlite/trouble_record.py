"""The error that keeps a store from writing, and the reserve of disk space released for it."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from poussetaches.core.errors import StoreFull, StoreUnavailable
from poussetaches.store.base import StoreTrouble
from poussetaches.store.sqlite.damage_check import is_damage
from poussetaches.store.sqlite.database import translated
from poussetaches.store.sqlite.reserve import Reserve

# Errors of claiming the reserve on a full disk; a missing folder counts as full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)

log = logging.getLogger(__name__)


class TroubleRecord:
    """Records the worst error since the last successful recovery."""

    def __init__(self, path: Path | None, reserve: Reserve | None) -> None:
        self.current: StoreTrouble | None = None
        self.is_announced = False  # to the listeners
        self._path = path
        self._reserve = reserve

    def refuse_when_full(self) -> None:
        """Raise an error if the disk is full.

        Raises:
            StoreFull: it is.
        """
        if self.current is not None and self.current.full:
            raise StoreFull(self.current.reason)

    def unavailable(self) -> StoreUnavailable:
        """Return the error for an operation that needs a working store."""
        return (
            StoreUnavailable() if self.current is None else StoreUnavailable(self.current.reason)
        )

    def error_of(self, exc: Exception) -> StoreUnavailable | None:
        """Record and translate an error of the store; return None for any other error."""
        if isinstance(exc, StoreUnavailable):
            return exc
        if isinstance(exc, MemoryError):  # the next write may find memory
            return StoreUnavailable("the server is out of memory at the moment")
        found = translated(exc, self._path) if isinstance(exc, sqlite3.Error) else None
        if isinstance(found, StoreFull):
            return self.note_full()
        if found is not None:
            trouble = StoreTrouble(str(found), full=False, damaged=is_damage(exc))
            self._note(trouble, str(found) if trouble.damaged else str(exc))
        return found

    def run_check(self, check: Callable[[], None]) -> None:
        """Run a check; record the error that it raises."""
        try:
            check()
        except StoreUnavailable as exc:
            self._note(StoreTrouble(str(exc), full=False), str(exc))
            raise

    def note_full(self) -> StoreFull:
        """Record that the disk is full, release the reserve, and return the error."""
        if self._reserve is None:
            found = StoreFull()
        else:
            # The outcomes of attempts, deletes and pruning need this room; pushes wait.
            if self.current is None:
                with suppress(OSError):
                    self._reserve.release()
            found = StoreFull(self._reserve.describe_shortage())
        if self.current is not None and self.current.full:
            self.current = StoreTrouble(str(found), full=True)  # the free space has changed
        self._note(StoreTrouble(str(found), full=True), str(found))
        return found

    def release_reserve_if_needed(self) -> None:
        """Make room for opening: for SQLite's files, a migration, and recovery from a crash."""
        if self._reserve is None:
            return
        with suppress(OSError):
            if self._reserve.is_needed:
                self._reserve.release()

    def claim_reserve(self) -> None:
        """Claim the reserve.

        Raises:
            StoreFull: there is not enough room.
        """
        if self._reserve is None:
            return
        try:
            self._reserve.claim()
        except OSError as exc:
            if exc.errno in NO_ROOM:
                raise StoreFull from exc
            # The reserve is only needed on a full disk, and the store works without it.
            log.warning("reserve cannot be claimed", extra={"error": str(exc)})

    def _note(self, trouble: StoreTrouble, error: str) -> None:
        """Record this trouble unless the same or a worse one is already recorded."""
        if self.current is None or (self.current.full and not trouble.full):
            self.current, self.is_announced = trouble, False
            log.error("store cannot be written", extra={"error": error})
