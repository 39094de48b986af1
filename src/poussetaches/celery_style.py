"""Tasks with the API of Celery: ``.delay()``, ``.apply_async()`` and ``.s()``.

```python
@celery_style
@tasks.task(queue="mail")
def send_welcome(user_id: int) -> None: ...

send_welcome.delay(42)
```
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Generic, NoReturn, ParamSpec, TypedDict, TypeVar, Unpack, overload

from poussetaches.client.argument_types import checked
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.options import PushOptionFields, push_options
from poussetaches.client.push_handle import Pushed
from poussetaches.client.task_function import AsyncTask, SyncTask, TaskFunction, check_is_task
from poussetaches.core.errors import PousseTachesError

__all__ = ["CeleryStyle", "NotOffered", "Signature", "celery_style", "chain", "chord", "group"]

P = ParamSpec("P")
R = TypeVar("R")

NEXT = "push the next task at the end of the handler"
LINK = (
    f"{NEXT}, or, if it only reports the end, use on_success= in .options(), with a task function"
    " or a URL"
)
TOGETHER = (
    "push the tasks one by one; count the finished ones in your database, and push the next task"
    " from the last handler"
)
ELSEWHERE = {
    "link": LINK,
    "link_error": "use on_dead= in .options(), with a task function or a URL",
    "task_id": "the server assigns ids; use key= in .options() so that two pushes create one task",
    "time_limit": "use timeout= in .options(); the attempt then fails, but is not killed",
    "soft_time_limit": "use timeout= in .options(), and check current_task().deadline",
    "retry": "every push is retried for up to the client's push_timeout",
    "retry_policy": "every push is retried for up to the client's push_timeout",
    "headers": "use labels= in .options(), or add an argument to the task",
}
NOT_NEEDED = "it has no equivalent, and is not needed; remove it"
OF_BROKERS = (
    *("add_to_parent", "chain", "compression", "connection", "delivery_mode", "exchange"),
    *("group_id", "ignore_result", "immediate", "link_args", "mandatory", "parent_id", "producer"),
    *("publisher", "reply_to", "root_id", "router", "routing_key", "serializer", "shadow"),
)
INSTEAD: Mapping[str, str] = {**dict.fromkeys(OF_BROKERS, NOT_NEEDED), **ELSEWHERE}


class NotOffered(PousseTachesError):
    """A feature of Celery is not supported; the message names an alternative."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"{what}: {instead}")


class When(TypedDict, total=False):
    """Options of ``apply_async`` besides the arguments.

    ``countdown`` and, as a number, ``expires`` are seconds; moments have a time zone.
    """

    countdown: Seconds | None
    eta: datetime | None
    expires: Seconds | datetime | None
    queue: str | None
    priority: int | None


class CeleryStyle(TaskFunction[P, R]):
    """A task with Celery's methods."""

    def __init__(
        self, task: TaskFunction[P, R], *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(
            task._application,
            task.function,
            name=task.name,
            options=task.default_options,
            injected=task._injected,
        )
        self.task = task
        self._clock = clock

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Pushed[R]:
        """Push the task."""
        return self.push(*args, **kwargs)

    @checked
    def apply_async(
        self,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        **when: Unpack[When],
    ) -> Pushed[R]:
        """Push the task with options.

        Raises:
            NotOffered: an option of Celery has no equivalent, or the option is unknown.
            ArgumentError: an argument has the wrong type or no JSON; the error names it.
            PushFailed: the task was not pushed; the error has it.
        """
        check_options(when)
        expires = when.get("expires")
        if isinstance(expires, int | float | timedelta):
            now = datetime.fromtimestamp(self._clock(), UTC)
            expires = now + timedelta(seconds=in_seconds(expires))
        given: PushOptionFields = {
            "delay": when.get("countdown"),
            "run_at": when.get("eta"),
            "expires_at": expires,
            "queue": when.get("queue"),
            "priority": when.get("priority"),
        }
        options = push_options(self.name, given)
        return self.push_with(
            options.with_defaults(self.default_options), tuple(args or ()), kwargs or {}
        )

    def s(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return the task with all its arguments, to be pushed later."""
        return Signature(self, args, kwargs)

    si = s


class SyncCeleryStyle(CeleryStyle[P, R], SyncTask[P, R]):
    """A task whose handler is an ordinary function."""


class AsyncCeleryStyle(CeleryStyle[P, R], AsyncTask[P, R]):
    """A task whose handler is asynchronous."""


class Signature(Generic[R]):
    """A task with its arguments and push options."""

    def __init__(
        self,
        task: CeleryStyle[Any, R],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        when: When | None = None,
    ) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs
        self._when: When = when or {}

    def delay(self) -> Pushed[R]:
        """Push it."""
        return self.apply_async()

    def apply_async(self, **when: Unpack[When]) -> Pushed[R]:
        """Push it with options, which override those of ``set``; raises the same as the task's."""
        merged: When = {**self._when, **when}
        return self._task.apply_async(self._args, self._kwargs, **merged)

    def set(self, **when: Unpack[When]) -> Signature[R]:
        """Return it with push options.

        Raises:
            NotOffered: an option of Celery has no equivalent, or the option is unknown.
        """
        check_options(when)
        return Signature(self._task, self._args, self._kwargs, {**self._when, **when})

    def __or__(self, other: object) -> NoReturn:
        chain(self, other)


def check_options(given: Iterable[str]) -> None:
    """Check the names of options of ``apply_async``.

    Raises:
        NotOffered: one is of Celery alone, or unknown.
    """
    known = When.__annotations__
    for name in given:
        if name in known:
            continue
        if name in INSTEAD:
            raise NotOffered(name, INSTEAD[name])
        similar = get_close_matches(name, [*known, *INSTEAD], n=1)
        advice = (
            f"did you mean {similar[0]}?" if similar else f"the options are {', '.join(known)}"
        )
        raise NotOffered(name, f"apply_async has no such option; {advice}")


@overload
def celery_style(task: AsyncTask[P, R], /) -> AsyncCeleryStyle[P, R]: ...


@overload
def celery_style(task: SyncTask[P, R], /) -> SyncCeleryStyle[P, R]: ...


def celery_style(task: TaskFunction[P, R], /) -> CeleryStyle[P, R]:
    """Add Celery's methods to a task; a decorator above ``@tasks.task``."""
    check_is_task("celery_style", task)
    return AsyncCeleryStyle(task) if task.is_async else SyncCeleryStyle(task)


def chain(*signatures: object) -> NoReturn:
    """Raise NotOffered: each task pushes the next one.

    Raises:
        NotOffered: always.
    """
    raise NotOffered("chain", NEXT)


def group(*signatures: object) -> NoReturn:
    """Raise NotOffered: push tasks one by one.

    Raises:
        NotOffered: always.
    """
    raise NotOffered("group", "push them one by one, or together with Client.push_many")


def chord(*signatures: object) -> NoReturn:
    """Raise NotOffered: nothing waits for several tasks.

    Raises:
        NotOffered: always.
    """
    raise NotOffered("chord", TOGETHER)
