"""``Tasks``: the task functions, schedules and queues of an application."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from poussetaches.client.argument_types import checked
from poussetaches.client.arguments import DefinitionError
from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.client_pusher import ClientPusher
from poussetaches.client.declaration_sender import Background, DeclaringClient, declare
from poussetaches.client.declarations import Declarations, check_expression
from poussetaches.client.definition_options import (
    Misfire,
    Overlap,
    Schedule,
    TaskDecorator,
)
from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.durations import Seconds
from poussetaches.client.environment import (
    API_TOKEN,
    AUTH_KEY,
    MODE,
    PUBLIC_PREFIX,
    SIGNING_SECRET,
    URL,
    Keys,
    Mode,
    check_variables,
    read_mode,
    read_public_prefix,
    read_secret,
    read_signing_secrets,
)
from poussetaches.client.handler_function import is_async, reason_not_to_run
from poussetaches.client.immediate_pusher import ImmediatePusher
from poussetaches.client.installation import warn_of_original
from poussetaches.client.options import (
    Options,
    TaskOptions,
    aliases_of,
    default_options,
    retry_rule,
)
from poussetaches.client.push_handle import Pushed
from poussetaches.client.pusher import Pusher, Replacement
from poussetaches.client.receiver import Receiver
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo
from poussetaches.client.task_function import (
    AsyncTask,
    NoTransactions,
    SyncTask,
    TaskFunction,
    check_callbacks,
)
from poussetaches.client.task_names import name_of
from poussetaches.client.task_registry import TaskRegistry
from poussetaches.core.errors import SettingsError
from poussetaches.core.probe_answer import DeclarationStatus

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Tasks(Declarations):
    """The tasks of one application.

    The first push or delivery reads the environment and opens connections.
    ``name`` distinguishes applications on the same server: it prefixes the names of queues and
    schedules. ``version`` increases with each release, so that an older release does not undo the
    schedules of a newer one. ``base_url`` precedes the paths of the tasks, if the server's own
    setting is for another application. ``public_prefix`` is the path that a proxy removes from
    the requests that it forwards.
    """

    @checked
    def __init__(
        self,
        *,
        name: str | None = None,
        version: int | None = None,
        base_url: str | None = None,
        url: str | None = None,
        token: str | None = None,
        auth_key: str | None = None,
        signing_secrets: str | None = None,
        public_prefix: str | None = None,
        client: Client | None = None,
        async_client: AsyncClient | None = None,
        path: str = "/_poussetaches",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        warn_of_original()
        self._registry = TaskRegistry()
        super().__init__(
            name=name,
            version=version,
            base_url=base_url,
            path=path,
            functions=self._registry,
        )
        self._url = url
        self._token = token
        self._auth_key = auth_key
        self._signing_secrets = signing_secrets
        self._public_prefix = public_prefix
        self._client = client
        self._async_client = async_client
        self._environ = environ
        self._replaced: list[Replacement] = []
        self._pusher: Pusher | None = None
        self._lock = threading.Lock()
        self._background = Background(self._declare_now)

    @overload
    def task(  # type: ignore[overload-overlap]  # an async one fits both; the first wins
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...

    @overload
    def task(self, **options: Unpack[TaskOptions]) -> TaskDecorator: ...

    def task(
        self, function: Callable[..., object] | None = None, **options: Unpack[TaskOptions]
    ) -> object:
        """Make a function a task: ``@tasks.task`` or ``@tasks.task(queue="mail")``.

        Its name is ``module.function`` unless ``name`` is given; ``aliases`` are its former names,
        under which tasks may still be waiting. ``timeout`` is in seconds.

        Raises:
            DefinitionError: the name is used or invalid, no push can ever succeed, or a callback
                is neither a URL nor a task that takes one ``EndedTask``.
        """

        def decorate(function: Callable[..., Any], /) -> TaskFunction[..., Any]:
            return self._add(function, **options)

        return decorate if function is None else decorate(function)

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        misfire: Misfire | None = None,
        misfire_grace: Seconds | None = None,
        overlap: Overlap | None = None,
        **options: Unpack[TaskOptions],
    ) -> TaskDecorator:
        """Make a function a task that also runs at the times of an expression.

        The schedule has the task's name. ``misfire_grace`` and ``timeout`` are in seconds.

        Raises:
            DefinitionError: as in ``task``; or the function has required arguments, or every
                server refuses the expression, the time zone or another value.
        """
        if callable(expression):
            raise DefinitionError(
                '@tasks.cron needs an expression, as in @tasks.cron("0 6 * * *", timezone="UTC")'
            )
        check_expression(expression, timezone)

        def decorate(function: Callable[..., Any], /) -> Any:
            task = self._add(function, **options)
            task.check_needs_nothing()
            self._add_schedule(
                Schedule(
                    task.name, task, {}, expression, timezone, misfire, misfire_grace, overlap
                )
            )
            return task

        return decorate

    def is_injected(self, parameter: Parameter, hint: object) -> bool:
        """Return whether the framework injects a parameter; injected ones are never sent."""
        return False

    def __len__(self) -> int:
        return len(self._registry)

    def __iter__(self) -> Iterator[TaskFunction[..., Any]]:
        return iter(self._registry)

    def find(self, name: str) -> TaskFunction[..., Any] | None:
        """Return the task with this name or alias; None if there is none."""
        return self._registry.find(name)

    def keys(self) -> Keys:
        """Return the credentials that callers must send, from the arguments or the settings.

        Raises:
            SettingsError: a setting is invalid.
        """
        if self._replaced and (keys := self._replaced[-1].keys) is not None:
            return keys
        self.check_settings()
        secrets = self._signing_secrets or self.setting(SIGNING_SECRET)
        prefix = self._public_prefix or self.setting(PUBLIC_PREFIX)
        return Keys(
            auth_key=self._auth_key or self.setting(AUTH_KEY),
            signing_secrets=read_signing_secrets(secrets),
            public_prefix=read_public_prefix(prefix),
        )

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt to the current pusher."""
        self.pusher().report_progress(id, token, report)

    def note_error(self, exc: Exception) -> None:
        """Report an exception of a handler to the current test, if any."""
        if self._replaced and (on_error := self._replaced[-1].on_error) is not None:
            on_error(exc)

    def receiver(self) -> Receiver:
        """Return the receiver of deliveries."""
        return Receiver(self)

    def pusher(self) -> Pusher:
        """Return the current pusher; without POUSSETACHES_MODE, it pushes to the server."""
        if (pusher := self.test_pusher()) is not None:
            return pusher
        with self._lock:
            if self._pusher is None:
                self._pusher = self._make_pusher()
            return self._pusher

    def test_pusher(self) -> Pusher | None:
        """Return the pusher of the current test; None outside of tests."""
        return self._replaced[-1].pusher if self._replaced else None

    def push_on_commit(self, task: NewTask) -> None:
        """Push a task once the current database transaction is committed.

        Raises:
            NoTransactions: the tasks belong to no framework with transactions.
        """
        raise NoTransactions

    @contextmanager
    def use(
        self,
        pusher: Pusher,
        *,
        keys: Keys | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> Iterator[None]:
        """Replace the pusher within the block, in all threads; for tests.

        ``keys`` replaces the credentials that callers must send; ``on_error`` is called with the
        exceptions of handlers. Nothing is declared meanwhile.
        """
        self._replaced.append(Replacement(pusher, keys, on_error))
        try:
            yield
        finally:
            self._replaced.pop()

    def handle(self, id: str) -> Pushed[Any]:
        """Return the handle of an earlier push, by its id; sends no request.

        The result has the return type of the function if this application defines it.
        """

        def return_type(task: TaskInfo) -> object:
            function = self.find(task.url.removeprefix(self.path + "/"))
            return Any if function is None else function.return_type

        earlier = PushedTask(id, existing=True)
        return Pushed(earlier, pusher=self.pusher(), return_type=return_type)

    def new_task(self, name: str, arguments: dict[str, object], options: Options) -> NewTask:
        """Return the push of a task."""
        given = options.given
        fields: dict[str, Any] = {
            **given,
            "queue": self.queue_name(given.get("queue")),
            "on_success": self.callback_url(given.get("on_success")),
            "on_dead": self.callback_url(given.get("on_dead")),
        }
        labels = dict(given.get("labels") or {})
        if self.name:
            labels = {"app": self.name, **labels}
        fields["labels"] = labels or None
        return NewTask(url=f"{self.path}/{name}", json=arguments, **fields)

    def delivery_in_test(self) -> Callable[[IncomingRequest], Reply]:
        """Return a function that delivers through the application's test client."""
        return self.receiver().run

    def push_pending_in_test(self) -> None:
        """Push what waits for a transaction that the test never commits."""

    def declare(self, client: DeclaringClient) -> None:
        """Declare the queues and schedules to the server.

        A refusal does not affect the rest.

        Raises:
            DeclarationRefused: the server refused some of them.
            ClientError: the server did not respond, or cannot store them at the moment.
        """
        for warning in self.misspelt_queues():
            log.warning(warning)
        declare(client, self.declaration())

    def declare_in_background(self) -> threading.Thread | None:
        """Declare in a thread, once per process, and retry until it succeeds.

        Returns the thread; None if this process started one before, or the pusher is replaced.
        """
        return self._background.start() if self.has_server() else None

    def declaration_status(self) -> DeclarationStatus:
        """Return the state of this process's declaration in the background."""
        return self._background.status

    def has_server(self) -> bool:
        """Return whether deliveries come from a server; not in tests and in immediate mode."""
        try:
            return not self._replaced and self.mode() is not Mode.IMMEDIATE
        except SettingsError:
            return True  # each request would fail; the thread says once what is wrong

    def setting(self, name: str) -> str | None:
        """Return a setting by the name of its environment variable; frameworks override it."""
        return read_secret(self._environ, name)

    def check_settings(self) -> None:
        """Log the settings that look misspelt, each once."""
        check_variables(self._environ)

    def mode(self) -> Mode:
        """Return the mode of pushes.

        Raises:
            SettingsError: the mode is unknown.
        """
        return read_mode(self.setting(MODE))

    def client(self) -> Client:
        """Return the client for pushes; by default, it is configured by the environment."""
        if self._client is None:
            self._client = Client(
                self._url or self.setting(URL), token=self._token or self.setting(API_TOKEN)
            )
        return self._client

    def async_client(self) -> AsyncClient:
        """Return the client for pushes from asynchronous code."""
        if self._async_client is None:
            self._async_client = AsyncClient(
                self._url or self.setting(URL), token=self._token or self.setting(API_TOKEN)
            )
        return self._async_client

    def _make_pusher(self) -> Pusher:
        self.check_settings()
        if self.mode() is Mode.IMMEDIATE:
            return ImmediatePusher(self.receiver())
        return ClientPusher(self.client, self.async_client, routing=self.routed_queue)

    def _declare_now(self) -> None:
        self.mode()
        self.declare(self.client())

    def _add(
        self, function: Callable[..., Any], **options: Unpack[TaskOptions]
    ) -> TaskFunction[..., Any]:
        if isinstance(function, TaskFunction):
            raise DefinitionError(f"{function.name} is already a task")
        name = options.get("name") or name_of(function)
        check_callbacks(self, on_success=options.get("on_success"), on_dead=options.get("on_dead"))
        if reason := reason_not_to_run(function):
            raise DefinitionError(f"{name} cannot be a task: {reason}")
        pushed_with = default_options(name, options)
        kind: type[TaskFunction[..., Any]] = AsyncTask if is_async(function) else SyncTask
        task = kind(
            self,
            function,
            name=name,
            options=pushed_with,
            injected=self.is_injected,
            retry_rule=retry_rule(options),
        )
        self._registry.add(task, aliases_of(options))
        return task
