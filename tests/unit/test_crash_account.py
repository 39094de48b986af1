from __future__ import annotations

from poussetaches.cli.crash_test.account import Account, account_of
from poussetaches.cli.crash_test.load import BACKOFF, PushRecord
from poussetaches.cli.crash_test.task_receiver import Delivery


def account(
    pushed: dict[str, PushRecord], deliveries: list[Delivery], *, problems: list[str] | None = None
) -> Account:
    return account_of(pushed, deliveries, kills=1, in_flight=1, problems=problems or [])


def test_task_delivered_once_is_fine() -> None:
    found = account({"a": PushRecord(10.0, True)}, [Delivery("a", 1, 10.0)])

    assert found.is_fine
    assert (found.acknowledged, found.once, found.repeats) == (1, 1, 0)


def test_acknowledged_task_that_never_came_is_lost() -> None:
    found = account({"a": PushRecord(10.0, True), "b": PushRecord(10.0, False)}, [])

    assert found.lost == ["a"]
    assert found.unacknowledged == 1
    assert not found.is_fine


def test_failing_task_without_its_second_attempt_is_lost() -> None:
    found = account({"a5": PushRecord(10.0, True)}, [Delivery("a5", 1, 10.0)])

    assert found.lost == ["a5"]


def test_task_that_came_before_its_delay_was_over_is_early() -> None:
    found = account({"a": PushRecord(10.0, True)}, [Delivery("a", 1, 9.9)])

    assert found.early == ["a"]
    assert not found.is_fine


def test_second_attempt_is_early_when_it_comes_before_the_wait_after_the_last_first_one() -> None:
    pushed = {"a5": PushRecord(10.0, True)}
    first = [Delivery("a5", 1, 10.0), Delivery("a5", 1, 11.0)]

    early = account(pushed, [*first, Delivery("a5", 2, 10.9 + BACKOFF)])
    in_time = account(pushed, [*first, Delivery("a5", 2, 11.0 + BACKOFF)])

    assert early.early == ["a5"]
    assert in_time.is_fine
    assert in_time.repeats == 1


def test_more_repeats_than_attempts_were_in_flight_are_not_fine() -> None:
    found = account({"a": PushRecord(10.0, True)}, [Delivery("a", 1, 10.0)] * 3)

    assert (found.repeats, found.bound) == (2, 1)
    assert not found.is_fine


def test_delivered_task_whose_push_had_no_answer_is_no_loss() -> None:
    found = account({"a": PushRecord(10.0, False)}, [Delivery("a", 1, 10.0)])

    assert found.is_fine
    assert found.unacknowledged_delivered == 1


def test_damage_in_the_folder_is_not_fine() -> None:
    assert not account({}, [], problems=["SQLite finds damage"]).is_fine
