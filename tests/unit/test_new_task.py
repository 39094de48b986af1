"""Tasks made of what pushes say."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest

from poussetaches.api.task_pusher import build_push, trace_of
from poussetaches.core.errors import InvalidTask, TooMany
from poussetaches.core.headers import MAX_HEADERS
from poussetaches.core.moment import DAY, SECOND, Moment, later, rfc3339
from poussetaches.core.new_task import TaskBuilder, TaskLimits, values_of
from poussetaches.core.queue import MAX_QUEUES, Queue, QueueOverrides, QueueSettings
from poussetaches.core.retry import RetryOverrides, RetryPolicy
from poussetaches.core.task import BodyKind, DeliveryForm, Task
from poussetaches.core.task_fields import TaskFields
from poussetaches.engine.queue_registry import Queues
from poussetaches.store.base import Push
from tests.factories import NOW, seeded

URL = "http://app.test/run"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEN_YEARS = 3650 * DAY


def queues_of(*names: str, base_url: str | None = None, **overrides: QueueOverrides) -> Queues:
    queues = Queues(QueueSettings(base_url=base_url), original_retry=RetryPolicy())
    queues.update({name: Queue(name=name) for name in ("default", *names)})
    queues.update({name: Queue(name=name, overrides=one) for name, one in overrides.items()})
    return queues


def builder_of(
    queues: Queues | None = None,
    *,
    declared_only: bool = False,
    trace: Mapping[str, str] = {},
) -> TaskBuilder:
    limits = TaskLimits(max_body=1000, declared_only=declared_only)
    known = queues_of() if queues is None else queues
    return TaskBuilder(known, limits, now=NOW, random=seeded(), trace=trace)


def push_of(builder: TaskBuilder, **fields: object) -> Push:
    return build_push(
        builder, msgspec.json.decode(json.dumps({"url": URL, **fields}), type=TaskFields)
    )


def built(**fields: object) -> Task:
    return push_of(builder_of(), **fields).task


def test_plain_push_makes_a_task_with_the_defaults() -> None:
    push = push_of(builder_of())

    task = push.task
    expected = Task(id=task.id, url=URL, created_at=NOW, run_at=NOW, due_at=NOW)
    assert push == Push(task=expected, key_ttl=86_400.0, replaces=False)


def test_everything_that_is_said_is_in_the_task() -> None:
    push = push_of(
        builder_of(queues_of("mail")),
        method="PUT",
        headers={"X-A": "a"},
        json={"n": 1},
        queue="mail",
        delay=1.5,
        priority=7,
        expected=[204, "3xx"],
        timeout=5,
        retry={"max_attempts": 3},
        key="key",
        key_ttl=60,
        unique="unique",
        on_conflict="replace",
        expires_at=rfc3339(Moment(NOW + DAY)),
        on_success="http://app.test/done",
        on_dead="",
        labels={"a": "b"},
    )

    run_at = later(NOW, 1.5)
    assert push.key_ttl == 60
    assert push.replaces
    assert push.task == Task(
        id=push.task.id,
        url=URL,
        created_at=NOW,
        run_at=run_at,
        due_at=run_at,
        queue="mail",
        method="PUT",
        headers={"X-A": "a"},
        body=b'{"n": 1}',
        body_kind=BodyKind.JSON,
        priority=7,
        expected=(204, "3xx"),
        timeout=5,
        retry=RetryOverrides(max_attempts=3),
        key="key",
        unique="unique",
        labels={"a": "b"},
        on_success="http://app.test/done",
        on_dead="",
        expires_at=Moment(NOW + DAY),
    )


def test_every_task_of_a_request_has_an_id_of_its_own() -> None:
    builder = builder_of()

    assert push_of(builder).task.id != push_of(builder).task.id


def test_moment_that_has_passed_means_now() -> None:
    task = built(run_at="2001-01-01T00:00:00Z")

    assert task.run_at == task.due_at == NOW


def test_moment_may_be_in_any_zone() -> None:
    assert built(run_at="2026-09-21T17:13:21+02:00").run_at == NOW + 3601 * SECOND


@pytest.mark.parametrize("field", ["run_at", "expires_at"])
def test_nothing_is_planned_more_than_ten_years_ahead(field: str) -> None:
    assert getattr(built(**{field: rfc3339(Moment(NOW + TEN_YEARS))}), field) == NOW + TEN_YEARS

    with pytest.raises(InvalidTask) as caught:
        built(**{field: rfc3339(Moment(NOW + TEN_YEARS + 1))})

    assert caught.value.field == field


def test_path_needs_a_base_url_of_its_queue_or_of_the_server() -> None:
    with pytest.raises(InvalidTask) as caught:
        built(url="/run", queue="mail")

    assert caught.value.field == "url"
    assert "'mail'" in caught.value.reason
    assert "POUSSETACHES_BASE_URL" in caught.value.reason
    with_base = queues_of(mail=QueueOverrides(base_url="http://mail.test"))
    assert push_of(builder_of(with_base), url="/run", queue="mail").task.url == "/run"
    assert push_of(builder_of(queues_of(base_url=URL)), url="/run").task.url == "/run"


@pytest.mark.parametrize("field", ["on_success", "on_dead"])
@pytest.mark.parametrize("url", ["ftp://app.test", "/told", "told"])
def test_callback_that_cannot_be_sent_to_is_refused(field: str, url: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        built(**{field: url})

    assert caught.value.field == field


def test_path_of_a_callback_is_put_behind_the_base_url_of_the_queue_callbacks() -> None:
    queues = queues_of(callbacks=QueueOverrides(base_url="http://app.test"))

    assert push_of(builder_of(queues), on_dead="/told").task.on_dead == "/told"


def test_unknown_queue_is_refused_when_only_declared_ones_take_tasks() -> None:
    builder = builder_of(queues_of("mail"), declared_only=True)

    with pytest.raises(InvalidTask) as caught:
        push_of(builder, queue="post")

    assert caught.value.field == "queue"
    assert push_of(builder, queue="mail").task.queue == "mail"


def test_queue_beyond_the_limit_is_not_made_even_within_one_request() -> None:
    builder = builder_of(queues_of(*(f"q{n}" for n in range(MAX_QUEUES - 2))))
    push_of(builder, queue="last")

    push_of(builder, queue="last")
    with pytest.raises(TooMany):
        push_of(builder, queue="one-more")


def test_trace_of_the_push_is_passed_on() -> None:
    builder = builder_of(trace={"traceparent": PARENT})

    assert push_of(builder, headers={"X-A": "a"}).task.headers == {
        "X-A": "a",
        "traceparent": PARENT,
    }


def test_task_that_names_its_own_trace_keeps_it() -> None:
    builder = builder_of(trace={"traceparent": PARENT, "tracestate": "a=1"})

    assert push_of(builder, headers={"TraceParent": "mine"}).task.headers == {
        "TraceParent": "mine"
    }


def test_trace_takes_no_room_from_the_headers_of_the_task() -> None:
    headers = {f"X-{n}": "" for n in range(MAX_HEADERS)}

    task = push_of(builder_of(trace={"traceparent": PARENT}), headers=headers).task

    assert task.headers == headers


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "a=1"}, None),
        ({"traceparent": "nonsense", "tracestate": "a=1"}, {}),
        ({"tracestate": "a=1"}, {}),
        ({"traceparent": PARENT, "tracestate": "a" * 513}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "\u00e9"}, {"traceparent": PARENT}),
    ],
    ids=["parent", "both", "broken", "no parent", "long state", "odd state"],
)
def test_trace_that_others_could_not_read_is_dropped(
    headers: dict[str, str], trace: dict[str, str] | None
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert trace_of(raw) == (headers if trace is None else trace)


def test_enveloped_task_has_no_kind_of_body() -> None:
    fields = TaskFields(url=URL, body_base64="AAE=")

    task = builder_of().build(fields, delivery=DeliveryForm.ENVELOPE)

    assert (task.delivery, task.body, task.body_kind) == (DeliveryForm.ENVELOPE, b"\x00\x01", None)


def test_null_in_a_patch_is_the_default_of_the_task() -> None:
    names = ("method", "priority", "expected", "labels", "on_dead", "run_at")

    values = values_of(TaskFields(url=URL, priority=5), names)

    assert values == {
        "method": "POST",
        "priority": 5,
        "expected": ("2xx",),
        "labels": {},
        "on_dead": None,
    }
