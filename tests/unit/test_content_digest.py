"""Digests of pushes: which pushes under one key are the same."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from poussetaches.core.content_digest import LONGEST_CANONICAL_BODY, content_digests
from poussetaches.core.task import BodyKind, Task
from tests.factories import make_task


def of_json(body: bytes) -> Task:
    return make_task(body=body, body_kind=BodyKind.JSON)


def same(first: Task, second: Task) -> bool:
    """Return whether the second push counts as the first, which was stored."""
    return content_digests(first)[0] in content_digests(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"a":1,"b":2}', b'{"b": 2, "a": 1}'),
        (b'[{"a":1,"b":{"c":1,"d":2}}]', b'[{"b":{"d":2,"c":1},"a":1}]'),
        (b"[1, 2]", b"[1,2]"),
        (b'"\\u00e9\\/"', '"é/"'.encode()),
        (b"1E400", b" 1E400 "),
        (b"12345678901234567890123", b"12345678901234567890123 "),
        (b"not json", b"not json"),
        (b"\xff", b"\xff"),
    ],
)
def test_same_json_value_is_the_same_push(first: bytes, second: bytes) -> None:
    assert same(of_json(first), of_json(second))
    assert same(of_json(second), of_json(first))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"[1,2]", b"[2,1]"),
        (b"1", b"1.0"),
        (b"1.0", b"1.00"),
        (b"100", b"1e2"),
        (b"1.5", b'"1.5"'),
        (b"12345678901234567890123", b"12345678901234567890124"),
        (b"0.1", b"0.10000000000000001"),
        (b'{"a":null}', b"{}"),
        (b"true", b"1"),
        (b"not json", b"not  json"),
        (b'"a"', b'"A"'),
    ],
)
def test_other_json_value_is_another_push(first: bytes, second: bytes) -> None:
    assert not same(of_json(first), of_json(second))
    assert not same(of_json(second), of_json(first))


@pytest.mark.parametrize("kind", [BodyKind.TEXT, BodyKind.BASE64, None])
def test_body_that_was_not_pushed_as_json_is_compared_byte_by_byte(kind: BodyKind | None) -> None:
    assert not same(
        make_task(body=b'{"a":1}', body_kind=kind), make_task(body=b'{"a": 1}', body_kind=kind)
    )


def test_other_target_is_another_push() -> None:
    task = of_json(b'{"b": 1, "a": 2}')

    assert not same(task, msgspec.structs.replace(task, method="PUT"))
    assert not same(task, msgspec.structs.replace(task, url="http://app.test/other"))


@pytest.mark.parametrize("body", [b'{"b": 1, "a": 2}', b"[1]", b"not json"])
def test_digest_of_an_earlier_version_matches_the_same_bytes(body: bytes) -> None:
    task = of_json(body)
    former = hashlib.sha256(f"{task.method}\n{task.url}\n".encode() + body).digest()

    assert former in content_digests(task)


def test_long_body_is_compared_byte_by_byte() -> None:
    long = b"[" + b" " * LONGEST_CANONICAL_BODY + b"]"

    assert same(of_json(long), of_json(long))
    assert not same(of_json(long), of_json(b"[]"))
