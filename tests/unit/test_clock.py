from __future__ import annotations

import time
from pathlib import Path

from poussetaches.core.moment import SECOND, Moment
from poussetaches.engine.clock import SystemClock

TOGETHER = SECOND // 10  # microseconds; readings a moment apart differ by less


class StoppedBetween(SystemClock):
    """A clock whose process is stopped for an hour between the two clocks of its first reading."""

    def __init__(self) -> None:
        self.elapsed = 100.0
        self.looks = 0

    def now(self) -> Moment:
        """Return the wall clock's time, and let an hour pass at the first look."""
        now = Moment(round(self.elapsed * SECOND))
        self.looks += 1
        if self.looks == 1:
            self.elapsed += 3600
        return now

    def monotonic(self) -> float:
        """Return the time that passed."""
        return self.elapsed


def test_start_of_the_machine_stays_where_it_is() -> None:
    clock = SystemClock()

    starts = [clock.read().booted_at for _ in range(50)]

    assert max(starts) - min(starts) < TOGETHER


def test_reading_has_the_time_of_the_wall_clock() -> None:
    before = time.time_ns() // 1000

    now = SystemClock().read().now

    assert before <= now <= time.time_ns() // 1000


def test_clocks_of_one_reading_are_read_together() -> None:
    clock = StoppedBetween()

    first, second = clock.read(), clock.read()

    assert clock.looks == 3
    assert abs(first.booted_at - second.booted_at) < TOGETHER


def test_boot_is_that_of_the_kernel() -> None:
    known = Path("/proc/sys/kernel/random/boot_id")

    expected = known.read_text(encoding="ascii").strip() if known.exists() else ""

    assert SystemClock().boot_id == expected
