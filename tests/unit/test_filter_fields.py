"""Filters as JSON and queries say them."""

from __future__ import annotations

import json

import msgspec
import pytest

from poussetaches.api.filter_fields import FilterFields
from poussetaches.core.errors import InvalidFilter
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.task import Reason, TaskState

DAY = Moment(1_790_035_200_000_000)


def filter_of(**conditions: object) -> TaskFilter:
    return msgspec.json.decode(json.dumps(conditions), type=FilterFields).filter()


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, TaskFilter()),
        ({"ids": "a,b, a"}, TaskFilter(ids=("a", "b"))),
        ({"ids": ["a", "b"]}, TaskFilter(ids=("a", "b"))),
        # No id is not every id: a program that found none must not change all.
        ({"ids": []}, TaskFilter(ids=())),
        ({"ids": ""}, TaskFilter(ids=())),
        pytest.param(
            {"state": "waiting,dead"},
            TaskFilter(states=frozenset({TaskState.WAITING, TaskState.DEAD})),
            id="two states",
        ),
        ({"state": ["running"]}, TaskFilter(states=frozenset({TaskState.RUNNING}))),
        ({"failing": True}, TaskFilter(failing=True)),
        ({"failing": False}, TaskFilter()),
        ({"queue": "mail"}, TaskFilter(queue="mail")),
        ({"label": "a:b:c"}, TaskFilter(labels=(("a", "b:c"),))),
        ({"label": ["a:b", "c:"]}, TaskFilter(labels=(("a", "b"), ("c", "")))),
        ({"url": "http://a"}, TaskFilter(url="http://a")),
        ({"key": "a,b"}, TaskFilter(key="a,b")),
        ({"schedule": "daily"}, TaskFilter(schedule="daily")),
        ({"reason": "too_old"}, TaskFilter(reason=Reason.TOO_OLD)),
        ({"group": "0a1b"}, TaskFilter(group="0a1b")),
        ({"text": "time out"}, TaskFilter(text="time out")),
        ({"since": "2026-09-22T00:00:00Z"}, TaskFilter(since=DAY)),
        ({"until": "2026-09-22T02:00:00+02:00"}, TaskFilter(until=DAY)),
        ({"ended_since": "2026-09-22T00:00:00Z"}, TaskFilter(ended_since=DAY)),
        ({"ended_until": "2026-09-22T00:00:00Z"}, TaskFilter(ended_until=DAY)),
        ({"queue": None, "ids": None}, TaskFilter()),
    ],
    ids=str,
)
def test_condition_becomes_that_of_the_filter(
    conditions: dict[str, object], expected: TaskFilter
) -> None:
    assert filter_of(**conditions) == expected


@pytest.mark.parametrize(
    ("conditions", "field"),
    [
        ({"state": "failing"}, "state"),
        ({"state": ","}, "state"),
        ({"label": "a"}, "label"),
        ({"label": ":a"}, "label"),
        ({"label": ["a:b"] * 17}, "label"),
        ({"ids": [str(n) for n in range(10_001)]}, "ids"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_condition_that_no_task_can_meet_is_refused(
    conditions: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidFilter) as caught:
        filter_of(**conditions)

    assert caught.value.field == field


@pytest.mark.parametrize(
    "conditions",
    [
        {"colour": "red"},
        {"since": "2026-09-22T00:00:00"},
        {"since": "yesterday"},
        {"reason": "tired"},
        {"queue": "a b"},
        {"text": ""},
        {"failing": "yes"},
    ],
    ids=str,
)
def test_condition_that_cannot_be_read_is_refused(conditions: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        filter_of(**conditions)
