"""Digests of pushes, which show whether two pushes with the same key are equal."""

from __future__ import annotations

import hashlib

import msgspec

from poussetaches.core.task import BodyKind, Task

# Bytes; about a millisecond of the writer's time. Longer bodies are compared byte by byte.
LONGEST_CANONICAL_BODY = 64 * 1024


def content_digests(task: Task) -> tuple[bytes, ...]:
    """Return digests of a task's URL, method and body; two tasks that share one are the same push.

    The first is the one to store: it compares JSON by value, other bodies byte by byte. The last
    compares all bodies byte by byte, as the digests that earlier versions stored do.
    """
    target = f"{task.method}\n{task.url}\n".encode()
    former = hashlib.sha256(target + task.body).digest()
    if task.body_kind is not BodyKind.JSON or len(task.body) > LONGEST_CANONICAL_BODY:
        return (former,)
    canonical = canonical_json(task.body)
    if canonical == task.body:
        return (former,)
    return hashlib.sha256(target + canonical).digest(), former


def canonical_json(body: bytes) -> bytes:
    """Return JSON with sorted keys and without spaces; return a body that is not JSON unchanged.

    Numbers keep their text, so 1 and 1.0 are different values.
    """
    try:
        return _ENCODER.encode(_DECODER.decode(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


_DECODER = msgspec.json.Decoder(float_hook=_number)
_ENCODER = msgspec.json.Encoder(order="deterministic")
