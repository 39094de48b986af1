"""``RunBox``: runs an application's tasks within its test, in virtual time."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from poussetaches.client.argument_types import check_duration, checked
from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.client_pusher import ClientPusher
from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.environment import Keys
from poussetaches.client.request_fields import Filter
from poussetaches.client.results import TaskInfo
from poussetaches.client.task_function import TaskFunction, check_is_task
from poussetaches.client.tasks import Tasks
from poussetaches.core.moment import SECOND
from poussetaches.core.signature import secret_bytes
from poussetaches.testing.memory_server import (
    AsyncInProcessTransport,
    InProcessServer,
    InProcessTransport,
)

PATIENCE = 60.0  # seconds for a call, however slow the machine is


class RunBox:
    """A server of the test. Tasks run only during ``run_until_idle`` and ``advance``.

    Handlers run in the calling thread, one after another, through the application's test
    client.
    """

    def __init__(
        self, tasks: Tasks, server: InProcessServer, client: Client, errors: list[Exception]
    ) -> None:
        self._tasks = tasks
        self._server = server
        self._errors = errors
        self.client = client
        """A client of the server, for everything else; its ``wait`` returns at once."""

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return datetime.fromtimestamp(self._server.now() / SECOND, UTC)

    @property
    def errors(self) -> list[Exception]:
        """The exceptions of handlers so far, except RetryLater and GiveUp."""
        return list(self._errors)

    @property
    def dead(self) -> list[TaskInfo]:
        """The dead tasks, newest first."""
        return self.tasks(state="dead")

    def tasks(self, **filter: Unpack[Filter]) -> list[TaskInfo]:
        """Return the tasks that match a filter, newest first; by default all."""
        self._tasks.push_pending_in_test()
        return list(self.client.list(filter))

    def of(self, task: TaskFunction[..., Any]) -> list[TaskInfo]:
        """Return the tasks of one function, newest first."""
        check_is_task("of", task)
        url = f"{self._tasks.path}/{task.name}"
        return [found for found in self.tasks(url=url) if found.url == url]

    def run_until_idle(self) -> int:
        """Deliver due tasks, and the tasks that they push, without advancing the clock.

        Returns the number of attempts.

        Raises:
            TooManyAttempts: tasks push one another endlessly.
        """
        self._tasks.push_pending_in_test()
        return self._server.run_until_idle()

    @checked
    def advance(
        self,
        seconds: Seconds = 0.0,
        *,
        minutes: float = 0.0,
        hours: float = 0.0,
        days: float = 0.0,
    ) -> int:
        """Advance the clock, and deliver everything as it becomes due: retries, delays, schedules.

        Returns the number of attempts.

        Raises:
            ArgumentError: the time is negative, or not a number.
            TooManyAttempts: tasks push one another endlessly.
        """
        span = timedelta(seconds=in_seconds(seconds), minutes=minutes, hours=hours, days=days)
        check_duration("seconds", span)
        self._tasks.push_pending_in_test()
        return self._server.advance(span.total_seconds())


@contextmanager
def running(tasks: Tasks) -> Iterator[RunBox]:
    """Run an application's tasks in a server of the test."""
    key, secret = secrets.token_urlsafe(16), secrets.token_urlsafe(24)
    deliver = _delivery(tasks)
    with InProcessServer(deliver=deliver, auth_key=key, signing_secret=secret) as server:
        client = _Client(
            transport=InProcessTransport(server), timeout=PATIENCE, push_timeout=PATIENCE
        )
        async_client = AsyncClient(
            transport=AsyncInProcessTransport(server), timeout=PATIENCE, push_timeout=PATIENCE
        )
        errors: list[Exception] = []
        pusher = _Pusher(lambda: client, lambda: async_client)
        keys = Keys(
            auth_key=key,
            signing_secrets=(secret_bytes(secret),),
            clock=lambda: server.now() / SECOND,
        )
        with tasks.use(pusher, keys=keys, on_error=errors.append):
            tasks.declare(client)
            yield RunBox(tasks, server, client, errors)


def _delivery(tasks: Tasks) -> Callable[[IncomingRequest], Reply]:
    """Return a function that delivers, and then sends pushes that wait for a commit."""
    deliver = tasks.delivery_in_test()

    def deliver_and_settle(request: IncomingRequest) -> Reply:
        reply = deliver(request)
        tasks.push_pending_in_test()
        return reply

    return deliver_and_settle


class _Client(Client):
    """A client that never waits, because nothing runs meanwhile."""

    @checked
    def wait(self, id: str, timeout: Seconds) -> TaskInfo:
        return self.get(id)


class _Pusher(ClientPusher):
    """Pushes to the test's server; never waits, because nothing runs meanwhile."""

    def wait(self, id: str, timeout: float) -> TaskInfo:
        return self.get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        return await self.aget(id)
