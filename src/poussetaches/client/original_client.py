"""The original's Python client, with its names, over its routes.

Applications for the package ``poussetaches`` 0.2 work unchanged. Intended differences: Flask and
requests are not required, proxies in the environment are not used, a call ends after ten seconds,
nothing is printed, and without a key every delivery is refused.
"""

from __future__ import annotations

import base64
import hmac
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from poussetaches.client.call import Call
from poussetaches.client.environment import AUTH_KEY, read_secret
from poussetaches.client.errors import ClientError, NoAnswer, NotUnderstood, Refused
from poussetaches.client.server_answer import Answer, check_status, not_understood
from poussetaches.client.transport import HttpTransport, Transport

T = TypeVar("T")

TIMEOUT = 10.0  # seconds
TASK_ID = "Poussetaches-Task-ID"


class HeaderMap(Protocol):
    """The headers of a request; the case of names does not matter."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header; None if it is missing."""


class FlaskRequest(Protocol):
    """The part of Flask's request that is used."""

    @property
    def headers(self) -> HeaderMap:
        """The headers."""

    @property
    def data(self) -> bytes:
        """The body."""


@dataclass
class Task:
    """A task to run."""

    req_id: str
    tries: int

    payload: Any


@dataclass
class GetTask:
    """A task in a list. ``next_run`` is local time, without a time zone."""

    payload: Any
    expected: int
    schedule: str
    task_id: str
    next_run: datetime
    tries: int
    url: str
    last_error_status_code: int
    last_error_body: str


class PousseTaches:
    """Pushes tasks to the server at ``api_url``, which sends them to ``base_url``.

    Every method raises ``Refused`` if the server responds with a problem, ``NotUnderstood`` if
    another program responds, and ``NoAnswer`` if nothing does. If the package requests is
    installed, the first two are also ``requests.HTTPError``, and the last one
    ``requests.ConnectionError``, as in the original.
    """

    def __init__(self, api_url: str, base_url: str) -> None:
        self.api_url = api_url
        self.base_url = base_url
        self._transport: Transport | None = None

    def push(
        self,
        payload: Any,
        path: str,
        expected: int = 200,
        schedule: str = "",
        delay: int = 0,
    ) -> str:
        """Push a task and return its id; ``delay`` is in minutes."""
        encoded = base64.b64encode(json.dumps(payload).encode()).decode()
        push = {
            "url": self.base_url + path,
            "payload": encoded,
            "expected": expected,
            "schedule": schedule,
            "delay": delay,
        }
        return self._send(Call("POST", "", body=json.dumps(push).encode()), _task_id)

    def parse(self, req: FlaskRequest) -> Task:
        """Return the task that a request delivers.

        Raises:
            ValueError: the request does not have the key of ``POUSSETACHES_AUTH_KEY``, or the key
                is not set: the original accepted every request then.
        """
        sent_key = req.headers.get("Poussetaches-Auth-Key") or ""
        key = auth_key()
        if not key or not hmac.compare_digest(sent_key.encode(), key.encode()):
            raise ValueError("Bad auth key")
        envelope = json.loads(req.data)
        payload = json.loads(base64.b64decode(envelope["payload"]))
        return Task(req_id=envelope["req_id"], tries=envelope["tries"], payload=payload)

    def pause(self) -> None:
        """Pause the server: no more attempts start."""
        self._send(Call("POST", "/pause"), _nothing)

    def resume(self) -> None:
        """Resume a paused server."""
        self._send(Call("POST", "/resume"), _nothing)

    def get_cron(self) -> list[GetTask]:
        """Return the tasks that have a schedule."""
        return self._tasks("cron")

    def get_success(self) -> list[GetTask]:
        """Return the tasks that succeeded."""
        return self._tasks("success")

    def get_waiting(self) -> list[GetTask]:
        """Return the waiting and running tasks."""
        return self._tasks("waiting")

    def get_dead(self) -> list[GetTask]:
        """Return the dead tasks."""
        return self._tasks("dead")

    def _tasks(self, listing: str) -> list[GetTask]:
        return self._send(Call("GET", f"/{listing}"), _read_tasks)

    def _send(self, call: Call, read: Callable[[Answer], T]) -> T:
        if self._transport is None:
            self._transport = HttpTransport(self.api_url)
        answer = None
        try:
            answer = self._transport.send(call, timeout=TIMEOUT)
            check_status(answer)
            return read(answer)
        except (NoAnswer, NotUnderstood, Refused) as exc:
            raise _with_requests_base(exc, answer, self.api_url + call.path) from exc.__cause__


def auth_key() -> str | None:
    """Return the receiver's key, from the environment or the file that it names."""
    return read_secret(os.environ, AUTH_KEY)


def __getattr__(name: str) -> object:
    if name == AUTH_KEY:
        return auth_key()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _nothing(_: Answer) -> None:
    """Ignore a response."""


def _task_id(answer: Answer) -> str:
    id = answer.headers.get(TASK_ID.lower())
    if id is None:
        raise not_understood(answer, f"the header {TASK_ID} is missing")
    return id


def _read_tasks(answer: Answer) -> list[GetTask]:
    try:
        return [_task_of(task) for task in json.loads(answer.body)["tasks"]]
    except (ValueError, LookupError, TypeError) as exc:
        raise not_understood(answer, "this is not a list of tasks") from exc


def _task_of(task: dict[str, Any]) -> GetTask:
    error = task["last_error_body"]
    return GetTask(
        payload=_payload(base64.b64decode(task["payload"])),
        expected=task["expected"],
        schedule=task["schedule"],
        task_id=task["id"],
        next_run=datetime.fromtimestamp(float(task["next_run"] / 1e9)),
        tries=task["tries"],
        url=task["url"],
        last_error_status_code=task["last_error_status_code"],
        last_error_body=base64.b64decode(error).decode() if error else error,
    )


def _payload(pushed: bytes) -> Any:
    try:
        return json.loads(pushed)
    except json.JSONDecodeError:
        return pushed.decode()


def _with_requests_base(error: ClientError, answer: Answer | None, url: str) -> ClientError:
    """Return an error that is also one of requests, if requests is installed."""
    try:
        import requests  # noqa: PLC0415  # 100 ms, and optional
    except ImportError:
        return error
    kind = _class_with_requests_base(type(error))
    both: ClientError = kind.__new__(kind)
    both.__dict__.update(error.__dict__)
    both.args = error.args
    response = None
    if answer is not None:
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response.url = url
    both.__dict__.update(response=response, request=None)
    return both


def _class_with_requests_base(kind: type[ClientError]) -> type[ClientError]:
    import requests  # noqa: PLC0415  # see above

    base = requests.ConnectionError if issubclass(kind, NoAnswer) else requests.HTTPError
    return cast("type[ClientError]", type(kind.__name__, (kind, base), {}))
