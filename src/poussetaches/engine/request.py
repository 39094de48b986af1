"""The request that an attempt makes: the task's own, or the original's envelope round it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from poussetaches import __version__
from poussetaches.core.errors import InvalidTask
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.signature import sign
from poussetaches.core.target import may_have_key
from poussetaches.core.task import BodyKind, Task
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.queues import Queues

USER_AGENT = f"poussetaches/{__version__}"
KEY_HEADER = "Poussetaches-Auth-Key"

_CONTENT_TYPES = {
    BodyKind.JSON: "application/json",
    BodyKind.TEXT: "text/plain; charset=utf-8",
    BodyKind.BASE64: "application/octet-stream",
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent in one attempt; ``timeout`` is in seconds and covers all of it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    timeout: float

    @property
    def key_sent(self) -> bool:
        """Tell whether the shared key goes along."""
        return KEY_HEADER in self.headers


def build_request(
    task: Task, *, request_id: str, now: Moment, queues: Queues, config: EngineConfig
) -> Request:
    """Return the request of a task's next attempt.

    Raises:
        InvalidTask: its URL is a path, and leads nowhere at the moment.
    """
    url = queues.url_of(task)
    if url is None:
        raise InvalidTask(
            "url",
            f"it is a path, and queue {task.queue!r} has no base_url to put it behind; set one on "
            "the queue, or POUSSETACHES_BASE_URL",
        )
    number = task.attempt_count + 1
    body = _envelope(task.body, number, request_id) if task.envelope else task.body
    headers = {
        **_headers_of(task),
        "Poussetaches-Task-ID": task.id,
        "Poussetaches-Queue": task.queue,
        "Poussetaches-Attempt": str(number),
        "Poussetaches-Round": str(task.round),
        "Poussetaches-Request-ID": request_id,
    }
    if config.auth_key is not None and may_have_key(url, config.key_targets):
        headers[KEY_HEADER] = config.auth_key
    if config.signing_secrets:
        headers |= _signature(task.id, body, now=now, secrets=config.signing_secrets)
    timeout = task.timeout or queues.settings_of(task.queue).timeout
    return Request(method=task.method, url=url, headers=headers, body=body, timeout=timeout)


def _headers_of(task: Task) -> dict[str, str]:
    """Return the task's own headers, and those that it leaves to us."""
    headers, own = {"User-Agent": USER_AGENT}, task.headers
    if task.envelope:
        # A form's Content-Type would leave the body empty where Flask's handlers look for it.
        own = {name: value for name, value in own.items() if name.lower() != "content-type"}
        headers["Content-Type"] = "application/json"
    elif task.body_kind is not None:
        headers["Content-Type"] = _CONTENT_TYPES[task.body_kind]
    if not own:
        return headers
    named = {name.lower() for name in own}
    return {name: value for name, value in headers.items() if name.lower() not in named} | own


def _signature(
    task_id: str, body: bytes, *, now: Moment, secrets: Sequence[bytes]
) -> dict[str, str]:
    timestamp = now // SECOND
    return {
        "webhook-id": task_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, id=task_id, timestamp=timestamp, body=body),
    }


def _envelope(payload: bytes, number: int, request_id: str) -> bytes:
    return msgspec.json.encode(
        {"payload": base64.b64encode(payload).decode(), "tries": number, "req_id": request_id}
    )
