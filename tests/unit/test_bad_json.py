"""The error for a body that is not valid JSON names the cause and the position."""

from __future__ import annotations

import gzip

import msgspec
import pytest

from poussetaches.api.problems import Problem
from poussetaches.api.reading import decode
from poussetaches.core.task_fields import TaskFields

DECODER = msgspec.json.Decoder(TaskFields)
TASK = b'{"url": "http://app.test/", "json": %b}'
START = TASK.index(b"%b")  # of the value
LONG = b"a" * 100_000


def reason(body: bytes) -> str:
    with pytest.raises(Problem) as caught:
        decode(DECODER, body)
    assert (caught.value.status, caught.value.code) == (400, "bad-json")
    begin = "the body is not valid JSON: "
    assert caught.value.detail.startswith(begin)
    return caught.value.detail.removeprefix(begin)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (rb'"\ud800"', rf"\ud800 at byte {START + 1} is half of a surrogate pair"),
        (rb'"\ud800 and more text"', rf"\ud800 at byte {START + 1} is half of a surrogate pair"),
        (rb'"a\uDC00b"', rf"\uDC00 at byte {START + 2} is half of a surrogate pair"),
        (rb'"\ud83d\ud83d\ude00"', rf"\ud83d at byte {START + 1} is half of a surrogate pair"),
        (rb'{"\udfff": 1}', rf"\udfff at byte {START + 2} is half of a surrogate pair"),
        (b'"' + LONG + rb'\ud800"', rf"\ud800 at byte {START + 100_001} is half of"),
        (rb'"\ud83d\ude00\x"', f"invalid escaped character at byte {START + 14}"),
        (rb'"\\ud800\x"', f"invalid escaped character at byte {START + 9}"),
        (b"NaN", f"NaN at byte {START} is not valid JSON; send null or a string"),
        (b"[1, -Infinity]", f"Infinity at byte {START + 5} is not valid JSON"),
        (b'"\xe9"', f"byte {START + 1} is not UTF-8"),
        (b'"' + LONG + '"é'.encode("latin-1"), f"byte {START + 100_002} is not UTF-8"),
        (b'"' + "é".encode() * 100_000 + b'\xff"', f"byte {START + 200_001} is not UTF-8"),
        (b'"\xed\xa0\x80"', f"byte {START + 1} is not UTF-8"),  # a surrogate in three bytes
        (b"01", f"invalid number at byte {START + 1}"),
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_error_names_the_invalid_value(value: bytes, said: str) -> None:
    assert said in reason(TASK % value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b"\xef\xbb\xbf" + TASK % b"1",
            "it begins with a byte order mark; send UTF-8 without one",
        ),
        ((TASK % b"1").decode().encode("utf-16"), "it is UTF-16"),
        (gzip.compress(TASK % b"1"), "it is compressed with gzip; send it uncompressed"),
        (b"", "it is empty"),
        (b'{"url": "http', "it ends too early"),
        (rb'{"url": "\ud83d\ude', "it ends too early"),
        (rb'{"url": "\ud83d', "it ends too early"),
        (b"url=http://app.test/", "invalid character at byte 0"),
    ],
    ids=[
        "BOM",
        "UTF-16",
        "gzip",
        "empty",
        "truncated",
        "truncated in an escape",
        "truncated in a pair",
        "form",
    ],
)
def test_error_names_what_is_wrong_with_the_body(body: bytes, said: str) -> None:
    assert said in reason(body)
