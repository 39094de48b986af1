"""A scan of all tasks of a database that skips damaged pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from poussetaches.store.sqlite.row_reader import Reading

SLICE = 500  # tasks per read
LAST = 2**62

_NEXT = "SELECT seq FROM tasks WHERE seq > :after ORDER BY seq LIMIT :limit"


class Salvage:
    """Finds the numbers of all readable tasks, and counts the damaged parts (``gaps``)."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.gaps = 0

    def numbers(self) -> Iterator[list[int]]:
        """Yield the numbers of all tasks, slice by slice."""
        after = 0
        while after < LAST:
            try:
                found = self._next(after, SLICE)
            except sqlite3.DatabaseError:
                # Single rows up to the damage, then a jump across it.
                found, after = self._across(after)
                if found:
                    yield found
                continue
            if not found:
                return
            yield found
            after = found[-1]

    def _across(self, after: int) -> tuple[list[int], int]:
        """Return the tasks before the next damage, and the number to continue after."""
        found: list[int] = []
        while len(found) < SLICE:
            try:
                one = self._next(after, 1)
            except sqlite3.DatabaseError:
                self.gaps += 1
                return found, self._behind(after)
            if not one:
                return found, LAST
            found += one
            after = one[0]
        return found, after

    def _behind(self, damaged: int) -> int:
        """Return the smallest number after which rows are readable again."""
        step = 1
        while not self._is_readable(damaged + step):
            step *= 2
            if damaged + step > LAST:
                return LAST
        low, high = damaged + step // 2, damaged + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_readable(middle):
                high = middle
            else:
                low = middle
        return high

    def _is_readable(self, after: int) -> bool:
        try:
            # No row means the end of the table, which does not lead across the damage.
            return bool(self._next(after, 1))
        except sqlite3.DatabaseError:
            return False

    def _next(self, after: int, limit: int) -> list[int]:
        rows = self._reading.run(_NEXT, {"after": after, "limit": limit})
        found = []
        for (seq,) in rows:
            if seq <= after:
                # A damaged page can point back to rows that were read already.
                raise sqlite3.DatabaseError("rows are out of order")
            found.append(seq)
            after = seq
        return found
