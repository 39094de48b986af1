"""Sends the progress of a running handler, at most once per second and at its end."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from poussetaches.client.errors import Conflict
from poussetaches.client.results import ProgressReport

INTERVAL = 1.0  # seconds between two reports of an attempt
FIRST_PAUSE = 30.0  # seconds without reports after a failed one; doubles each time

log = logging.getLogger(__name__)

Send = Callable[[ProgressReport], None]


class ProgressReporter:
    """Sends the reports of one attempt; drops them if ``send`` is None.

    A report that cannot be sent is logged, and the next one is delayed: an unreachable or slow
    server neither fails a task nor delays it repeatedly. In an event loop, reports are sent from
    separate threads, so that they do not block it.
    """

    def __init__(self, send: Send | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()  # of the fields below
        self._sending = threading.Lock()  # so that reports arrive in order
        self._latest: ProgressReport | None = None
        self._next_at = -math.inf
        self._failures = 0  # in succession

    def report(self, report: ProgressReport) -> None:
        """Send a report, or keep it until a later one or the end."""
        with self._lock:
            self._latest = report
            if self._send is None or self._clock() < self._next_at:
                return
            self._next_at = math.inf  # while this one is being sent
        if _is_in_event_loop():
            threading.Thread(target=self._send_latest, daemon=True).start()
        else:
            self._send_latest()

    def finish(self) -> None:
        """Send the latest report if it is unsent, unless the previous one failed."""
        if self._is_pending():
            self._send_latest(is_last=True)

    async def afinish(self) -> None:
        """Asynchronous version of ``finish``."""
        if self._is_pending():
            await _in_own_thread(self.finish)

    def _is_pending(self) -> bool:
        return self._sending.locked() or (self._latest is not None and not self._failures)

    def _send_latest(self, *, is_last: bool = False) -> None:
        with self._sending:
            with self._lock:
                report, self._latest = self._latest, None
            if report is None or self._send is None or (is_last and self._failures):
                return
            pause = INTERVAL
            try:
                self._send(report)
                self._failures = 0
            except Conflict:
                self._send = None
                log.warning("progress is no longer reported: the server ended this attempt")
            except Exception as exc:  # no error of a report may fail the handler
                pause = FIRST_PAUSE * 2**self._failures
                self._failures += 1
                log.warning("progress was not reported; next report in %g s: %s", pause, exc)
            with self._lock:
                self._next_at = self._clock() + pause


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _in_own_thread(work: Callable[[], None]) -> None:
    """Run a function in a separate thread: those of the loop may all be busy."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True).start()
    await done.wait()
