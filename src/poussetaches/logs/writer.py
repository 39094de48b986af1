"""``LineWriter``: writes log lines in a thread, so that a slow reader never blocks the server."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

MAX_QUEUED = 4 * 1024 * 1024  # bytes; about 20,000 lines
MAX_WRITE = 64 * 1024  # bytes written at once
FLUSH_LIMIT = 2.0  # seconds to write the last lines when the process ends


class LineWriter:
    """Writes lines to a descriptor in a thread; drops lines if too many are queued.

    Writing to a pipe, a socket or a terminal blocks as long as it is not read. The thread is a
    daemon and holds no lock while it writes, so the process can end.
    """

    def __init__(
        self, descriptor: int, *, report: Callable[[int], bytes], most: int = MAX_QUEUED
    ) -> None:
        """``report`` returns the line that reports how many lines were dropped."""
        self.dropped_count = 0
        self._descriptor = descriptor
        self._report = report
        self._most = most
        self._lines: list[bytes] = []
        self._size = 0  # bytes waiting or being written
        self._unreported_count = 0
        self._is_broken = False  # the last write failed; the next line triggers another
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line, or drop it if too many bytes are waiting."""
        with self._changed:
            if self._is_closed or self._size + len(line) > self._most:
                self._drop(1)
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify_all()

    def flush(self, limit: float = FLUSH_LIMIT) -> bool:
        """Wait until everything is written, or for ``limit`` seconds; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._size == 0, limit)

    def close(self) -> None:
        """Accept no more lines; lines that were not flushed may be lost."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self.flush(0):
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                lines, self._lines = self._lines, []
                dropped_count, self._unreported_count = self._unreported_count, 0
                if self._is_closed and not lines:
                    return
            # Lines are dropped while these wait, so the report comes after them.
            is_written = self._write_all(b"".join(lines))
            is_reported = not dropped_count or self._write_all(self._report(dropped_count))
            with self._changed:
                self._is_broken = not (is_written and is_reported)
                self._size -= sum(map(len, lines))
                self._unreported_count += 0 if is_reported else dropped_count
                if not is_written:
                    self._drop(len(lines))
                self._changed.notify_all()

    def _has_work(self) -> bool:
        if self._lines or self._is_closed:
            return True
        return self._unreported_count > 0 and not self._is_broken

    def _write_all(self, data: bytes) -> bool:
        """Write data; return whether it was written."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view[:MAX_WRITE]) :]
            except BlockingIOError:  # another process set the shared file non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True

    def _drop(self, count: int) -> None:
        self.dropped_count += count
        self._unreported_count += count
