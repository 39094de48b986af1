"""Digests of what a push sends, to see whether a second push under its key is the same."""

from __future__ import annotations

import hashlib

import msgspec

from poussetaches.core.task import BodyKind, Task

# Bytes; about a millisecond of the writer's time. Longer bodies are compared as they are.
LONGEST_CANONICAL_BODY = 64 * 1024


def content_digests(task: Task) -> tuple[bytes, ...]:
    """Return digests of a task's URL, method and body; two tasks that share one are the same push.

    The first is the one to store: JSON counts by its value, other bodies by their bytes. The
    last is of the body's bytes, which is what former versions stored.
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
    """Return JSON with the keys of objects sorted and no spaces; what is no JSON, as it is.

    Numbers keep their text, so that 1 and 1.0 are two values, whatever a receiver makes of them.
    """
    try:
        return _ENCODER.encode(_DECODER.decode(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


_DECODER = msgspec.json.Decoder(float_hook=_number)
_ENCODER = msgspec.json.Encoder(order="deterministic")
