"""Parsers of foreign texts return a value or raise their documented exception."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.api.dialect import problem_document
from poussetaches.api.filter_fields import FilterFields
from poussetaches.api.problems import Problem
from poussetaches.api.request_body import decode
from poussetaches.api.schedule_fields import ScheduleFields
from poussetaches.core.errors import Invalid, InvalidFilter, InvalidSchedule, SettingsError
from poussetaches.core.failure_group import common_error, common_path, first_line, group_of
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep
from poussetaches.core.merge_patch import merged
from poussetaches.core.new_task import body_of, check_together
from poussetaches.core.schedule import check_expression, next_occurrence
from poussetaches.core.signature import (
    SignedRequest,
    secret_bytes,
    sign_request,
    signed_body_hash,
    verify_request,
)
from poussetaches.core.target import check_url, parse_target
from poussetaches.core.task_fields import TaskChanges, TaskFields
from poussetaches.engine.answer import seconds_to_wait
from poussetaches.settings import load_settings
from poussetaches.settings.table import SETTINGS
from tests.factories import NOW

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
odd_numbers = st.sampled_from(["1e400", "-0", "9" * 400, "1E-400", "NaN", "-Infinity", "0x1"])
odd_times = st.sampled_from(
    [
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z"),
        *("2026-11-25T24:00:00Z", "2026-11-25T23:59:60Z", "2026-11-25", "-1", "1e9", "0000-00-00"),
    ]
)


def objects_of(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with known names and arbitrary values."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    values = json_values | odd_times | st.text(max_size=20)
    return st.dictionaries(st.sampled_from(names), values, max_size=6)


def texts_of(kind: Any) -> st.SearchStrategy[bytes]:
    """Return JSON texts, and bytes that are almost JSON."""
    written = objects_of(kind).map(lambda value: json.dumps(value).encode())
    return (
        written
        | st.binary(max_size=100)
        | st.tuples(written, st.integers(0, 200), st.binary(max_size=3)).map(_damaged)
        | odd_numbers.map(lambda number: b'{"delay": %b}' % number.encode())
    )


def _damaged(parts: tuple[bytes, int, bytes]) -> bytes:
    text, place, damage = parts
    return text[:place] + damage + text[place + 1 :]


@pytest.mark.parametrize("kind", [TaskFields, TaskChanges, ScheduleFields, FilterFields])
@given(data=st.data())
def test_body_is_decoded_or_refused_with_a_reason(kind: Any, data: st.DataObject) -> None:
    try:
        decode(msgspec.json.Decoder(kind), data.draw(texts_of(kind)))
    except Problem as exc:
        assert exc.status in (400, 422)
        assert exc.detail
        assert problem_document(exc).body


@given(objects_of(TaskFields))
def test_fields_of_a_task_are_accepted_or_refused_by_name(given_: dict[str, Any]) -> None:
    text = json.dumps({"url": "http://a.test/", **given_}).encode()
    try:
        fields = decode(msgspec.json.Decoder(TaskFields), text)
        check_together(fields)
        body_of(fields, max_body=1000)
    except Problem:
        return
    except Invalid as exc:
        assert exc.field
        assert exc.reason


@given(objects_of(FilterFields))
def test_filter_is_accepted_or_refused_by_name(given_: dict[str, Any]) -> None:
    try:
        decode(msgspec.json.Decoder(FilterFields), json.dumps(given_).encode()).filter()
    except Problem:
        return
    except InvalidFilter as exc:
        assert exc.field


@given(st.text(), st.lists(st.text(max_size=10), max_size=3))
def test_labels_of_a_filter_are_read_as_written(value: str, names: list[str]) -> None:
    names = [name for name in names if name and ":" not in name]
    fields = FilterFields(label=[f"{name}:{value}" for name in names])

    assert fields.filter().labels == tuple((name, value) for name in names)


@given(st.integers(0, MAX_DEPTH + 40), st.text(), st.sampled_from(["[]", "{}"]))
def test_depth_is_that_of_brackets_outside_of_texts(depth: int, text: str, kind: str) -> None:
    value: Any = text
    for _ in range(depth):
        value = [value] if kind == "[]" else {text: value}

    assert is_too_deep(json.dumps(value, ensure_ascii=False).encode(errors="replace")) is (
        depth > MAX_DEPTH
    )


@given(json_values, json_values)
def test_patch_of_a_patched_document_changes_nothing_more(target: Any, patch: Any) -> None:
    texts = [msgspec.json.encode(value) for value in (target, patch)]

    once = merged(texts[0], texts[1])

    assert msgspec.json.decode(merged(once, texts[1])) == msgspec.json.decode(once)


cron_fields = st.lists(
    st.sampled_from(
        [
            *("*", "*/5", "0", "59", "60", "-1", "1-5", "5-1", "1,2,3", "*/0", "L", "mon", "5#3"),
            *("1-", ",", "?", "W", "99999999999999999999", "jan-dec", "*/*", "L-3", "7", "31"),
        ]
    ),
    max_size=8,
).map(" ".join)
durations = st.lists(
    st.sampled_from(["1", "0", "9" * 30, ".", "h", "m", "s", "ms", "ns", "d", "-", "1.5h", "90s"]),
    max_size=5,
).map(lambda parts: "@every " + "".join(parts))
zones = st.sampled_from(["UTC", "Europe/Paris"]) | st.text(max_size=20)


@given(cron_fields | durations | st.text(max_size=40), zones)
def test_next_occurrence_is_later_or_the_expression_is_refused(cron: str, zone: str) -> None:
    try:
        check_expression(cron, zone)
        found = next_occurrence(cron, anchor=NOW, after=NOW, timezone=zone)
    except InvalidSchedule as exc:
        assert exc.field in ("cron", "timezone")
        return
    assert found is None or found > NOW


@given(st.text() | st.text().map("http://".__add__) | st.text().map("http://a/".__add__))
def test_url_is_accepted_or_refused(url: str) -> None:
    try:
        check_url(url)
    except Invalid as exc:
        assert exc.field == "url"
        return
    assert "\r" not in url
    assert "\n" not in url


@given(st.from_regex(r"https?://[a-z0-9.:\[\]-]{1,30}", fullmatch=True))
def test_origin_is_that_of_its_url(url: str) -> None:
    try:
        target = parse_target(url)
    except Invalid:
        return
    assert parse_target(target.origin) == target


@given(
    st.text(max_size=40)
    | st.integers().map(str)
    | st.datetimes().map(lambda time: time.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    | st.lists(
        st.sampled_from(["Mon,", "21", "Sep", "2026", "99999", "14:13:20", "GMT", "+9999", "-0"])
    ).map(" ".join)
)
def test_retry_after_is_read_or_ignored(value: str) -> None:
    found = seconds_to_wait(value, now=NOW)

    assert found is None or 0 <= found < float("inf")


line = st.text(st.characters(exclude_characters="\n"))
requests = st.builds(
    SignedRequest, line, line, line, line, st.integers(min_value=0), st.just("0" * 64)
)


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=3), requests, requests)
def test_signature_is_valid_only_for_the_signed_content(
    secrets: list[bytes], request: SignedRequest, other: SignedRequest
) -> None:
    signature = sign_request(secrets, request)

    assert verify_request(secrets[-1:], request, signature=signature)
    assert verify_request(secrets, other, signature=signature) is (request == other)
    assert signed_body_hash(signature) == request.body_hash


any_text = st.text(st.characters(categories=("Cs", "L", "N", "Z")))  # Cs: surrogates


@given(any_text, any_text)
def test_signature_of_any_text_is_accepted_or_refused(text: str, signature: str) -> None:
    request = SignedRequest(text, text, text, text, 1, text)

    assert not verify_request([b"secret"], request, signature=signature)
    assert not verify_request([b"secret"], request, signature=f"v1,{signature}")
    assert signed_body_hash(signature) is None


@given(st.text(), st.binary())
def test_secret_is_read_or_refused(text: str, key: bytes) -> None:
    assert secret_bytes("whsec_" + base64.b64encode(key).decode()) == key
    try:
        secret_bytes("whsec_" + text)
    except ValueError as exc:
        assert "base64" in str(exc)


names_of_settings = st.sampled_from([setting.env for setting in SETTINGS])
setting_texts = (
    st.text(max_size=20)
    | odd_numbers
    | st.sampled_from(["", "none", "true", "1", "-1", "1,2", "[]", "a=b", "100/h", "0/s", "1/0s"])
)


@given(st.dictionaries(names_of_settings, setting_texts, max_size=3))
def test_settings_are_read_or_refused_in_one_line(environ: dict[str, str]) -> None:
    try:
        load_settings({}, environ, None)
    except SettingsError as exc:
        assert len(str(exc).splitlines()) == 1
        assert "POUSSETACHES_" in str(exc)


@given(st.text(), st.text() | st.none(), st.integers() | st.none(), st.binary())
def test_every_failure_has_a_group(
    path: str, error: str | None, status: int | None, body: bytes
) -> None:
    group = group_of(queue="q", url=f"http://a/{path}", status=status, error=error)

    assert group.id == group_of(queue="q", url=f"http://a/{path}", status=status, error=error).id
    assert "\n" not in first_line(body)
    assert common_path(path) is not None
    assert common_error(error or "") is not None
