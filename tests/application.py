"""An application for tests: a fake server for its pushes, and the requests that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from poussetaches.client.delivery_auth import IncomingRequest
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo
from poussetaches.client.task_function import TaskFunction
from poussetaches.client.tasks import Tasks
from poussetaches.core.signature import SignedRequest, body_hash, sign_request

KEY = "a key that both sides know"
NOW = 1_790_000_000.0  # seconds; 2026-09-21 14:13:20 UTC


def make_tasks(*, environ: Mapping[str, str] | None = None, **arguments: object) -> Tasks:
    """Return tasks with a key, in an environment without other settings."""
    given = {"auth_key": KEY, "environ": environ or {}, **arguments}
    make: Callable[..., Tasks] = Tasks
    return make(**given)


def delivery(
    task: TaskFunction[..., object] | str,
    arguments: object = None,
    *,
    body: bytes | None = None,
    **headers: str,
) -> IncomingRequest:
    """Return the request that delivers a task; a header's underscores are dashes."""
    name = task if isinstance(task, str) else task.name
    sent = {
        "Poussetaches-Auth-Key": KEY,
        "Poussetaches-Task-ID": "task-1",
        "Poussetaches-Queue": "mail",
        "Poussetaches-Attempt": "2",
        "Poussetaches-Round": "3",
        "Poussetaches-Request-ID": "0123456789ab",
        **{key.replace("_", "-"): value for key, value in headers.items()},
    }
    if body is None:
        body = msgspec.json.encode({} if arguments is None else arguments)
    return IncomingRequest("POST", f"/_poussetaches/{name}", sent, body)


def signed(
    request: IncomingRequest,
    *secrets: str,
    at: float = NOW,
    prefix: str = "",
    changes: Mapping[str, str] | None = None,
) -> IncomingRequest:
    """Return a request with its signatures, or those of one that was changed afterwards.

    ``prefix`` is the beginning of the path that a proxy has removed.
    """
    fields = {
        "method": request.method,
        "path": prefix + request.path,
        "query": request.query,
        "id": "task-1",
        "body_hash": body_hash(request.body),
        **(changes or {}),
    }
    given = SignedRequest(timestamp=int(at), **fields)
    headers = {
        "webhook-id": "task-1",
        "webhook-timestamp": str(int(at)),
        "Poussetaches-Signature": sign_request([it.encode() for it in secrets], given),
    }
    return replace(request, headers={**request.headers, **headers})


def make_info(id: str = "task-1", *, state: str = "succeeded", **overrides: object) -> TaskInfo:
    """Return a task as the server answers it, after one attempt that answered ``null``."""
    when = datetime.fromtimestamp(NOW, UTC).isoformat()
    fields: dict[str, object] = {
        "id": id,
        "queue": "mail",
        "state": state,
        "reason": "exhausted" if state == "dead" else None,
        "url": "/_poussetaches/app.send",
        "method": "POST",
        "headers": {},
        "json": {},
        "priority": 0,
        "expected": ["2xx"],
        "labels": {},
        "created_at": when,
        "run_at": when,
        "ended_at": when,
        "round": 1,
        "attempt_count": 1,
        "last_status": 200,
        "last_error": None,
        "attempts": [make_attempt()],
    }
    return msgspec.convert({**fields, **overrides}, TaskInfo)


def make_attempt(**overrides: object) -> dict[str, object]:
    """Return an attempt as the server answers it."""
    attempt: dict[str, object] = {
        "round": 1,
        "number": 1,
        "request_id": "0123456789ab",
        "started_at": datetime.fromtimestamp(NOW, UTC).isoformat(),
        "duration": 0.25,
        "status": 200,
        "error": None,
        "response_body": "null",
        "response_truncated": False,
        "auth_key": "sent",
        "node": None,
    }
    return {**attempt, **overrides}


class RecordingPusher:
    """Accepts every push, and returns the tasks that a test sets."""

    def __init__(self, *infos: TaskInfo) -> None:
        self.pushed: list[NewTask] = []
        self.waited: list[float] = []
        self.reports: list[tuple[str, str, ProgressReport]] = []
        self._infos = {info.id: info for info in infos}

    def push(self, task: NewTask) -> PushedTask:
        """Write a push down."""
        self.pushed.append(task)
        return PushedTask(id=f"task-{len(self.pushed)}", existing=False, task=None)

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        """Record pushes."""
        self.pushed += tasks

    async def apush(self, task: NewTask) -> PushedTask:
        """Write a push down."""
        return self.push(task)

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Record a report."""
        self.reports.append((id, token, report))

    def get(self, id: str) -> TaskInfo:
        """Return a task that was told."""
        return self._infos[id]

    def wait(self, id: str, timeout: float) -> TaskInfo:
        """Return a task that was told, at once."""
        self.waited.append(timeout)
        return self.get(id)

    async def aget(self, id: str) -> TaskInfo:
        """Return a task that was told."""
        return self.get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        """Return a task that was told, at once."""
        return self.wait(id, timeout)
