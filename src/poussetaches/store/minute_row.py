"""The statistics of one minute."""

from __future__ import annotations

import msgspec

from poussetaches.core.moment import Moment


class MinuteRow(msgspec.Struct, frozen=True):
    """The statistics of one minute, of one queue or of all queues (``""``); times in seconds.

    The fields are the columns of the table ``minutes``.
    """

    minute: Moment  # its beginning
    queue: str = ""
    pushed: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0  # attempts that failed, the last ones included
    died: int = 0
    lateness_p50: float | None = None  # from due to started
    lateness_p95: float | None = None
    duration_p50: float | None = None  # of attempts
    duration_p95: float | None = None
