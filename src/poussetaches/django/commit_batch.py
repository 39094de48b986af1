"""``push_on_commit``: push tasks after a commit, and never if the transaction is rolled back.

The pushes of a transaction are sent as one batch, so that an unreachable server delays a commit by
a single timeout.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, ParamSpec, get_args

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.errors import PushFailed, Refused
from poussetaches.client.pusher import Pusher
from poussetaches.client.request_fields import NewTask
from poussetaches.client.task_function import (
    Application,
    PushOptions,
    TaskFunction,
    check_is_task,
)
from poussetaches.core.errors import PousseTachesError

P = ParamSpec("P")
OnError = Literal["log", "raise"]
ON_ERROR = get_args(OnError)
WORDS = " or ".join(map(repr, ON_ERROR))

log = logging.getLogger(__name__)


def push_on_commit(
    task: TaskFunction[P, Any] | PushOptions[P, Any],
    *,
    on_error: OnError = "log",
    using: str = DEFAULT_DB_ALIAS,
) -> Callable[P, None]:
    """Return a function that pushes a task once the current transaction is committed.

    ``push_on_commit(send_welcome)(user.id)`` pushes nothing when the transaction is rolled back,
    and at once when there is none. Arguments are checked and encoded at the call. A push that
    fails, or is refused, after the commit is logged, or raised where the transaction ends.

    Raises:
        DefinitionError: it is not a task, for example a function without the decorator; or
            ``on_error`` or ``using`` has an unknown value.
    """
    check_is_task("push_on_commit", task)
    if on_error not in ON_ERROR:
        raise DefinitionError(f"push_on_commit: on_error={on_error!r} is not allowed: use {WORDS}")
    if using not in connections:
        names = " or ".join(map(repr, connections))
        raise DefinitionError(f"push_on_commit: using={using!r} is not a database: use {names}")

    def push(*args: P.args, **kwargs: P.kwargs) -> None:
        prepared = task.prepare(*args, **kwargs)
        push_prepared_on_commit(prepared, task.application, on_error=on_error, using=using)

    return push


def push_prepared_on_commit(
    task: NewTask,
    application: Application,
    *,
    on_error: OnError = "log",
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Push a task once the current transaction is committed, with the others of it."""
    waiting = PendingPush(task, application, application.test_pusher(), on_error)
    connection = connections[using]
    batch = _open_batch(connection)
    if batch is not None:
        batch.waiting.append(waiting)
        return
    transaction.on_commit(Batch(waiting, _outage_of(connection)), using=using)


class PendingPush(NamedTuple):
    """A push that is sent after a commit."""

    task: NewTask
    application: Application
    test_pusher: Pusher | None
    on_error: OnError

    @property
    def pusher(self) -> Pusher:
        """Its pusher: a push made in a test always uses that test's."""
        return self.test_pusher or self.application.pusher()


class Outage:
    """The error of a batch after a commit; the other batches are not sent then."""

    error: PushFailed | None = None


class Batch:
    """Pushes that are sent after the same commit.

    Pushes within a savepoint are a separate batch, which its rollback drops.
    """

    def __init__(self, first: PendingPush, outage: Outage) -> None:
        self.waiting = [first]
        self.outage = outage
        self.is_done = False

    def __call__(self) -> None:
        """Push everything once: Django's tests may run a callback and keep it registered."""
        waiting, self.waiting, self.is_done = self.waiting, [], True
        to_raise: PousseTachesError | None = None
        for pusher in dict.fromkeys(each.pusher for each in waiting):
            group = [each for each in waiting if each.pusher is pusher]
            for each, error in self._push(pusher, group):
                _log(each.task, error)
                if each.on_error == "raise":
                    to_raise = error
        if to_raise is not None:
            raise to_raise

    def _push(
        self, pusher: Pusher, group: Sequence[PendingPush]
    ) -> list[tuple[PendingPush, PousseTachesError]]:
        """Push tasks; return the failed ones, with the errors."""
        if self.outage.error is not None:
            return [(each, self.outage.error) for each in group]
        try:
            pusher.push_all([each.task for each in group])
        except PushFailed as exc:
            self.outage.error = exc
            return [(each, exc) for each in group]
        except Refused as exc:
            if len(group) == 1:
                return [(group[0], exc)]
            # The server refuses a batch as a whole: push them one by one.
            return [failed for each in group for failed in self._push(pusher, [each])]
        except PousseTachesError as exc:
            return [(each, exc) for each in group]
        return []


def push_pending() -> None:
    """Push what only waits for a transaction that Django's TestCase will roll back."""
    for connection in connections.all(initialized_only=True):
        if not all(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
            continue
        for batch in _batches(connection):
            batch()


def _open_batch(connection: BaseDatabaseWrapper) -> Batch | None:
    """Return the pending batch of the current transaction or savepoint, if any."""
    if any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        return None  # captureOnCommitCallbacks counts callbacks
    savepoints = set(connection.savepoint_ids)
    for entry in connection.run_on_commit:
        if isinstance(entry[1], Batch) and entry[0] == savepoints and not entry[1].is_done:
            return entry[1]
    return None


def _outage_of(connection: BaseDatabaseWrapper) -> Outage:
    """Return the outage that all batches of the current transaction share."""
    batches = _batches(connection)
    return batches[0].outage if batches else Outage()


def _batches(connection: BaseDatabaseWrapper) -> list[Batch]:
    return [entry[1] for entry in connection.run_on_commit if isinstance(entry[1], Batch)]


def _log(task: NewTask, error: PousseTachesError) -> None:
    # Without the arguments: they may be confidential.
    log.error(
        "task %s with %d bytes of arguments was not pushed after its commit: %s",
        task.url,
        len(msgspec.json.encode(task.json)),
        error,
    )
