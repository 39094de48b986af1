"""A single push: its request, its result, its key, and its errors."""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from poussetaches.client.errors import ClientError, NotUnderstood, PushFailed
from poussetaches.client.request_fields import NewTask
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import PushedTask, TaskInfo
from poussetaches.client.retry_timer import is_temporary
from poussetaches.client.server_answer import Answer, read_answer

KEY_LENGTH = 16  # random bytes
KEY_TTL = 600.0  # seconds for which a push may be retried


def keyed(task: NewTask, new_key: Callable[[], str]) -> NewTask:
    """Return a task with a key, so that a retry of its push does not create a second task."""
    if task.key is not None:
        return task
    return msgspec.structs.replace(task, key=new_key(), key_ttl=KEY_TTL)


def encode_task(task: NewTask) -> bytes:
    """Return a push as the server reads it."""
    fields: dict[str, object] = {
        name: value
        for name in NewTask.__struct_fields__
        if (value := getattr(task, name)) is not None
    }
    body = fields.pop("body", None)
    if isinstance(body, bytes):
        fields["body_base64"] = base64.b64encode(body).decode()
    return encode_request(fields)


def read_pushed(answer: Answer, *, own_key: str | None) -> PushedTask:
    """Return the result of a push; ``own_key`` is its key if the client made it."""
    found = read_answer(answer, _Identity)
    if found.state == "pruned":
        return PushedTask(found.id, existing=True)
    info = read_answer(answer, TaskInfo)
    # A key that the client made can only stand for an earlier try of this same push.
    existing = "poussetaches-existing" in answer.headers
    existing = existing and (own_key is None or info.key != own_key)
    return PushedTask(info.id, existing, info)


def push_failed(task: NewTask, cause: ClientError) -> ClientError:
    """Return the error for a task that was not pushed."""
    return cause if is_refusal(cause) else PushFailed([task], cause)


def is_refusal(cause: ClientError) -> bool:
    """Return whether the server refused the push, so that a retry would be refused too.

    The answer of another program does not count: the server never got the push.
    """
    return not is_temporary(cause) and not isinstance(cause, NotUnderstood)


class _Identity(msgspec.Struct, frozen=True):
    id: str
    state: str
