"""``Pace``: whether the store's work may run on the event loop, by the times of earlier work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

TOLERATED = 0.01  # seconds that one piece of work may take on the event loop
LOSS = 0.01  # the part of all time by which work may exceed that
LOSS_IN_A_ROW = 0.05  # seconds by which it may exceed that at once
LONGEST_REST = 60.0  # seconds without work on the event loop, after the longest piece
QUICK_COMMIT = 0.001  # seconds; the event loop waits for the disk only if it is that quick
WATCHED_COMMITS = 8


class Pace:
    """The recent times of work and commits.

    Work that mostly computes takes less time on the event loop than in a thread, with which the
    loop would share one interpreter. But it may have to read from a slow disk, so the time that
    the loop loses by it is limited. A commit always waits for the disk.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._loss = 0.0  # seconds
        self._loss_at = monotonic()
        self._commits: deque[float] = deque(maxlen=WATCHED_COMMITS)  # seconds

    @property
    def allows_work(self) -> bool:
        """Whether work may run on the event loop."""
        return not self._loss or self._loss_now() < LOSS_IN_A_ROW

    @property
    def allows_commits(self) -> bool:
        """Whether a commit may run on the event loop."""
        commits = self._commits
        return len(commits) == WATCHED_COMMITS and max(commits) <= QUICK_COMMIT

    def note_work(self, seconds: float) -> None:
        """Record how long the event loop was occupied by work."""
        if seconds > TOLERATED:
            loss = self._loss_now() + seconds - TOLERATED
            self._loss = min(loss, LOSS_IN_A_ROW + LONGEST_REST * LOSS)

    def note_commit(self, seconds: float) -> None:
        """Record how long a commit took."""
        self._commits.append(seconds)

    def _loss_now(self) -> float:
        now = self._monotonic()
        self._loss = max(0.0, self._loss - (now - self._loss_at) * LOSS)
        self._loss_at = now
        return self._loss
