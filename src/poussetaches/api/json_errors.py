"""``json_problem``: explains why a body is not valid JSON."""

from __future__ import annotations

import re
from http import HTTPStatus

from poussetaches.api.problems import Problem

# For these, msgspec would only report the first byte as invalid.
_SIGNATURES = (
    (b"\xef\xbb\xbf", "it begins with a byte order mark; send UTF-8 without one"),
    (b"\xff\xfe", "it is UTF-16, as its byte order mark says; send UTF-8"),
    (b"\xfe\xff", "it is UTF-16, as its byte order mark says; send UTF-8"),
    (b"\x1f\x8b", "it is compressed with gzip; send it uncompressed"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; send it uncompressed"),
    (b"\x78\x01", "it is compressed with deflate; send it uncompressed"),
    (b"\x78\x9c", "it is compressed with deflate; send it uncompressed"),
    (b"\x78\xda", "it is compressed with deflate; send it uncompressed"),
)
_NOT_NUMBERS = (b"NaN", b"Infinity")  # numbers in JavaScript and Python, but not in JSON
_MESSAGE = re.compile(r"(?:JSON is malformed: )?(?P<reason>.*) \(byte (?P<position>[0-9]+)\)")
_TRUNCATED = "Input data was truncated"
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_PAIR_LENGTH = 12  # bytes, of an escaped surrogate pair


def json_problem(
    body: bytes | bytearray, error: Exception, *, field: str = "", offset: int = 0
) -> Problem:
    """Return the problem of a body, or of one field of it, that could not be decoded.

    ``offset`` is the position in the whole body at which ``body`` begins.
    """
    subject = f"{field}: not" if field else "the body is not"
    detail = f"{subject} valid JSON: {_reason(body, error, offset)}"
    return Problem(HTTPStatus.BAD_REQUEST, "bad-json", detail)


def _reason(body: bytes | bytearray, error: Exception, offset: int) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not body:
        return "it is empty"
    if offset == 0:
        for signature, reason in _SIGNATURES:
            if body.startswith(signature):
                return reason
    if isinstance(error, UnicodeDecodeError):
        return f"byte {offset + error.start} is not UTF-8"
    return _malformed(body, str(error), offset)


def _malformed(body: bytes | bytearray, message: str, offset: int) -> str:
    """Return msgspec's message with the position in the body, or a clearer one."""
    match = _MESSAGE.fullmatch(message)
    position = int(match["position"]) if match else len(body)
    lone = _lone_surrogate(body, position, message)
    if lone is not None:
        text = bytes(body[lone : lone + 6]).decode()
        return f"{text} at byte {offset + lone} is half of a surrogate pair; send both halves"
    if match is None:
        return "it ends too early" if message == _TRUNCATED else message
    for number in _NOT_NUMBERS:
        if body.startswith(number, position):
            return (
                f"{number.decode()} at byte {offset + position} is not JSON; send null or a string"
            )
    return f"{match['reason']} at byte {offset + position}"


def _lone_surrogate(body: bytes | bytearray, position: int, message: str) -> int | None:
    """Return the position of an unpaired surrogate near an error, None if there is none."""
    match = _LONE_SURROGATE.search(body, max(0, position - _PAIR_LENGTH), position + _PAIR_LENGTH)
    if match is None:
        return None
    before = bytes(body[max(0, match.start() - _PAIR_LENGTH) : match.start()])
    is_escaped = (len(before) - len(before.rstrip(b"\\"))) % 2 == 1
    # The body may be truncated inside a pair, after a backslash that begins the other half.
    is_truncated = message == _TRUNCATED and body[match.end() : match.end() + 1] in (b"", b"\\")
    return None if is_escaped or is_truncated else match.start()
