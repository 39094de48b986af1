"""Handles deliveries in the application: finds the handler, runs it, and responds."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Protocol

import msgspec

from poussetaches import __version__
from poussetaches.client.arguments import ArgumentError, Bound, DefinitionError
from poussetaches.client.codec import CodecError, encode_json
from poussetaches.client.current_task import CurrentTask, running
from poussetaches.client.delivery_auth import IncomingRequest, Intake, Reply, admit, text_reply
from poussetaches.client.environment import Keys
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.handler_guard import HandlerStopped, call_guarded
from poussetaches.client.progress_reporter import ProgressReporter
from poussetaches.client.results import ProgressReport
from poussetaches.client.task_function import TaskFunction
from poussetaches.core.probe_answer import (
    MOST_QUEUES,
    MOST_WARNINGS,
    DeclarationStatus,
    ProbeAnswer,
    shortened,
)
from poussetaches.core.progress_report import ATTEMPT_TOKEN

MAX_ERROR_LENGTH = 500  # characters; the server shows the first line of an answer
PROBE = "_check"  # reserved for `poussetaches check`

_NUMBER = re.compile("[0-9]{1,9}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """An attempt that is about to start."""

    function: TaskFunction[..., object]
    bound: Bound
    current: CurrentTask

    def call(self, /, **injected: object) -> object:
        """Call the handler with injected arguments; an async one is not awaited yet.

        Raises:
            Exception: the handler raised it; HandlerStopped replaces SystemExit and similar ones.
        """
        function = self.function
        handler = partial(function.function, *self.bound.args, **self.bound.kwargs, **injected)
        return call_guarded(handler, in_test=function.application.test_pusher() is not None)


class Registry(Protocol):
    """The tasks that can be delivered."""

    @property
    def path(self) -> str:
        """The common prefix of all task paths, without a slash at the end."""

    def __len__(self) -> int: ...

    def find(self, name: str) -> TaskFunction[..., object] | None:
        """Return the task with this name or alias; None if there is none."""

    def keys(self) -> Keys:
        """Return the credentials that callers must send.

        Raises:
            SettingsError: a setting is invalid.
        """

    def timeout_of(self, function: TaskFunction[..., object], queue: str) -> float | None:
        """Return the timeout of an attempt in a queue of the server, if the code sets it."""

    def max_retry_after_of(self, function: TaskFunction[..., object], queue: str) -> float:
        """Return the longest wait in seconds that a handler can request."""

    def misspelt_queues(self) -> Sequence[str]:
        """Return a warning for each queue whose name looks misspelt."""

    def used_queues(self) -> Sequence[str]:
        """Return the server's queues that the code's tasks and callbacks are pushed to."""

    def declaration_status(self) -> DeclarationStatus:
        """Return the state of this process's declaration of queues and schedules."""

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt; raises the same as ``Pusher``."""

    def note_error(self, exc: Exception) -> None:
        """Record an exception of a handler, other than RetryLater and GiveUp."""


def call(delivery: Delivery) -> object:
    """Call a handler from synchronous code."""
    return delivery.call()


async def acall(delivery: Delivery, /, **injected: object) -> object:
    """Call a handler from asynchronous code: a synchronous one in a thread."""
    if delivery.function.is_async:
        return delivery.call(**injected)
    return await asyncio.to_thread(partial(delivery.call, **injected))


class Receiver:
    """Responds to deliveries. Frameworks provide the functions that call handlers."""

    def __init__(
        self,
        tasks: Registry,
        *,
        call: Callable[[Delivery], object] = call,
        acall: Callable[[Delivery], Awaitable[object]] = acall,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tasks = tasks
        self._call = call
        self._acall = acall
        self._clock = clock

    def takes(self, path: str) -> bool:
        """Return whether a request to this path is a delivery."""
        return path.startswith(self._tasks.path + "/")

    def admit(self, head: IncomingRequest) -> Intake:
        """Check the head of a request; return the intake for its body."""
        return admit(head, keys=self._tasks.keys, clock=self._clock)

    def finish(self, intake: Intake) -> Reply:
        """Run the handler of an admitted request; refuse others.

        Raises nothing that a handler raises.
        """
        request = intake.end()
        return request if isinstance(request, Reply) else self.deliver(request)

    async def afinish(self, intake: Intake) -> Reply:
        """Asynchronous version of ``finish``."""
        request = intake.end()
        return request if isinstance(request, Reply) else await self.adeliver(request)

    def run(self, request: IncomingRequest) -> Reply:
        """Respond to a request with its complete body."""
        return self.finish(self._read_request(request))

    async def arun(self, request: IncomingRequest) -> Reply:
        """Asynchronous version of ``run``."""
        return await self.afinish(self._read_request(request))

    def deliver(self, request: IncomingRequest) -> Reply:
        """Run the handler of a request that needs no authentication."""
        delivery = self._prepare(request)
        if isinstance(delivery, Reply):
            return delivery
        try:
            with running(delivery.current):
                value = self._call(delivery)
                if inspect.isawaitable(value):
                    value = run_to_end(value)
        except Exception as exc:  # any exception of a handler is an outcome of the attempt
            return self._failed(delivery, exc)
        finally:
            delivery.current.reporter.finish()
        return _succeeded(delivery, value)

    async def adeliver(self, request: IncomingRequest) -> Reply:
        """Asynchronous version of ``deliver``."""
        delivery = self._prepare(request)
        if isinstance(delivery, Reply):
            return delivery
        try:
            with running(delivery.current):
                value = await self._acall(delivery)
                if inspect.isawaitable(value):
                    value = await value
        except Exception as exc:  # any exception of a handler is an outcome of the attempt
            return self._failed(delivery, exc)
        finally:
            await delivery.current.reporter.afinish()
        return _succeeded(delivery, value)

    def _read_request(self, request: IncomingRequest) -> Intake:
        intake = self.admit(request)
        intake.feed(request.body)
        return intake

    def _prepare(self, request: IncomingRequest) -> Delivery | Reply:
        name = request.path.removeprefix(self._tasks.path + "/")
        if request.method != "POST":
            reply = text_reply(HTTPStatus.METHOD_NOT_ALLOWED, "only POST is allowed")
            return Reply(reply.status, reply.body, {**reply.headers, "Allow": "POST"})
        if name == PROBE:
            status = shortened(self._tasks.declaration_status())
            queues = tuple(self._tasks.used_queues()[:MOST_QUEUES])
            warnings = tuple(self._tasks.misspelt_queues()[:MOST_WARNINGS])
            return _json(ProbeAnswer(__version__, len(self._tasks), status, queues, warnings))
        function = self._tasks.find(name)
        if function is None:
            log.warning("delivery refused: there is no task %r", name)
            return text_reply(HTTPStatus.NOT_FOUND, f"there is no task {name!r}")
        try:
            bound = function.arguments.decode(request.body)
        except ArgumentError as exc:
            log.warning("delivery refused: task %s: %s", function.name, exc)
            return text_reply(HTTPStatus.UNPROCESSABLE_ENTITY, str(exc))
        except DefinitionError as exc:
            log.error("delivery refused: %s", exc)
            return text_reply(HTTPStatus.INTERNAL_SERVER_ERROR, str(exc))
        return Delivery(function, bound, self._current(function, request))

    def _current(
        self, function: TaskFunction[..., object], request: IncomingRequest
    ) -> CurrentTask:
        queue = request.header("poussetaches-queue") or ""
        timeout = self._tasks.timeout_of(function, queue)
        arrived_at = datetime.fromtimestamp(self._clock(), UTC)
        return CurrentTask(
            id=request.header("poussetaches-task-id") or "",
            name=function.name,
            queue=queue,
            attempt=_number(request.header("poussetaches-attempt")),
            round=_number(request.header("poussetaches-round")),
            request_id=request.header("poussetaches-request-id") or "",
            deadline=None if timeout is None else arrived_at + timedelta(seconds=timeout),
            reporter=self._reporter(request),
        )

    def _reporter(self, request: IncomingRequest) -> ProgressReporter:
        id, token = request.header("poussetaches-task-id"), request.header(ATTEMPT_TOKEN)
        if id is None or token is None:  # from an older server, or not from a server
            return ProgressReporter(None)
        return ProgressReporter(partial(self._tasks.report_progress, id, token))

    def _failed(self, delivery: Delivery, exc: Exception) -> Reply:
        current = delivery.current
        about = (current.name, current.id, current.attempt)
        if isinstance(exc, GiveUp):
            log.warning("task %s (%s) gave up at attempt %d: %s", *about, exc)
            reply = text_reply(HTTPStatus.INTERNAL_SERVER_ERROR, _line(str(exc)))
            return Reply(reply.status, reply.body, {**reply.headers, "Poussetaches-Retry": "no"})
        if isinstance(exc, RetryLater):
            self._note_wait(delivery, exc.after)
            reply = text_reply(HTTPStatus.SERVICE_UNAVAILABLE, _line(str(exc)))
            after = str(math.ceil(exc.after))
            return Reply(reply.status, reply.body, {**reply.headers, "Retry-After": after})
        raised = exc.raised if isinstance(exc, HandlerStopped) else exc
        gives_up = delivery.function.retry_rule.gives_up_on(exc)
        event = "gave up" if gives_up else "failed"
        log.error("task %s (%s) %s at attempt %d", *about[:2], event, about[2], exc_info=raised)
        self._tasks.note_error(exc)
        line = _line(f"{type(raised).__name__}: {raised}")
        reply = text_reply(HTTPStatus.INTERNAL_SERVER_ERROR, line)
        headers = {"Poussetaches-Retry": "no"} if gives_up else {}
        return Reply(reply.status, reply.body, {**reply.headers, **headers})

    def _note_wait(self, delivery: Delivery, after: float) -> None:
        current = delivery.current
        log.info("task %s (%s) asks for a retry in %g s", current.name, current.id, after)
        longest = self._tasks.max_retry_after_of(delivery.function, current.queue)
        if after > longest:
            log.warning(
                "task %s asks for a retry in %g s, but max_retry_after limits the wait to %g s",
                current.name,
                after,
                longest,
            )


def _succeeded(delivery: Delivery, value: object) -> Reply:
    try:
        return Reply(HTTPStatus.OK, encode_json(value), {"Content-Type": "application/json"})
    except CodecError as exc:
        # The work is done: a failure here would repeat it.
        log.warning("task %s: its return value was not sent: %s", delivery.function.name, exc)
        return Reply(HTTPStatus.OK)


def _number(text: str | None) -> int:
    return int(text) if text and _NUMBER.fullmatch(text) else 1


def _line(text: str) -> str:
    return (text.splitlines() or [""])[0][:MAX_ERROR_LENGTH]


def _json(value: object) -> Reply:
    return Reply(HTTPStatus.OK, msgspec.json.encode(value), {"Content-Type": "application/json"})


def _run(awaitable: Awaitable[object]) -> object:
    return asyncio.run(awaited(awaitable))


def run_to_end(
    awaitable: Awaitable[object], *, run: Callable[[Awaitable[object]], object] = _run
) -> object:
    """Run the awaitable of an asynchronous handler from synchronous code.

    ``run`` does so if no event loop is running.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run(awaitable)
    # The caller is synchronous code within a loop, which another loop must not interrupt.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, _run, awaitable).result()


async def awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
