"""Large bodies of unauthenticated clients, and a limit on the memory that they may take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase

LENGTH = 63 * 1024 * 1024  # bytes that each stranger announces
MOST_MEMORY = 4 * 1024 * 1024  # bytes, for all of them


class Endless(RawIOBase):
    """A body that is generated while it is read."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return this many bytes, or all that were announced."""
        found = bytes(min(size, LENGTH - self.count) if size >= 0 else LENGTH - self.count)
        self.count += len(found)
        return found


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail if the code of the block takes much memory."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
