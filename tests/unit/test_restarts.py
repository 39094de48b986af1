"""Two restarts of its application are forgiven to each attempt of a task."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.engine.restarts import MOST_ATTEMPTS, Restarts
from tests.factories import make_task


def test_third_restart_is_not_forgiven() -> None:
    restarts, task = Restarts(), make_task()

    assert [restarts.forgives(task) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("other", [{"attempt_count": 1}, {"round": 2}, {"id": "b"}], ids=str)
def test_restarts_of_one_attempt_are_not_counted_for_another(other: dict[str, object]) -> None:
    restarts, first = Restarts(), make_task("a")
    second = msgspec.structs.replace(first, **other)

    assert all(restarts.forgives(task) for task in (first, second, first, second))
    assert not restarts.forgives(first)


def test_attempts_forgiven_longest_ago_are_forgotten() -> None:
    restarts, first = Restarts(), make_task("first")
    restarts.forgives(first)
    restarts.forgives(first)

    for number in range(MOST_ATTEMPTS):
        restarts.forgives(make_task(str(number)))

    assert restarts.forgives(first)
