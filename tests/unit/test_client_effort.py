from __future__ import annotations

import pytest

from poussetaches.client.effort import Effort
from poussetaches.client.errors import Busy, InvalidRequest, NoAnswer


class Watch:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_grow_until_the_time_is_over() -> None:
    watch = Watch()
    effort = Effort(2.0, monotonic=watch)
    pauses = []
    with pytest.raises(NoAnswer):
        while True:
            pauses.append(effort.pause_after(NoAnswer()))
            watch.now += pauses[-1]

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_tries_leave_time_for_another_until_little_is_left() -> None:
    watch = Watch()
    effort = Effort(2.0, monotonic=watch)

    assert effort.timeout == 1.0
    watch.now += 1.1
    assert effort.timeout == pytest.approx(0.9)
    watch.now += 5
    assert effort.timeout == 0.0


def test_refusal_is_not_tried_again() -> None:
    effort = Effort(2.0, monotonic=Watch())

    with pytest.raises(InvalidRequest):
        effort.pause_after(InvalidRequest(422))
    assert effort.pause_after(Busy(503)) > 0
