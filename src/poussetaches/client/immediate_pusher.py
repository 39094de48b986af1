"""``ImmediatePusher``: pushes that run their handler in this process, without a server."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.errors import NotFound
from poussetaches.client.receiver import Receiver
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import (
    EndedTask,
    LastAttempt,
    ProgressReport,
    PushedTask,
    TaskInfo,
)
from poussetaches.core.queue import CALLBACKS_QUEUE, DEFAULT_QUEUE

MAX_ENDED_TASKS = 1000  # remembered for their handles; development needs no more

log = logging.getLogger(__name__)


class ImmediatePusher:
    """Runs the handler at once, a single time, in this process; for development without a server.

    Arguments and results are encoded and decoded as over HTTP. Delays, keys and retries have no
    effect. A failed task is dead, and the error is logged. Callbacks that are tasks run; other
    URLs, and the callbacks of queues, are not called.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._receiver = receiver
        self._clock = clock
        self._new_id = new_id
        self._ended: OrderedDict[str, TaskInfo] = OrderedDict()

    def push(self, task: NewTask) -> PushedTask:
        id, started_at = self._begin(task)
        reply = self._receiver.deliver(_request(task, id))
        pushed, callback = self._end(task, id, started_at, reply)
        if callback is not None:
            self.push(callback)
        return pushed

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        for task in tasks:
            self.push(task)

    async def apush(self, task: NewTask) -> PushedTask:
        id, started_at = self._begin(task)
        reply = await self._receiver.adeliver(_request(task, id))
        pushed, callback = self._end(task, id, started_at, reply)
        if callback is not None:
            await self.apush(callback)
        return pushed

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Do nothing: the task ends before anything could show it."""

    def get(self, id: str) -> TaskInfo:
        if id not in self._ended:
            raise NotFound(
                404,
                code="task-not-found",
                title="Not Found",
                detail="there is no task with this id",
            )
        return self._ended[id]

    def wait(self, id: str, timeout: float) -> TaskInfo:
        return self.get(id)

    async def aget(self, id: str) -> TaskInfo:
        return self.get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        return self.get(id)

    def _begin(self, task: NewTask) -> tuple[str, float]:
        if task.delay is not None or task.run_at is not None:
            log.info("immediate mode ignores delay and run_at; running %s now", task.url)
        return self._new_id(), self._clock()

    def _end(
        self, task: NewTask, id: str, started_at: float, reply: Reply
    ) -> tuple[PushedTask, NewTask | None]:
        """Remember an ended task; return it, and the push of its callback if that is a task."""
        info = _ended(task, id, started_at, self._clock(), reply)
        self._ended[id] = info
        while len(self._ended) > MAX_ENDED_TASKS:
            self._ended.popitem(last=False)
        url = task.on_success if info.state == "succeeded" else task.on_dead
        callback = _callback(url, info) if url and self._receiver.takes(url) else None
        return PushedTask(id=id, existing=False, task=info), callback


def _request(task: NewTask, id: str) -> IncomingRequest:
    headers = {
        "content-type": "application/json",
        "poussetaches-task-id": id,
        "poussetaches-queue": task.queue or DEFAULT_QUEUE,
        "poussetaches-attempt": "1",
        "poussetaches-round": "1",
        "poussetaches-request-id": id,
    }
    return IncomingRequest("POST", task.url, headers, msgspec.json.encode(task.json))


def _callback(url: str, info: TaskInfo) -> NewTask:
    [attempt] = info.attempts
    ended = EndedTask(
        id=info.id,
        queue=info.queue,
        state="succeeded" if info.state == "succeeded" else "dead",
        reason=info.reason,
        labels=info.labels,
        url=info.url,
        attempt_count=info.attempt_count,
        last_attempt=LastAttempt(
            number=attempt.number,
            request_id=attempt.request_id,
            started_at=attempt.started_at,
            duration=attempt.duration,
            status=attempt.status,
            error=info.last_error,
        ),
    )
    return NewTask(url=url, json=msgspec.to_builtins(ended), queue=CALLBACKS_QUEUE)


def _ended(task: NewTask, id: str, started_at: float, ended_at: float, reply: Reply) -> TaskInfo:
    succeeded = reply.status < HTTPStatus.MULTIPLE_CHOICES
    text = reply.body.decode()
    error = None if succeeded else text.strip()
    began, ended = (datetime.fromtimestamp(it, UTC) for it in (started_at, ended_at))
    attempt = {
        "round": 1,
        "number": 1,
        "request_id": id,
        "started_at": began,
        "duration": ended_at - started_at,
        "status": reply.status,
        "error": None,
        "response_body": text,
        "response_truncated": False,
        "auth_key": None,
        "node": None,
    }
    return msgspec.convert(
        {
            "id": id,
            "queue": task.queue or DEFAULT_QUEUE,
            "state": "succeeded" if succeeded else "dead",
            "reason": None if succeeded else "exhausted",
            "url": task.url,
            "method": "POST",
            "headers": {},
            "json": task.json,
            "priority": task.priority or 0,
            "expected": ["2xx"],
            "labels": task.labels or {},
            "created_at": began,
            "run_at": began,
            "ended_at": ended,
            "round": 1,
            "attempt_count": 1,
            "last_status": reply.status,
            "last_error": error,
            "attempts": [attempt],
        },
        TaskInfo,
    )
