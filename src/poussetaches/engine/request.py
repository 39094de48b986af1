"""The request that an attempt makes: the task's own, or the original's envelope round it."""

from __future__ import annotations

import base64

import msgspec

from poussetaches import __version__
from poussetaches.core.target import may_have_key
from poussetaches.core.task import Task
from poussetaches.engine.config import EngineConfig

USER_AGENT = f"poussetaches/{__version__}"


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
        return "Poussetaches-Auth-Key" in self.headers


def build_request(task: Task, *, request_id: str, config: EngineConfig) -> Request:
    """Return the request of a task's next attempt."""
    number = task.attempt_count + 1
    headers = {
        **task.headers,
        "User-Agent": USER_AGENT,
        "Poussetaches-Task-ID": task.id,
        "Poussetaches-Queue": task.queue,
        "Poussetaches-Attempt": str(number),
        "Poussetaches-Round": str(task.round),
        "Poussetaches-Request-ID": request_id,
    }
    if config.auth_key is not None and may_have_key(task.url, config.key_targets):
        headers["Poussetaches-Auth-Key"] = config.auth_key
    body = task.body
    if task.envelope:
        # A form's Content-Type would leave the body empty where Flask's handlers look for it.
        headers["Content-Type"] = "application/json"
        body = _envelope(task.body, number, request_id)
    timeout = task.timeout or config.settings_of(task.queue).timeout
    return Request(method=task.method, url=task.url, headers=headers, body=body, timeout=timeout)


def _envelope(payload: bytes, number: int, request_id: str) -> bytes:
    return msgspec.json.encode(
        {"payload": base64.b64encode(payload).decode(), "tries": number, "req_id": request_id}
    )
