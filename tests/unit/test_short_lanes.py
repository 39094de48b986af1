from __future__ import annotations

import pytest

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.store.sqlite import short_lanes
from poussetaches.store.sqlite.short_lanes import ShortLanes
from tests.factories import NOW, make_task

LANE = Lane("default", "http://app.test:5000")
OTHER = Lane("other", "http://app.test:5000")


def lanes_with(*lanes: Lane) -> ShortLanes:
    """Return short lanes, each empty."""
    short = ShortLanes()
    for lane in lanes:
        short.note_empty(lane)
    return short


def add(short: ShortLanes, seq: int, *, lane: Lane = LANE, **fields: object) -> None:
    """Add a task with a number, by which it is recognized."""
    short.add(lane, seq, make_task(str(seq), **fields))


def taken(short: ShortLanes, most: int = 100, *, now: Moment = NOW) -> list[int]:
    """Take due tasks; return their numbers."""
    return [waiting.seq for waiting in short.take(LANE, most, now)]


def test_lane_is_not_short_until_it_is_known_to_be_empty() -> None:
    short = ShortLanes()

    add(short, 1)
    before = LANE in short
    short.note_empty(LANE)

    assert (before, LANE in short) == (False, True)
    assert taken(short) == []


def test_tasks_are_taken_in_the_order_of_their_due_times_then_of_adding() -> None:
    short = lanes_with(LANE)
    for seq, run_at in enumerate([NOW, NOW - 5, NOW, NOW - 9, NOW - 5], start=1):
        add(short, seq, run_at=Moment(run_at))

    assert taken(short, 2) == [4, 2]
    assert taken(short) == [5, 1, 3]
    assert short.next_due(LANE) is None


def test_task_is_not_taken_before_it_is_due() -> None:
    short = lanes_with(LANE)
    add(short, 1, run_at=Moment(NOW + 1))

    assert taken(short) == []
    assert short.next_due(LANE) == NOW + 1
    assert taken(short, now=Moment(NOW + 1)) == [1]


def test_lane_with_tasks_of_two_priorities_is_dropped() -> None:
    short = lanes_with(LANE, OTHER)
    add(short, 1, priority=3)
    add(short, 2, priority=3)
    add(short, 3, lane=OTHER)

    add(short, 4, priority=2)

    assert (LANE in short, OTHER in short) == (False, True)


def test_lane_accepts_another_priority_once_it_is_empty() -> None:
    short = lanes_with(LANE)
    add(short, 1, priority=3)
    taken(short)

    add(short, 2, priority=4)

    assert taken(short) == [2]


def test_lane_that_gets_too_many_tasks_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lanes, "MAX_TASKS", 3)
    short = lanes_with(LANE, OTHER)
    add(short, 1, lane=OTHER)
    add(short, 2)
    add(short, 3)

    add(short, 4)
    add(short, 5, lane=OTHER)

    assert (LANE in short, OTHER in short) == (False, True)


def test_lane_whose_bodies_become_too_large_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lanes, "MAX_SIZE", 10)
    short = lanes_with(LANE)
    add(short, 1, body=b"x" * 6)
    taken(short)
    add(short, 2, body=b"x" * 10)
    fits = LANE in short

    add(short, 3, body=b"x")

    assert (fits, LANE in short) == (True, False)


def test_dropped_lane_leaves_its_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lanes, "MAX_TASKS", 2)
    short = lanes_with(LANE, OTHER)
    add(short, 1, lane=OTHER)
    add(short, 2, lane=OTHER)

    short.drop(OTHER)
    add(short, 3)
    add(short, 4)

    assert taken(short) == [3, 4]


def test_number_of_lanes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lanes, "MAX_LANES", 2)
    lanes = [Lane(f"queue-{n}", "http://app.test:5000") for n in range(3)]

    short = lanes_with(*lanes)

    assert [lane in short for lane in lanes] == [False, False, True]


def test_no_lane_is_short_while_suspended() -> None:
    short = lanes_with(LANE)

    short.suspend()
    short.note_empty(OTHER)
    suspended = LANE in short, OTHER in short
    short.resume()
    resumed = LANE in short
    short.note_empty(LANE)

    assert suspended == (False, False)
    assert (resumed, LANE in short) == (False, True)
