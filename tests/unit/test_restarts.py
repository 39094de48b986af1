"""Two restarts in a row are forgiven a task."""

from __future__ import annotations

from poussetaches.engine.restarts import MOST_TASKS, Restarts


def test_third_restart_in_a_row_is_not_forgiven() -> None:
    restarts = Restarts()

    assert [restarts.forgives("a") for _ in range(6)] == [True, True, False] * 2


def test_attempt_that_counts_begins_a_new_row() -> None:
    restarts = Restarts()
    restarts.forgives("a")
    restarts.forgives("a")

    restarts.attempted("a")

    assert restarts.forgives("a")


def test_restarts_of_one_task_are_not_counted_for_another() -> None:
    restarts = Restarts()

    assert all(restarts.forgives(name) for name in ("a", "b", "a", "b"))
    assert not restarts.forgives("a")


def test_tasks_forgiven_longest_ago_are_forgotten() -> None:
    restarts = Restarts()
    restarts.forgives("first")
    restarts.forgives("first")

    for number in range(MOST_TASKS):
        restarts.forgives(str(number))

    assert restarts.forgives("first")
