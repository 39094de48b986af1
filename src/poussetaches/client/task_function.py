"""Task functions: called as before, or pushed to run later."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from poussetaches.client.arguments import (
    ArgumentError,
    Arguments,
    DefinitionError,
    Injected,
    UnknownType,
    resolve,
)
from poussetaches.client.handler_function import is_async
from poussetaches.client.options import (
    Callback,
    Options,
    PushOptionFields,
    RetryRule,
    push_options,
)
from poussetaches.client.push_handle import Pushed
from poussetaches.client.pusher import Pusher
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import PushedTask, TaskInfo
from poussetaches.client.task_names import source_of
from poussetaches.core.errors import PousseTachesError

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


RETRY_ALWAYS = RetryRule()


class Application(Protocol):
    """The part of ``Tasks`` that its task functions use."""

    def pusher(self) -> Pusher:
        """Return the current pusher."""

    def test_pusher(self) -> Pusher | None:
        """Return the pusher of the current test; None outside of tests."""

    def push_on_commit(self, task: NewTask) -> None:
        """Push a task once the current database transaction is committed.

        Raises:
            NoTransactions: the tasks belong to no framework with transactions.
        """

    def new_task(self, name: str, arguments: dict[str, object], options: Options) -> NewTask:
        """Return the push of a task."""


class NoTransactions(PousseTachesError):
    """push_on_commit requires tasks of poussetaches.django; otherwise, push after the commit."""


class TaskFunction(Generic[P, R_co]):
    """A handler that can be pushed. ``R_co`` is what it returns, or what awaiting it returns."""

    __name__: str

    def __init__(
        self,
        application: Application,
        function: Callable[P, object],
        *,
        name: str,
        options: Options,
        injected: Injected,
        retry_rule: RetryRule = RETRY_ALWAYS,
    ) -> None:
        functools.update_wrapper(cast("Callable[..., object]", self), function)
        self.name = name
        self.function = function
        self.source = source_of(function)
        self.default_options = options
        self.retry_rule = retry_rule
        self.is_async = is_async(function)
        self._application = application
        self._injected = injected

    def push(self, /, *args: P.args, **kwargs: P.kwargs) -> Pushed[R_co]:
        """Push the task, to run with these arguments.

        Raises:
            ArgumentError: one has the wrong type or no JSON; the error names it.
            PushFailed: the task was not pushed; the error has it.
        """
        return self.push_with(self.default_options, args, kwargs)

    async def apush(self, /, *args: P.args, **kwargs: P.kwargs) -> Pushed[R_co]:
        """Asynchronous version of ``push``."""
        return await self.apush_with(self.default_options, args, kwargs)

    def push_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Push the task once the current transaction is committed; never if it is rolled back.

        For tasks of ``poussetaches.django`` only. A push that fails after the commit is logged.

        Raises:
            ArgumentError: one has the wrong type or no JSON; the error names it.
            NoTransactions: the tasks belong to no framework with transactions.
        """
        self._application.push_on_commit(self.prepare(*args, **kwargs))

    def options(self, **given: Unpack[PushOptionFields]) -> PushOptions[P, R_co]:
        """Return the task with options for its pushes, which override those of its definition.

        ``delay`` and ``timeout`` are seconds; moments need a time zone.

        Raises:
            ArgumentError: an option has a value that every server refuses.
            DefinitionError: an option is unknown, or a callback is neither a URL nor a task of
                this application that takes one ``EndedTask``.
        """
        callbacks = {"on_success": given.get("on_success"), "on_dead": given.get("on_dead")}
        check_callbacks(self._application, **callbacks)
        options = push_options(self.name, given)
        return PushOptions(self, options.with_defaults(self.default_options))

    @functools.cached_property
    def arguments(self) -> Arguments:
        """The encoding of its arguments.

        Raises:
            DefinitionError: their types cannot be resolved.
        """
        return Arguments(self.function, injected=self._injected)

    @functools.cached_property
    def return_type(self) -> object:
        """The annotated return type.

        Raises:
            DefinitionError: it cannot be resolved.
        """
        return resolve(self.function, inspect.signature(self.function).return_annotation)

    def push_with(
        self, options: Options, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Pushed[R_co]:
        """Push the task with only these options, and arguments without static types."""
        pusher = self._application.pusher()
        pushed = pusher.push(self.new_task(options, args, kwargs))
        return Pushed(pushed, pusher=pusher, return_type=self._return_type)

    async def apush_with(
        self, options: Options, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Pushed[R_co]:
        """Asynchronous version of ``push_with``."""
        pusher = self._application.pusher()
        pushed = await pusher.apush(self.new_task(options, args, kwargs))
        return Pushed(pushed, pusher=pusher, return_type=self._return_type)

    def new_task(
        self, options: Options, args: tuple[object, ...] = (), kwargs: Mapping[str, object] = {}
    ) -> NewTask:
        """Return the task that a push would send.

        Raises:
            ArgumentError: an argument has the wrong type or no JSON.
        """
        try:
            sent = self.arguments.encode(args, kwargs)
        except ArgumentError as exc:
            raise ArgumentError(exc.argument, exc.reason, task=self.name) from exc
        return self._application.new_task(self.name, sent, options)

    def prepare(self, /, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """Return the task that ``push`` would send.

        Raises:
            ArgumentError: an argument has the wrong type or no JSON; the error names it.
        """
        return self.new_task(self.default_options, args, kwargs)

    def handle(self, id: str) -> Pushed[R_co]:
        """Return the handle of an earlier push, by its id; sends no request."""
        earlier = PushedTask(id, existing=True)
        return Pushed(earlier, pusher=self._application.pusher(), return_type=self._return_type)

    @property
    def application(self) -> Application:
        """The ``Tasks`` that it belongs to."""
        return self._application

    def _return_type(self, task: TaskInfo) -> object:
        return self.return_type

    def check(self) -> None:
        """Check the definition.

        Raises:
            DefinitionError: every push would fail.
        """
        with contextlib.suppress(UnknownType):  # its class may be defined later in the module
            self.arguments.check()

    def check_needs_nothing(self) -> None:
        """Check that the task can be pushed without arguments.

        Raises:
            DefinitionError: it has required arguments.
        """
        with contextlib.suppress(UnknownType):
            for name in self.arguments.required():
                raise DefinitionError(
                    f"argument {name}: @tasks.cron passes no arguments; add a default, or use"
                    " tasks.schedule(…, arguments={…})"
                )


class SyncTask(TaskFunction[P, R_co]):
    """A task whose handler is an ordinary function."""

    function: Callable[P, R_co]

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself."""
        return self.function(*args, **kwargs)


class AsyncTask(TaskFunction[P, R_co]):
    """A task whose handler is asynchronous."""

    function: Callable[P, Coroutine[Any, Any, R_co]]

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function itself; await the result."""
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class PushOptions(Generic[P, R_co]):
    """A task with options for its pushes."""

    task: TaskFunction[P, R_co]
    options: Options

    def push(self, /, *args: P.args, **kwargs: P.kwargs) -> Pushed[R_co]:
        """Push the task with these options; raises the same as its ``push``."""
        return self.task.push_with(self.options, args, kwargs)

    async def apush(self, /, *args: P.args, **kwargs: P.kwargs) -> Pushed[R_co]:
        """Asynchronous version of ``push``."""
        return await self.task.apush_with(self.options, args, kwargs)

    def push_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Push the task with these options once the current transaction is committed."""
        self.application.push_on_commit(self.prepare(*args, **kwargs))

    def prepare(self, /, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """Return the task that ``push`` would send; raises as the task's ``prepare``."""
        return self.task.new_task(self.options, args, kwargs)

    @property
    def application(self) -> Application:
        """The ``Tasks`` that its task belongs to."""
        return self.task.application


def check_callbacks(application: object, **callbacks: Callback | None) -> None:
    """Check that callbacks are URLs, or tasks of the application that take ``EndedTask``.

    Raises:
        DefinitionError: one is not; the error names it.
    """
    for name, callback in callbacks.items():
        if reason := _reason_not_to_call_back(application, callback):
            raise DefinitionError(f"{name}: {reason}")


def _reason_not_to_call_back(application: object, callback: object) -> str | None:
    if callback is None or isinstance(callback, str):
        return None
    if isinstance(callback, PushOptions):
        return f"push options do not apply to callbacks; use the task {callback.task.name} itself"
    if not isinstance(callback, TaskFunction):
        return f"{callback!r} is neither a URL nor a task; decorate the function with @tasks.task"
    if callback.application is not application:
        return f"{callback.name} belongs to another Tasks object; use its URL"
    if not callback.arguments.is_callback_body:
        return f"{callback.name} must take exactly one argument, annotated with EndedTask"
    return None


def check_is_task(subject: str, given: object) -> None:
    """Check that an object is a task, and not a function without the decorator.

    Raises:
        DefinitionError: it is neither a task nor one with options for its pushes.
    """
    if not isinstance(given, TaskFunction | PushOptions):
        raise DefinitionError(
            f"{subject}: {given!r} is not a task; decorate the function with @tasks.task"
        )
