"""``push_on_commit``: tasks that are pushed when the transaction is committed, or else never."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, ParamSpec

import msgspec
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from poussetaches.client.function import PushOptions, TaskFunction
from poussetaches.client.results import NewTask
from poussetaches.core.errors import PousseTachesError

P = ParamSpec("P")
OnError = Literal["log", "raise"]

log = logging.getLogger(__name__)


def push_on_commit(
    task: TaskFunction[P, Any] | PushOptions[P, Any],
    *,
    on_error: OnError = "log",
    using: str = DEFAULT_DB_ALIAS,
) -> Callable[P, None]:
    """Return what pushes a task once the transaction under way is committed.

    ``push_on_commit(send_welcome)(user.id)`` pushes nothing when the transaction is rolled back,
    and at once when there is none. Arguments are checked and encoded at the call. A push that
    fails, or is refused, after the commit is logged, or raised where the transaction ends.
    """

    def push(*args: P.args, **kwargs: P.kwargs) -> None:
        waiting = Waiting(task, task.prepare(*args, **kwargs), on_error)
        transaction.on_commit(waiting, using=using)

    return push


class Waiting:
    """A push that waits for a commit."""

    def __init__(
        self,
        task: TaskFunction[..., Any] | PushOptions[..., Any],
        prepared: NewTask,
        on_error: OnError,
    ) -> None:
        self._task = task
        self._prepared = prepared
        self._on_error = on_error

    def __call__(self) -> None:
        """Push."""
        try:
            self._task.push_prepared(self._prepared)
        except PousseTachesError as exc:  # refusals too: what was written is committed
            if self._on_error == "raise":
                raise
            # Not what the arguments are: they may be nobody's business.
            size = len(msgspec.json.encode(self._prepared.json))
            log.error(
                "task %s with %d bytes of arguments was not pushed after its commit: %s",
                self._prepared.url,
                size,
                exc,
            )


def settle() -> None:
    """Push what waits for nothing but a transaction that Django's TestCase will roll back."""
    for connection in connections.all(initialized_only=True):
        if not all(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
            continue
        ours = [entry for entry in connection.run_on_commit if isinstance(entry[1], Waiting)]
        connection.run_on_commit = [it for it in connection.run_on_commit if it not in ours]
        for entry in ours:
            entry[1]()
