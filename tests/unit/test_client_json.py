"""JSON that clients send and read: nothing in it is changed in silence."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from markupsafe import Markup

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.call import Call
from poussetaches.client.client import Client
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import TaskInfo
from poussetaches.client.server_answer import Answer, read_answer
from poussetaches.client.single_push import encode_task
from poussetaches.client.transport import Stream
from tests.application import make_info


@dataclass
class Order:
    total: object


class Color(enum.Enum):
    RED = "red"


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
    ({"when": object()}, "json.when", "values of object cannot be encoded as JSON"),
    ([1, Order([object()])], "json[1].total[0]", "values of object cannot be encoded as JSON"),
    ({"file": b"x"}, "json.file", "JSON has no bytes; give a str, or use body="),
    ({"ids": {1, 2}}, "json.ids", "JSON has no sets; give a list"),
    (frozenset(), "json", "JSON has no sets"),
    (datetime(2030, 1, 1), "json", "2030-01-01 00:00:00 has no time zone"),
]


@pytest.mark.parametrize(("value", "path", "reason"), REFUSED)
def test_value_that_json_would_change_is_refused_by_its_path(
    value: object, path: str, reason: str
) -> None:
    with pytest.raises(ArgumentError) as refusal:
        encode_task(NewTask(url="/x", json=value))

    assert refusal.value.argument == path
    assert reason in refusal.value.reason


SENT: list[tuple[object, object]] = [
    ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
    ((1, 2), [1, 2]),
    (Order(1), {"total": 1}),
    (datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z"),
    (date(2030, 1, 1), "2030-01-01"),
    (timedelta(hours=1), "PT3600S"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (Color.RED, "red"),
    (2**70, 2**70),
    ({"html": Markup("<b>")}, {"html": "<b>"}),
    ([OwnInt(1), np.int64(2), np.float32(0.5)], [1, 2, 0.5]),
    (Order(OwnDatetime(2030, 1, 1, tzinfo=UTC)), {"total": "2030-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize(("value", "sent"), SENT)
def test_value_that_has_json_is_sent(value: object, sent: object) -> None:
    line = encode_task(NewTask(url="/x", json=value))

    assert msgspec.json.decode(line)["json"] == sent


class Sent(Exception):
    """Ends a call that a client sends."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class SendNothing:
    """A transport that raises what it is given to send."""

    def send(self, call: Call, *, timeout: float) -> Answer:
        raise Sent(call)

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        raise Sent(call)

    def close(self) -> None:
        pass


CLIENT = Client(transport=SendNothing())
BAD: Any = {"json": math.nan}


@pytest.mark.parametrize(
    "send",
    [
        lambda: CLIENT.edit("id", BAD),
        lambda: CLIENT.requeue("id", BAD),
        lambda: CLIENT.requeue_many({}, all=True, set=BAD),
        lambda: CLIENT.put_schedule("s", **BAD),
        lambda: CLIENT.edit_schedule("s", BAD),
        lambda: CLIENT.put_schedules("app", None, [BAD]),
        lambda: CLIENT.put_queue("q", **BAD),
        lambda: CLIENT.edit_queue("q", **BAD),
    ],
)
def test_every_request_with_a_body_is_checked(send: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError, match="JSON has no nan"):
        send()


NAMED: list[Callable[[Any], object]] = [
    CLIENT.get,
    CLIENT.cancel,
    CLIENT.delete,
    CLIENT.queue,
    CLIENT.purge_queue,
    CLIENT.schedule,
    CLIENT.schedule_runs,
]


@pytest.mark.parametrize("send", NAMED)
@pytest.mark.parametrize("name", [3, None, "", b"id"], ids=str)
def test_id_or_name_that_is_not_a_string_is_refused(
    send: Callable[[Any], object], name: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"use a (non-empty string|str)$"):
        send(name)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("send", "sent"),
    [
        (
            lambda: CLIENT.push("/x", json={"span": MINUTE}, delay=MINUTE, key="k"),
            {"url": "/x", "json": {"span": "PT60S"}, "delay": 60.0, "key": "k"},
        ),
        (
            lambda: CLIENT.edit("id", {"timeout": MINUTE, "json": [MINUTE]}),
            {"timeout": 60.0, "json": ["PT60S"]},
        ),
        (
            lambda: CLIENT.run_many({}, all=True, set={"json": MINUTE}, spread=MINUTE),
            {"filter": {}, "all": True, "dry_run": False, "set": {"json": "PT60S"}, "spread": 60},
        ),
        (
            lambda: CLIENT.put_queue(
                "q", timeout=MINUTE, keep_dead={"count": 1, "age": 2 * MINUTE}
            ),
            {"timeout": 60.0, "keep_dead": {"count": 1, "age": 120.0}},
        ),
        (
            lambda: CLIENT.put_schedules(
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
    send: Callable[[], object], sent: object
) -> None:
    with pytest.raises(Sent) as caught:
        send()

    assert msgspec.json.decode(caught.value.call.body) == sent


def test_number_that_no_float_holds_is_read_as_infinity() -> None:
    body = msgspec.json.encode(make_info()).replace(b'"json":{}', b'"json":[1E400,0.1]')

    read = read_answer(Answer(200, {}, body), TaskInfo)

    assert read.json == [math.inf, 0.1]


def test_text_that_no_header_can_have_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"argument Last-Event-ID: 'a\\nb' cannot be sent"):
        next(CLIENT.events(last_event_id="a\nb"))
