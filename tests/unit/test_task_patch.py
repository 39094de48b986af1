"""Merge patches of tasks: what they change, reset, leave alone and refuse."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from poussetaches.api.task_patch import changes_of
from poussetaches.core.changes import Changes, amended
from poussetaches.core.errors import BodyTooLarge, InvalidTask
from poussetaches.core.json_storage import decode
from poussetaches.core.merge_patch import Document
from poussetaches.core.moment import HOUR, Moment, rfc3339
from poussetaches.core.queue import QueueOverrides
from poussetaches.core.retry import RETRY, RetryOverrides
from poussetaches.core.task import BodyKind, DeliveryForm, Task, TaskState
from poussetaches.engine.queue_registry import Queues
from tests.factories import NOW, make_ended, make_task
from tests.unit.test_new_task import queues_of

LATER = Moment(NOW + HOUR)


def changes_in(patch: dict[str, object], queues: Queues | None = None) -> Changes:
    document = msgspec.json.decode(json.dumps(patch), type=Document)
    queues = queues_of() if queues is None else queues
    return changes_of(document, queues, now=NOW, max_body=100)


def patched(task: Task, **patch: object) -> Task:
    return amended(task, changes_in(patch))


def full_task() -> Task:
    return make_task(
        method="PUT",
        headers={"X-A": "a", "Authorization": "Bearer secret"},
        body=b'{"keep": 1.10, "drop": true, "deep": {"a": 1, "b": null}}',
        body_kind=BodyKind.JSON,
        priority=5,
        expected=(204,),
        timeout=3.0,
        retry=RetryOverrides(max_attempts=3, jitter=0.5),
        labels={"a": "1", "b": "2"},
        expires_at=LATER,
        on_success="http://app.test/done",
        on_dead="http://app.test/dead",
    )


def test_empty_patch_changes_nothing() -> None:
    assert patched(full_task()) == full_task()


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("url", "http://other.test/", "http://other.test/"),
        ("method", "GET", "GET"),
        ("priority", -3, -3),
        ("expected", ["3xx"], ("3xx",)),
        ("timeout", 9, 9.0),
        ("expires_at", rfc3339(NOW), NOW),
        ("on_success", "", ""),
        ("on_dead", "http://other.test/", "http://other.test/"),
        ("headers", {"X-B": "b"}, {"X-A": "a", "Authorization": "Bearer secret", "X-B": "b"}),
        ("headers", {"x-a": None}, {"Authorization": "Bearer secret"}),
        ("headers", {"x-a": "c"}, {"X-A": "c", "Authorization": "Bearer secret"}),
        ("labels", {"a": None, "c": "3"}, {"b": "2", "c": "3"}),
        ("retry", {"jitter": None}, RetryOverrides(max_attempts=3)),
        ("retry", {"max_age": 5}, RetryOverrides(max_attempts=3, jitter=0.5, max_age=5)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_patch_changes_what_it_names_and_nothing_else(
    field: str, value: object, kept: object
) -> None:
    changed = patched(full_task(), **{field: value})

    assert changed == msgspec.structs.replace(full_task(), **{field: kept})


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("method", "POST"),
        ("headers", {}),
        ("priority", 0),
        ("expected", ("2xx",)),
        ("timeout", None),
        ("retry", None),
        ("labels", {}),
        ("expires_at", None),
        ("on_success", None),
        ("on_dead", None),
    ],
)
def test_null_resets(field: str, default: object) -> None:
    changed = patched(full_task(), **{field: None})

    assert changed == msgspec.structs.replace(full_task(), **{field: default})


def test_one_field_of_a_json_body_can_be_changed_or_removed() -> None:
    changed = patched(full_task(), json={"drop": None, "new": [1], "deep": {"a": 2}})

    assert changed.body == b'{"keep":1.10,"deep":{"a":2,"b":null},"new":[1]}'
    assert changed.body_kind is BodyKind.JSON


@pytest.mark.parametrize(
    ("changes", "body", "kind"),
    [
        ({"json": [1]}, b"[1]", BodyKind.JSON),
        ({"text": "a"}, b"a", BodyKind.TEXT),
        ({"body_base64": "YQ=="}, b"a", BodyKind.BASE64),
        ({"json": None}, b"", None),
        ({"json": None, "text": "a"}, b"a", BodyKind.TEXT),
    ],
    ids=str,
)
def test_naming_one_body_drops_the_other(
    changes: dict[str, object], body: bytes, kind: BodyKind | None
) -> None:
    changed = patched(full_task(), **changes)

    assert (changed.body, changed.body_kind) == (body, kind)


def test_null_for_a_body_of_another_form_leaves_the_body_alone() -> None:
    assert patched(full_task(), text=None) == full_task()


def test_object_takes_the_place_of_a_body_that_is_no_json() -> None:
    task = make_task(body=b'{"a": 1}', body_kind=BodyKind.TEXT)

    assert patched(task, json={"b": 2}).body == b'{"b":2}'


def test_masked_header_keeps_its_value() -> None:
    changed = patched(full_task(), headers={"authorization": "***", "X-New": "***"})

    assert changed.headers == {**full_task().headers, "X-New": "***"}


def test_payload_of_an_envelope_can_be_changed_and_stays_one() -> None:
    task = make_task(delivery=DeliveryForm.ENVELOPE, body=b"old")

    changed = patched(task, body_base64="bmV3")

    assert changed == msgspec.structs.replace(task, body=b"new")


def test_policy_of_an_envelope_is_not_changed() -> None:
    with pytest.raises(InvalidTask) as caught:
        patched(make_task(delivery=DeliveryForm.ENVELOPE), retry={"max_attempts": 1})

    assert caught.value.field == "retry"


def test_run_at_moves_the_beginning_of_a_round_that_has_had_no_attempt() -> None:
    changed = patched(make_task(), run_at=rfc3339(LATER))

    assert (changed.run_at, changed.due_at) == (LATER, LATER)


def test_run_at_leaves_the_beginning_of_a_round_that_has_had_an_attempt() -> None:
    changed = patched(make_task(attempt_count=1), run_at=rfc3339(LATER))

    assert (changed.run_at, changed.due_at) == (LATER, NOW)


def test_run_at_of_a_dead_task_leaves_its_past_alone() -> None:
    changed = patched(make_ended("task", TaskState.DEAD), run_at=rfc3339(LATER))

    assert (changed.run_at, changed.due_at) == (LATER, NOW)


def test_null_for_run_at_means_now() -> None:
    assert patched(make_task(run_at=LATER), run_at=None).run_at == NOW


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"queue": "mail"}, "queue"),
        ({"delay": 5}, "delay"),
        ({"key": "a"}, "key"),
        ({"unique": "a"}, "unique"),
        ({"id": "a"}, "id"),
        ({"state": "dead"}, "state"),
        ({"url": None}, "url"),
        ({"url": "ftp://app.test"}, "url"),
        ({"method": "TRACE"}, "method"),
        ({"headers": "a"}, "headers"),
        ({"headers": {"Host": "a"}}, "headers.Host"),
        ({"headers": {"X-A": 5}}, "headers['X-A']"),
        ({"labels": {"a": 5}}, "labels['a']"),
        ({"retry": {"jitter": 5}}, "retry.jitter"),
        ({"retry": {"min_backoff": 5, "max_backoff": 4}}, "retry.min_backoff"),
        ({"json": 1, "text": "a"}, "text"),
        ({"priority": 101}, "priority"),
        ({"on_dead": "ftp://app.test"}, "on_dead"),
        ({"on_dead": "/path"}, "on_dead"),
        ({"run_at": "2099-01-01T00:00:00Z"}, "run_at"),
        ({"expires_at": "2099-01-01T00:00:00Z"}, "expires_at"),
    ],
    ids=str,
)
def test_patch_that_fits_no_task_is_refused_before_there_is_one(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidTask) as caught:
        changes_in(changes)

    assert caught.value.field == field


def test_field_that_a_push_has_is_said_not_to_be_changeable() -> None:
    with pytest.raises(InvalidTask, match="cannot be changed"):
        changes_in({"queue": "mail"})
    with pytest.raises(InvalidTask, match="is unknown"):
        changes_in({"color": "red"})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "/path"}, "url"),
        ({"headers": {f"X-{n}": "" for n in range(63)}}, "headers"),
        ({"labels": {str(n): "" for n in range(15)}}, "labels"),
        ({"retry": {"max_attempts": 2, "max_backoff": 0.5}}, "retry.min_backoff"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_patch_that_does_not_fit_the_task_is_refused(changes: dict[str, Any], field: str) -> None:
    task = msgspec.structs.replace(full_task(), retry=RetryOverrides(min_backoff=1))
    found = changes_in(changes)

    with pytest.raises(InvalidTask) as caught:
        amended(task, found)

    assert caught.value.field == field


def test_patch_of_a_retry_policy_keeps_what_another_version_wrote() -> None:
    stored = '{"max_attempts":1000000,"min_backoff":2.0,"spread":{"by":1.10}}'
    task = make_task(retry=decode(RETRY, stored))

    changed = patched(task, retry={"jitter": 0.5, "min_backoff": None})

    assert changed.retry == decode(
        RETRY, '{"max_attempts":1000000,"jitter":0.5,"spread":{"by":1.10}}'
    )


def test_patch_of_another_field_keeps_what_another_version_wrote() -> None:
    task = make_task(
        retry=decode(RETRY, '{"jitter":9.0,"spread":1}'), expected=(700,), timeout=1e9
    )

    assert patched(task, priority=1) == msgspec.structs.replace(task, priority=1)


def test_null_resets_a_retry_policy_with_all_that_another_version_wrote() -> None:
    assert patched(make_task(retry=decode(RETRY, '{"spread":1}')), retry=None).retry is None


def test_member_that_only_another_version_knows_is_not_patched() -> None:
    with pytest.raises(InvalidTask) as caught:
        changes_in({"retry": {"spread": 2}})

    assert caught.value.field == "retry.spread"


def test_path_is_allowed_where_the_task_s_queue_has_a_base_url() -> None:
    queues = queues_of(mail=QueueOverrides(base_url="http://mail.test"))
    task = make_task(queue="mail")

    assert amended(task, changes_in({"url": "/path"}, queues)).url == "/path"


def test_body_may_not_outgrow_its_limit_by_patches() -> None:
    task = make_task(body=b'{"a":"%s"}' % (b"a" * 60), body_kind=BodyKind.JSON)

    with pytest.raises(BodyTooLarge):
        patched(task, json={"b": "b" * 60})


def test_task_keeps_what_only_older_rules_allowed() -> None:
    task = make_task(url="http://app.test/" + "a" * 9000, headers={"X A": "b"})

    assert patched(task, priority=1) == msgspec.structs.replace(task, priority=1)
