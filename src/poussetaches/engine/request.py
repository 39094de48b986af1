"""The request of an attempt: the task's body, or the original's envelope."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from poussetaches import __version__
from poussetaches.core.errors import InvalidTask
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.progress_report import ATTEMPT_TOKEN
from poussetaches.core.request_target import request_target
from poussetaches.core.signature import SignedRequest, body_hash, sign, sign_request
from poussetaches.core.target import is_path, may_have_key, parse_target
from poussetaches.core.task import BodyKind, DeliveryForm, Task
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.queue_registry import Queues

USER_AGENT = f"poussetaches/{__version__}"
KEY_HEADER = "Poussetaches-Auth-Key"
SIGNATURE_HEADER = "Poussetaches-Signature"

_CONTENT_TYPES = {
    BodyKind.JSON: "application/json",
    BodyKind.TEXT: "text/plain; charset=utf-8",
    BodyKind.BASE64: "application/octet-stream",
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The request of one attempt; ``timeout`` is in seconds and covers all of it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    timeout: float

    @property
    def key_sent(self) -> bool:
        """Whether the request contains the shared key."""
        return KEY_HEADER in self.headers


def build_request(
    task: Task,
    *,
    request_id: str,
    token: str,
    now: Moment,
    queues: Queues,
    config: EngineConfig,
) -> Request:
    """Return the request of a task's next attempt.

    Raises:
        InvalidTask: its URL is a path and there is no base URL, or the whole URL is invalid.
    """
    url = queues.url_of(task)
    if url is None:
        raise InvalidTask(
            "url",
            f"is a path, but there is no base URL; set base_url of the queue {task.queue!r}, or "
            "POUSSETACHES_BASE_URL of the server",
        )
    parse_target(url)  # a base URL and a path can be too long together
    number = task.attempt_count + 1
    body = _body_of(task, number, request_id)
    headers = {
        **_headers_of(task),
        "Poussetaches-Task-ID": task.id,
        "Poussetaches-Queue": task.queue,
        "Poussetaches-Attempt": str(number),
        "Poussetaches-Round": str(task.round),
        "Poussetaches-Request-ID": request_id,
        ATTEMPT_TOKEN: token,
    }
    if config.auth_key is not None and may_have_key(url, config.key_targets):
        headers[KEY_HEADER] = config.auth_key
    if config.signing_secrets:
        unsigned = Unsigned(method=task.method, url=url, id=task.id, body=body, now=now)
        headers |= signature_headers(
            unsigned,
            secrets=config.signing_secrets,
            is_ours=is_path(task.url) or may_have_key(url, config.key_targets),
        )
    timeout = task.timeout or queues.settings_of(task.queue).timeout
    return Request(method=task.method, url=url, headers=headers, body=body, timeout=timeout)


class Unsigned(NamedTuple):
    """A request that is to be signed."""

    method: str
    url: str
    id: str
    body: bytes
    now: Moment


def signature_headers(
    unsigned: Unsigned, *, secrets: Sequence[bytes], is_ours: bool
) -> dict[str, str]:
    """Return the headers that sign a request.

    Only the application gets a request signature (``is_ours``). Any other receiver could
    arrange a push to a URL with the path of one of the application's tasks, and replay the
    request there.
    """
    timestamp = unsigned.now // SECOND
    headers = {
        "webhook-id": unsigned.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(
            secrets, id=unsigned.id, timestamp=timestamp, body=unsigned.body
        ),
    }
    if is_ours:
        path, query = request_target(unsigned.url)
        request = SignedRequest(
            unsigned.method, path, query, unsigned.id, timestamp, body_hash(unsigned.body)
        )
        headers[SIGNATURE_HEADER] = sign_request(secrets, request)
    return headers


def _headers_of(task: Task) -> dict[str, str]:
    """Return the task's own headers, and the defaults of the others."""
    headers, own = {"User-Agent": USER_AGENT, "Accept": "*/*"}, task.headers
    if task.delivery is DeliveryForm.ENVELOPE:
        # A form's Content-Type would leave the body empty where Flask's handlers look for it.
        own = {name: value for name, value in own.items() if name.lower() != "content-type"}
        headers["Content-Type"] = "application/json"
    elif task.body_kind is not None:
        headers["Content-Type"] = _CONTENT_TYPES[task.body_kind]
    if not own:
        return headers
    named = {name.lower() for name in own}
    return {name: value for name, value in headers.items() if name.lower() not in named} | own


def _body_of(task: Task, number: int, request_id: str) -> bytes:
    match task.delivery:
        case DeliveryForm.PLAIN:
            return task.body
        case DeliveryForm.ENVELOPE:
            payload = base64.b64encode(task.body).decode()
            return msgspec.json.encode({"payload": payload, "tries": number, "req_id": request_id})
