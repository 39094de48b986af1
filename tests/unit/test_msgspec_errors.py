"""msgspec's errors are reworded with the allowed values."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.api.bulk_routes import BulkFields
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
            "must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT (got 'GOT')",
        ),
        (
            TaskFields,
            {"url": URL, "on_conflict": "drop"},
            "on_conflict",
            "must be one of keep, replace (got 'drop')",
        ),
        (
            TaskFields,
            {"url": URL, "queue": "a b"},
            "queue",
            f"must be {NAME_IN_WORDS} (got 'a b')",
        ),
        (
            TaskFields,
            {"url": URL, "expected": ["ok"]},
            "expected[0]",
            f"must be {STATUSES} (got 'ok')",
        ),
        (
            TaskFields,
            {"url": URL, "retry": {"dead_on": [200, "ok"]}},
            "retry.dead_on[1]",
            f"must be {STATUSES} (got 'ok')",
        ),
        (
            TaskFields,
            {"url": URL, "labels": {"a:b": "c"}},
            "labels",
            "the name 'a:b' must be text without a colon or a zero character",
        ),
        (
            TaskFields,
            {"url": URL, "labels": {"a": "c", "b": "\0"}},
            "labels['b']",
            "must be text without a zero character (got '\\x00')",
        ),
        (
            FilterFields,
            {"reason": "tired"},
            "reason",
            "must be one of cancelled, exhausted, expired, internal_error, refused, superseded, "
            "too_old (got 'tired')",
        ),
        (
            FilterFields,
            {"group": "none"},
            "group",
            "must be a group of GET /v1/failures, in hex digits (got 'none')",
        ),
        (
            QueueFields,
            {"rate": "2/week"},
            "rate",
            "must be a number from 0.000001 to 1,000,000, or a text like"
            ' "2/s", "30/min" or "100/h" (got \'2/week\')',
        ),
        (
            ScheduleFields,
            {"cron": "@daily", "task": {"url": URL}, "misfire": "twice"},
            "misfire",
            "must be one of all, once, skip (got 'twice')",
        ),
        (
            ScheduleSet,
            {
                "owner": "me",
                "schedules": [{"name": "a", "cron": "@daily", "task": {"method": ""}}],
            },
            "schedules[0].task.method",
            "must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT (got '')",
        ),
        (
            QueueFields,
            {"retry": {"dead_on": ["4xx", "five"]}},
            "retry.dead_on[1]",
            f"must be {STATUSES} (got 'five')",
        ),
        (
            TaskFields,
            {"url": URL, "timeout": 0},
            "timeout",
            "must be a number from 0.1 to 86,400 (got 0)",
        ),
        (TaskFields, {}, "url", "is missing"),
        (QueueFields, {"concurrence": 1}, "concurrence", "is unknown; did you mean concurrency?"),
        (
            TaskFields,
            {"url": URL, "retry": {"max_attemps": 1}},
            "retry.max_attemps",
            "is unknown; did you mean max_attempts?",
        ),
        (
            QueueFields,
            {"max_attempts": 1},
            "max_attempts",
            "is unknown here; it belongs in retry",
        ),
        (BulkFields, {"state": "dead"}, "state", "is unknown here; it belongs in filter"),
        (
            QueueFields,
            {"retry": {"rate": 1}},
            "retry.rate",
            "is unknown here; it belongs outside of retry",
        ),
        (
            BulkFields,
            {"payload": 1},
            "payload",
            "is unknown; remove it, or use one of filter, all, dry_run",
        ),
        (TaskFields, {"url": None}, "url", "is missing"),
        (
            TaskFields,
            {"url": URL, "delay": "5"},
            "delay",
            "must be a number from 0 to 315,360,000 (got '5')",
        ),
        (
            TaskFields,
            {"url": URL, "run_at": "tomorrow"},
            "run_at",
            "must be a date and time with a time zone (got 'tomorrow')",
        ),
        (
            TaskFields,
            {"url": URL, "expected": "2xx"},
            "expected",
            "must be a list of at most 32 (got '2xx')",
        ),
        (
            TaskFields,
            {"url": URL, "key": "k" * 201},
            "key",
            "must have at most 200 characters (got 201)",
        ),
        (
            TaskFields,
            {"url": URL, "expected": []},
            "expected",
            "must have at least 1 value (got 0)",
        ),
        (BulkFields, {"all": 1}, "all", "must be true or false (got 1)"),
        (
            TaskFields,
            {"url": URL, "headers": {"Authorization": 7}},
            "headers['Authorization']",
            "must be a string (got a number)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_reason_tells_what_is_allowed(
    kind: type[msgspec.Struct], value: object, field: str, reason: str
) -> None:
    text = msgspec.json.encode(value)
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(text, type=kind)

    assert field_and_reason(str(refused.value), kind, text) == (field, reason)


def test_value_as_a_whole_has_no_field() -> None:
    assert field_and_reason("Expected `object`, got `array`", TaskFields, b"[]") == (
        "",
        "a JSON object is required (got a list)",
    )


def test_value_is_not_quoted_if_the_rest_is_not_json() -> None:
    assert field_and_reason("Expected `int` - at `$.priority`", TaskFields, b'{"priority":') == (
        "priority",
        "must be a whole number from -100 to 100",
    )
