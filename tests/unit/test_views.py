"""The views of tasks and attempts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from poussetaches.api.views import (
    SECRET_HEADERS,
    attempt_view,
    list_views,
    shown_time,
    task_detail,
    task_view,
    wait_view,
)
from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.retry import RetryOverrides
from poussetaches.core.task import BodyKind, DeliveryForm, Task, TaskState
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.engine.limits import Limit, Scope
from tests.factories import NOW, URL, make_attempt, make_ended, make_task

SHOWN_NOW = "2026-09-21T14:13:20.000000Z"
LISTED: dict[str, object] = {
    "id": "task",
    "queue": "default",
    "state": "waiting",
    "reason": None,
    "url": URL,
    "method": "POST",
    "priority": 0,
    "expected": ["2xx"],
    "timeout": None,
    "retry": None,
    "key": None,
    "unique": None,
    "labels": {},
    "on_success": None,
    "on_dead": None,
    "schedule": None,
    "created_at": SHOWN_NOW,
    "run_at": SHOWN_NOW,
    "expires_at": None,
    "ended_at": None,
    "round": 1,
    "attempt_count": 0,
    "last_status": None,
    "last_error": None,
}


def encoded(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def view_of(task: Task, *more_secrets: str) -> Any:
    return encoded(task_view(task, secret_headers=SECRET_HEADERS | set(more_secrets)))


def test_task_in_a_list_has_all_but_body_and_headers() -> None:
    task = make_task(headers={"X-A": "a"}, body=b"1", body_kind=BodyKind.JSON)

    [view] = list_views([task], [None])

    assert encoded(view) == LISTED


def test_task_without_a_body_shows_none() -> None:
    assert view_of(make_task()) == {**LISTED, "headers": {}}


@pytest.mark.parametrize(
    ("task", "shown_body"),
    [
        (make_task(body=b'{"a":  1.10}', body_kind=BodyKind.JSON), {"json": {"a": 1.1}}),
        (make_task(body="\u00e9".encode(), body_kind=BodyKind.TEXT), {"text": "\u00e9"}),
        (make_task(body=b"", body_kind=BodyKind.TEXT), {"text": ""}),
        (make_task(body=b"\xff", body_kind=BodyKind.BASE64), {"body_base64": "/w=="}),
        (make_task(body=b"{}", delivery=DeliveryForm.ENVELOPE), {"body_base64": "e30="}),
        (make_task(body=b"", delivery=DeliveryForm.ENVELOPE), {"body_base64": ""}),
    ],
    ids=["json", "text", "empty text", "base64", "envelope", "empty envelope"],
)
def test_body_is_shown_in_the_form_in_which_it_was_pushed(
    task: Task, shown_body: dict[str, object]
) -> None:
    assert view_of(task) == {**LISTED, "headers": {}, **shown_body}


def test_json_is_shown_to_the_letter() -> None:
    task = make_task(body=b'{"exact":  1.10}', body_kind=BodyKind.JSON)

    view = task_view(task, secret_headers=SECRET_HEADERS)

    assert b'"json":{"exact":  1.10}' in msgspec.json.encode(view)


def test_values_of_secret_headers_are_hidden() -> None:
    headers = {
        "Authorization": "Bearer a",
        "COOKIE": "b",
        "proxy-authorization": "c",
        "X-Api-Key": "d",
        "X-Open": "e",
    }

    assert view_of(make_task(headers=headers), "x-api-key")["headers"] == {
        "Authorization": "***",
        "COOKIE": "***",
        "proxy-authorization": "***",
        "X-Api-Key": "***",
        "X-Open": "e",
    }


def test_retry_shows_what_the_push_named_only() -> None:
    task = make_task(retry=RetryOverrides(max_attempts=3, dead_on=(404, "5xx")))

    assert view_of(task)["retry"] == {"max_attempts": 3, "dead_on": [404, "5xx"]}


def test_ended_task_shows_when_and_why() -> None:
    view = view_of(make_ended("task", TaskState.DEAD, last_status=500, last_error="went wrong"))

    assert (view["state"], view["reason"], view["ended_at"]) == ("dead", "exhausted", SHOWN_NOW)
    assert (view["last_status"], view["last_error"]) == (500, "went wrong")


def test_attempt_shows_everything_that_is_kept() -> None:
    attempt = make_attempt(
        3,
        round=2,
        error="broke off",
        cause="connection_lost",
        key_sent=True,
        response_truncated=True,
        progress=Progress(done=1, total=2, note="half", at=NOW),
    )

    assert encoded(attempt_view(attempt)) == {
        "round": 2,
        "number": 3,
        "request_id": "request-3",
        "started_at": SHOWN_NOW,
        "duration": 0.25,
        "status": 500,
        "error": "broke off",
        "cause": "connection_lost",
        "response_body": "went wrong",
        "response_truncated": True,
        "auth_key": "sent",
        "progress": {"done": 1, "total": 2, "note": "half", "at": SHOWN_NOW},
        "node": None,
    }


@pytest.mark.parametrize(
    ("key_sent", "shown"), [(True, "sent"), (False, "withheld"), (None, None)]
)
def test_attempt_shows_whether_the_key_was_sent(key_sent: bool | None, shown: str | None) -> None:
    assert encoded(attempt_view(make_attempt(key_sent=key_sent)))["auth_key"] == shown


@pytest.mark.parametrize(
    ("body", "truncated", "text"),
    [
        (b"a\xffb", False, "a\ufffdb"),
        ("\u00e9".encode()[:1], False, "\ufffd"),
        (b"a" + "\u00e9".encode()[:1], True, "a"),
    ],
    ids=["no text", "half a character", "cut within a character"],
)
def test_answer_is_shown_as_text(body: bytes, truncated: bool, text: str) -> None:
    attempt = make_attempt(response_body=body, response_truncated=truncated)

    assert attempt_view(attempt).response_body == text


def test_what_is_waited_for_says_until_when_or_null() -> None:
    waiting = WaitingFor(reason=WaitReason.BEHIND, detail="others come first", count=3)

    assert encoded(wait_view(waiting)) == {
        "reason": "behind",
        "until": None,
        "detail": "others come first",
        "count": 3,
    }
    until = WaitingFor(reason=WaitReason.BACKOFF, detail="after a failure", until=NOW)
    assert encoded(wait_view(until)) == {
        "reason": "backoff",
        "until": SHOWN_NOW,
        "detail": "after a failure",
    }


def test_list_shows_what_a_task_waits_for_without_words() -> None:
    limits = [Limit(WaitReason.RATE, Scope.QUEUE, until=NOW)]

    [view, other] = list_views([make_task(), make_task("other")], [limits, []])

    assert encoded(view)["waiting_for"] == [{"reason": "rate", "until": SHOWN_NOW}]
    assert encoded(other)["waiting_for"] == []


def test_only_a_task_that_waits_says_what_for() -> None:
    ended = make_ended("task", TaskState.SUCCEEDED)

    detail = encoded(
        task_detail(ended, [make_attempt()], None, None, secret_headers=SECRET_HEADERS)
    )

    assert "waiting_for" not in detail
    assert [attempt["number"] for attempt in detail["attempts"]] == [1]
    waiting = task_detail(make_task(), [], [], None, secret_headers=SECRET_HEADERS)
    assert encoded(waiting)["waiting_for"] == []


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (Moment(-(10**18)), "0001-01-01T00:00:00.000000Z"),
        (Moment(-62_135_596_800_000_000), "0001-01-01T00:00:00.000000Z"),
        (Moment(253_402_300_799_999_999), "9999-12-31T23:59:59.999999Z"),
        (Moment(2**63 - 1), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_moment_outside_the_calendar_is_moved_inside(moment: Moment, text: str) -> None:
    assert shown_time(moment) == text
