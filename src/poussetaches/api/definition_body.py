"""Definitions of queues and schedules in requests: names, decoding, merge patches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request

from poussetaches.api.json_errors import json_problem
from poussetaches.api.problems import Problem, invalid
from poussetaches.api.request_body import decode
from poussetaches.core import json_storage
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep
from poussetaches.core.merge_patch import merged
from poussetaches.core.queue import NAME, NAME_IN_WORDS, OVERRIDES, QueueOverrides

V = TypeVar("V")

READ_ONLY = "is read-only; remove it"
# Why read-only fields of both queues and schedules are refused.
HINTS = {
    "sources": READ_ONLY,
    "paused": "can only be changed by POST …/pause and …/resume; remove it",
}

_NAME = re.compile(NAME)


def name_of(request: Request, *, code: str) -> str:
    """Return the name in the path of a request that may create a queue or schedule.

    Raises:
        Problem: 422, the name is not allowed.
    """
    name: str = request.path_params["name"]
    if _NAME.match(name) is None:
        raise invalid(code, "name", f"must be {NAME_IN_WORDS}")
    return name


def decode_definition(
    decoder: msgspec.json.Decoder[V], body: bytes, *, hints: Mapping[str, str], code: str
) -> V:
    """Return the definition in a body; ``hints`` are the reasons to refuse read-only fields.

    Raises:
        Problem: 400 or 422, as for ``decode``.
    """
    try:
        return decode(decoder, body, code=code)
    except Problem as exc:
        for error in exc.errors:
            hint = hints.get(error.field)
            if hint is not None:
                raise invalid(code, error.field, hint) from None
        raise


def patched(document: bytes, patch: bytes, *, code: str) -> bytes:
    """Return a JSON text with a merge patch applied to it.

    Raises:
        Problem: 400, the patch is not JSON; 422, it is nested too deeply.
    """
    if is_too_deep(patch):
        raise invalid(code, "", f"is nested more than {MAX_DEPTH} levels deep")
    try:
        return merged(document, patch)
    except msgspec.DecodeError as exc:
        raise json_problem(patch, exc) from None


def patched_overrides(
    current: QueueOverrides, patch: bytes, given: QueueOverrides, *, code: str
) -> QueueOverrides:
    """Return a queue's stored settings with a merge patch applied; ``given`` is the patch alone.

    Raises:
        Problem: 422, the patch is nested too deeply.
    """
    if given.rate is not None:  # the patch may have it as a string such as "5/s"
        patch = merged(patch, msgspec.json.encode({"rate": given.rate}))
    return json_storage.decode(OVERRIDES, patched(json_storage.encode(current), patch, code=code))
