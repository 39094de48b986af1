from __future__ import annotations

import pytest

from poussetaches.client.errors import Busy, InvalidRequest, NoAnswer
from poussetaches.client.retry_timer import RetryTimer


class Watch:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_until_the_time_is_over() -> None:
    watch = Watch()
    timer = RetryTimer(2.0, monotonic=watch)
    pauses = []
    with pytest.raises(NoAnswer):
        while True:
            pauses.append(timer.pause_after(NoAnswer()))
            watch.now += pauses[-1]

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_tries_leave_time_for_another_until_little_is_left() -> None:
    watch = Watch()
    timer = RetryTimer(2.0, monotonic=watch)

    assert timer.timeout == 1.0
    watch.now += 1.1
    assert timer.timeout == pytest.approx(0.9)
    watch.now += 5
    assert timer.timeout == 0.0


def test_refusal_is_not_tried_again() -> None:
    timer = RetryTimer(2.0, monotonic=Watch())

    with pytest.raises(InvalidRequest):
        timer.pause_after(InvalidRequest(422))
    assert timer.pause_after(Busy(503)) > 0
