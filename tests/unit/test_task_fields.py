"""The fields of a push, and the refusal of each by its name."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from poussetaches.core.errors import BodyTooLarge, InvalidTask
from poussetaches.core.json_depth import MAX_DEPTH
from poussetaches.core.msgspec_errors import field_and_reason
from poussetaches.core.new_task import body_of, check_together
from poussetaches.core.task import BodyKind
from poussetaches.core.task_fields import TaskFields

URL = "http://app.test/run"
MAX_BODY = 1000

DECODER = msgspec.json.Decoder(TaskFields)


def decoded(**fields: object) -> TaskFields:
    return DECODER.decode(json.dumps({"url": URL, **fields}))


def refused_field(**fields: object) -> str:
    """Return the name of the field for which a push is refused."""
    try:
        said = decoded(**fields)
        check_together(said)
        body_of(said, max_body=MAX_BODY)
    except msgspec.ValidationError as exc:
        return field_and_reason(str(exc), TaskFields)[0]
    except InvalidTask as exc:
        return exc.field
    raise AssertionError(f"not refused: {fields}")


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_null_is_as_good_as_nothing() -> None:
    names = set(TaskFields.__struct_fields__) - {"url", "json"}

    said = decoded(**dict.fromkeys(names), json=None)

    assert all(getattr(said, name) is None for name in names)
    assert body_of(said, max_body=MAX_BODY) == (b"", None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "http://" + "a" * 8200}, "url"),
        ({"url": "ftp://app.test"}, "url"),
        ({"url": 5}, "url"),
        ({"method": "get"}, "method"),
        ({"method": "TRACE"}, "method"),
        ({"queue": "no spaces"}, "queue"),
        ({"queue": "a" * 101}, "queue"),
        ({"queue": "name\n"}, "queue"),
        ({"delay": -1}, "delay"),
        ({"delay": 315_360_001}, "delay"),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "run_at"),
        ({"run_at": "2030-01-01T00:00:00"}, "run_at"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"priority": 101}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"expected": []}, "expected"),
        ({"expected": [200] * 33}, "expected"),
        ({"expected": [99]}, "expected[0]"),
        ({"expected": [200, "6xx"]}, "expected[1]"),
        ({"timeout": 0.05}, "timeout"),
        ({"timeout": 86_401}, "timeout"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"retry": {"max_attempts": 1001}}, "retry.max_attempts"),
        ({"retry": {"patience": 1}}, "retry.patience"),
        ({"retry": {"dead_on": [200] * 33}}, "retry.dead_on"),
        ({"retry": {"min_backoff": 5, "max_backoff": 4}}, "retry.min_backoff"),
        ({"key": ""}, "key"),
        ({"key": "a" * 201}, "key"),
        ({"key": "a\0"}, "key"),
        ({"key_ttl": 5}, "key_ttl"),
        ({"key": "a", "key_ttl": 0}, "key_ttl"),
        ({"key": "a", "key_ttl": 2_592_001}, "key_ttl"),
        ({"unique": ""}, "unique"),
        ({"on_conflict": "keep"}, "on_conflict"),
        ({"unique": "a", "on_conflict": "drop"}, "on_conflict"),
        ({"on_success": "a" * 8193}, "on_success"),
        ({"labels": {str(n): "" for n in range(17)}}, "labels"),
        ({"labels": {"": "a"}}, "labels"),
        ({"labels": {"a" * 101: "a"}}, "labels"),
        ({"labels": {"a": "a" * 201}}, "labels[...]"),
        ({"labels": {"a": 1}}, "labels[...]"),
        ({"labels": {"a\0": "a"}}, "labels"),
        ({"headers": {f"X-{n}": "" for n in range(65)}}, "headers"),
        ({"headers": {"X-A": "a" * 8190, "X-B": "b" * 8190}}, "headers"),
        ({"headers": {"X A": "a"}}, "headers"),
        ({"headers": {"": "a"}}, "headers"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers.X-A"),
        ({"headers": {"X-A": "\u00e9"}}, "headers.X-A"),
        ({"headers": {"X-A": "a\0"}}, "headers.X-A"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "headers"),
        ({"headers": {"X-A": 1}}, "headers[...]"),
        ({"headers": {"host": "a"}}, "headers.host"),
        ({"headers": {"Content-Length": "1"}}, "headers.Content-Length"),
        ({"headers": {"CONNECTION": "close"}}, "headers.CONNECTION"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding"),
        ({"headers": {"poussetaches-task-id": "a"}}, "headers.poussetaches-task-id"),
        ({"headers": {"Webhook-Id": "a"}}, "headers.Webhook-Id"),
        ({"json": 1, "text": "a"}, "text"),
        ({"text": "a", "body_base64": ""}, "body_base64"),
        ({"json": nested(MAX_DEPTH + 1)}, "json"),
        ({"body_base64": "a"}, "body_base64"),
        ({"body_base64": "YQ==\n"}, "body_base64"),
        ({"body_base64": "\u00e9"}, "body_base64"),
        ({"payload": "a"}, "payload"),
        ({"state": "dead"}, "state"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_field_that_is_not_allowed_is_refused_by_name(
    fields: dict[str, object], field: str
) -> None:
    assert refused_field(**fields) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "/path?a=b"},
        {"headers": {f"X-{n}": "" for n in range(64)}},
        {"headers": {"X-A": "a\tb ~", "Host-Name": "a", "Content-Type": "text/plain"}},
        {"labels": {str(n): "v" * 200 for n in range(16)}},
        {"labels": {"n" * 100: ""}},
        {"expected": [200, "4xx"] * 16},
        {"key": "a", "key_ttl": 2_592_000},
        {"unique": "a" * 200, "on_conflict": "replace"},
        {"retry": {"min_backoff": 4, "max_backoff": 4, "dead_on": ["4xx"]}},
        {"json": nested(MAX_DEPTH)},
        {"json": "[" * 500},
        {"on_dead": "", "on_success": "/told"},
    ],
    ids=lambda value: str(value)[:40],
)
def test_field_at_its_limit_is_allowed(fields: dict[str, object]) -> None:
    said = decoded(**fields)

    check_together(said)
    body_of(said, max_body=MAX_BODY)


@pytest.mark.parametrize(
    ("said", "body", "kind"),
    [
        (b'"json": {"a":  1.10}', b'{"a":  1.10}', BodyKind.JSON),
        (b'"json": false', b"false", BodyKind.JSON),
        ('"text": "caf\u00e9"'.encode(), "caf\u00e9".encode(), BodyKind.TEXT),
        (b'"text": ""', b"", BodyKind.TEXT),
        (b'"body_base64": "AP8="', b"\x00\xff", BodyKind.BASE64),
        (b'"body_base64": "AP8=", "json": null, "text": null', b"\x00\xff", BodyKind.BASE64),
    ],
)
def test_body_is_kept_as_it_was_pushed(said: bytes, body: bytes, kind: BodyKind) -> None:
    fields = DECODER.decode(b'{"url": "http://app.test", ' + said + b"}")

    assert body_of(fields, max_body=MAX_BODY) == (body, kind)


@pytest.mark.parametrize(
    "fields",
    [
        {"json": "a" * (MAX_BODY - 1)},
        {"text": "\u00e9" * (MAX_BODY // 2 + 1)},
        {"body_base64": base64.b64encode(bytes(MAX_BODY + 1)).decode()},
    ],
    ids=["json", "text", "body_base64"],
)
def test_body_is_measured_decoded(fields: dict[str, object]) -> None:
    with pytest.raises(BodyTooLarge):
        body_of(decoded(**fields), max_body=MAX_BODY)
