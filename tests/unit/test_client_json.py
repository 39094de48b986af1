"""JSON that clients send and read: nothing in it is changed in silence."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from markupsafe import Markup

from poussetaches.client import requests
from poussetaches.client.arguments import ArgumentError
from poussetaches.client.results import NewTask
from poussetaches.client.wire import Answer, Request
from tests.application import make_info


@dataclass
class Order:
    total: object


class Ratio(enum.Enum):
    NONE = math.nan


class OwnInt(int): ...


class OwnDatetime(datetime): ...


REFUSED: list[tuple[object, str, str]] = [
    (math.nan, "json", "JSON has no nan"),
    (math.inf, "json", "JSON has no inf"),
    ({"rows": [1.0, -math.inf]}, "json.rows[1]", "JSON has no -inf"),
    ({"total": Decimal("1.10")}, "json.total", "JSON has no Decimal('1.10')"),
    ({"by_id": {1: "x"}}, "json.by_id", "the key 1 is not a string"),
    ((1, {None: 1}), "json[1]", "the key None is not a string"),
    ({"order": Order(Decimal(1))}, "json.order.total", "JSON has no Decimal"),
    (Order(math.nan), "json.total", "JSON has no nan"),
    (Ratio.NONE, "json", "JSON has no nan"),
    ([np.float32("inf")], "json[0]", "JSON has no inf"),
    ({"when": object()}, "", "values of object cannot be encoded as JSON"),
]


@pytest.mark.parametrize(("value", "path", "reason"), REFUSED)
def test_value_that_json_would_change_is_refused_by_its_path(
    value: object, path: str, reason: str
) -> None:
    with pytest.raises(ArgumentError) as refusal:
        requests.line_of(NewTask(url="/x", json=value))

    assert refusal.value.argument == path
    assert reason in refusal.value.reason


SENT: list[tuple[object, object]] = [
    ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
    ((1, 2), [1, 2]),
    (Order(1), {"total": 1}),
    (datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z"),
    (2**70, 2**70),
    ({"html": Markup("<b>")}, {"html": "<b>"}),
    ([OwnInt(1), np.int64(2), np.float32(0.5)], [1, 2, 0.5]),
    (Order(OwnDatetime(2030, 1, 1, tzinfo=UTC)), {"total": "2030-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize(("value", "sent"), SENT)
def test_value_that_has_json_is_sent(value: object, sent: object) -> None:
    line = requests.line_of(NewTask(url="/x", json=value))

    assert msgspec.json.decode(line)["json"] == sent


BAD: Any = {"json": math.nan}


@pytest.mark.parametrize(
    "build",
    [
        lambda: requests.edit("id", BAD),
        lambda: requests.change("id", "requeue", BAD),
        lambda: requests.change_many("requeue", {}, all=True, dry_run=False, set=BAD),
        lambda: requests.put_schedule("s", BAD),
        lambda: requests.edit_schedule("s", BAD),
        lambda: requests.put_schedules("app", None, [BAD]),
        lambda: requests.put_queue("q", BAD),
        lambda: requests.edit_queue("q", BAD),
    ],
)
def test_every_request_with_a_body_is_checked(build: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError, match="JSON has no nan"):
        build()


NAMED: list[Callable[[Any], object]] = [
    requests.task,
    lambda name: requests.change(name, "cancel"),
    requests.delete,
    requests.queue,
    requests.purge_queue,
    requests.schedule,
    lambda name: requests.runs(name, limit=1, cursor=None),
]


@pytest.mark.parametrize("build", NAMED)
@pytest.mark.parametrize("name", [3, None, "", b"id"], ids=str)
def test_id_or_name_that_is_not_a_string_is_refused(
    build: Callable[[Any], object], name: Any
) -> None:
    with pytest.raises(ArgumentError, match="is not an id or a name; give a string"):
        build(name)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (
            requests.push(NewTask("/x", json={"span": MINUTE}, delay=MINUTE), own_key=None),
            {"url": "/x", "json": {"span": "PT60S"}, "delay": 60.0},
        ),
        (
            requests.edit("id", {"timeout": MINUTE, "json": [MINUTE]}),
            {"timeout": 60.0, "json": ["PT60S"]},
        ),
        (
            requests.change_many(
                "run", {}, all=True, dry_run=False, set={"json": MINUTE}, spread=MINUTE
            ),
            {"filter": {}, "all": True, "dry_run": False, "set": {"json": "PT60S"}, "spread": 60},
        ),
        (
            requests.put_queue("q", {"timeout": MINUTE, "keep_dead": {"age": 2 * MINUTE}}),
            {"timeout": 60.0, "keep_dead": {"age": 120.0}},
        ),
        (
            requests.put_schedules(
                "app", None, [{"misfire_grace": MINUTE, "task": {"retry": {"max_age": MINUTE}}}]
            ),
            {
                "owner": "app",
                "version": None,
                "schedules": [{"misfire_grace": 60.0, "task": {"retry": {"max_age": 60.0}}}],
            },
        ),
    ],
    ids=["push", "patch", "bulk", "queue", "schedules"],
)
def test_timedelta_is_sent_as_seconds_except_in_a_body(
    request_: Request[object], sent: object
) -> None:
    assert msgspec.json.decode(request_.call.body) == sent


def test_number_that_no_float_holds_is_read_as_infinity() -> None:
    body = msgspec.json.encode(make_info()).replace(b'"json":{}', b'"json":[1E400,0.1]')

    read = requests.task("id").read(Answer(200, {}, body))

    assert read.json == [math.inf, 0.1]
