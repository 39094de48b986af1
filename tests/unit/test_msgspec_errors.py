"""msgspec's errors are reworded with the allowed values."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.api.filter_fields import FilterFields
from poussetaches.api.schedule_fields import ScheduleFields
from poussetaches.api.schedule_set import ScheduleSet
from poussetaches.core.msgspec_errors import field_and_reason
from poussetaches.core.queue import NAME_IN_WORDS
from poussetaches.core.queue_fields import QueueFields
from poussetaches.core.task_fields import TaskFields

URL = "http://app.test/"
STATUSES = 'a whole number from 100 to 599, or a class of statuses like "2xx"'


@pytest.mark.parametrize(
    ("kind", "value", "field", "reason"),
    [
        (
            TaskFields,
            {"url": URL, "method": "GOT"},
            "method",
            "must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        ),
        (
            TaskFields,
            {"url": URL, "on_conflict": "drop"},
            "on_conflict",
            "must be one of keep, replace",
        ),
        (TaskFields, {"url": URL, "queue": "a b"}, "queue", f"must be {NAME_IN_WORDS}"),
        (TaskFields, {"url": URL, "expected": ["ok"]}, "expected[0]", f"must be {STATUSES}"),
        (
            TaskFields,
            {"url": URL, "retry": {"dead_on": [200, "ok"]}},
            "retry.dead_on[1]",
            f"must be {STATUSES}",
        ),
        (
            TaskFields,
            {"url": URL, "labels": {"a:b": "c"}},
            "labels",
            "a name in it: must be text without a colon or a zero character",
        ),
        (
            TaskFields,
            {"url": URL, "labels": {"a": "\0"}},
            "labels[...]",
            "must be text without a zero character",
        ),
        (
            FilterFields,
            {"reason": "tired"},
            "reason",
            "must be one of cancelled, exhausted, expired, internal_error, refused, superseded, "
            "too_old",
        ),
        (
            FilterFields,
            {"group": "none"},
            "group",
            "must be a group of GET /v1/failures, in hex digits",
        ),
        (
            QueueFields,
            {"rate": "2/week"},
            "rate",
            "must be a number from 0.000001 to 1,000,000, or a text like"
            ' "2/s", "30/min" or "100/h"',
        ),
        (
            ScheduleFields,
            {"cron": "@daily", "task": {"url": URL}, "misfire": "twice"},
            "misfire",
            "must be one of all, once, skip",
        ),
        (
            ScheduleSet,
            {
                "owner": "me",
                "schedules": [{"name": "a", "cron": "@daily", "task": {"method": ""}}],
            },
            "schedules[0].task.method",
            "must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        ),
        (
            QueueFields,
            {"retry": {"dead_on": ["4xx", "five"]}},
            "retry.dead_on[1]",
            f"must be {STATUSES}",
        ),
        (TaskFields, {"url": URL, "timeout": 0}, "timeout", "Expected `float` >= 0.1"),
        (TaskFields, {}, "url", "is missing"),
        (TaskFields, {"url": URL, "tries": 1}, "tries", "is not known here"),
        (TaskFields, {"url": URL, "retry": {"tries": 1}}, "retry.tries", "is not known here"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_reason_tells_what_is_allowed(
    kind: type[msgspec.Struct], value: object, field: str, reason: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, kind)

    assert field_and_reason(str(refused.value), kind) == (field, reason)


def test_value_as_a_whole_has_no_field() -> None:
    assert field_and_reason("Expected `object`, got `array`", TaskFields) == (
        "",
        "Expected `object`, got `array`",
    )
