"""Progress reports of a running handler: sent at most once a second, the last one at its end."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable

from poussetaches.client.errors import ClientError, Conflict
from poussetaches.client.results import ProgressReport

INTERVAL = 1.0  # seconds between two reports of an attempt
LONGEST_NOTE = 200  # characters; the server refuses more

log = logging.getLogger(__name__)


Send = Callable[[ProgressReport], None]


class ProgressReporter:
    """Sends the reports of one attempt; drops them if ``send`` is None.

    Within an event loop reports are sent by a thread, so that the loop is never blocked. One that
    cannot be sent is logged: it is no reason for the task to fail.
    """

    def __init__(self, send: Send | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()  # of the fields below
        self._sending = threading.Lock()  # so that reports arrive in order
        self._latest: ProgressReport | None = None
        self._next_at = -math.inf

    @property
    def is_pending(self) -> bool:
        """Whether a report is kept or being sent, so that ``finish`` may have to wait."""
        return self._latest is not None or self._sending.locked()

    def report(self, report: ProgressReport) -> None:
        """Send a report, or keep it until a later one or the end."""
        if self._send is None:
            return
        with self._lock:
            self._latest, now = report, self._clock()
            if now < self._next_at:
                return
            self._next_at = now + INTERVAL
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.finish()
        else:
            loop.run_in_executor(None, self.finish)

    def finish(self) -> None:
        """Send the latest report if it was not sent yet."""
        with self._sending:
            with self._lock:
                report, self._latest = self._latest, None
            if report is None or self._send is None:
                return
            try:
                self._send(report)
            except Conflict:
                self._send = None
                log.warning("progress is no longer reported: the server has ended this attempt")
            except ClientError as exc:
                log.warning("progress was not reported: %s", exc)
