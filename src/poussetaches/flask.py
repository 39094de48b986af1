"""Tasks of a Flask application."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click
from flask import Flask, current_app, has_app_context
from flask.cli import AppGroup

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.current_task import TaskLogFilter, current_task
from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.environment import VARIABLES, warn_of_misspelt
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.push_handle import Pushed
from poussetaches.client.receiver import Delivery, Receiver, run_to_end
from poussetaches.client.results import EndedTask
from poussetaches.client.sync_command import sync as sync_tasks
from poussetaches.client.tasks import Tasks as ClientTasks
from poussetaches.client.wsgi import WsgiReceiver
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.setting_names import PREFIX

if TYPE_CHECKING:
    from poussetaches.client.client import AsyncClient, Client

__all__ = [
    "EndedTask",
    "GiveUp",
    "Pushed",
    "RetryLater",
    "TaskLogFilter",
    "Tasks",
    "current_task",
]

EXTENSION = "poussetaches"


class Arguments(TypedDict, total=False):
    """Arguments of ``Tasks`` besides the application."""

    name: str | None
    version: int | None
    base_url: str | None
    url: str | None
    token: str | None
    auth_key: str | None
    signing_secrets: str | None
    public_prefix: str | None
    client: Client | None
    async_client: AsyncClient | None
    path: str
    environ: Mapping[str, str]


class Tasks(ClientTasks):
    """The tasks of a Flask application, which is given here or to ``init_app``.

    Handlers run in an application context. Settings that are not arguments are read from the
    application's ``config``, then from the environment.
    """

    def __init__(self, app: Flask | None = None, **arguments: Unpack[Arguments]) -> None:
        super().__init__(**arguments)
        self._given_clients = (self._client, self._async_client)
        self._app: Flask | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Mount the receiver outside of the application's own request handling.

        Middleware that wraps ``app.wsgi_app`` later is outside of the receiver. If a factory
        makes several applications, as for tests, the settings of the last one apply.

        Raises:
            DefinitionError: the application has other tasks already, or is not a Flask
                application.
        """
        if not isinstance(app, Flask):
            raise DefinitionError(
                f"{app!r} is not a Flask application; pass one to Tasks(…) or init_app"
            )
        there = app.extensions.get(EXTENSION)
        if there not in (None, self):
            raise DefinitionError(
                f"the application {app.name} already has a Tasks object; use a single one"
            )
        self._app = app
        self._client, self._async_client = self._given_clients
        self._pusher = None
        if there is None:
            app.extensions[EXTENSION] = self
            self._mount(app)

    def receiver(self) -> Receiver:
        """Return the receiver for deliveries without a request, as in immediate mode."""
        app = self._running_app()
        return super().receiver() if app is None else self._receiver_in(app)

    def delivery_in_test(self) -> Callable[[IncomingRequest], Reply]:
        """Return a function that delivers through the application's test client."""
        app = self._running_app()
        return super().delivery_in_test() if app is None else partial(_deliver_in_test, app)

    def setting(self, name: str) -> str | None:
        """Return a setting of the application's configuration, or of the environment."""
        configured: Any = None if self._app is None else self._app.config.get(name)
        return super().setting(name) if configured in (None, "") else str(configured)

    def check_settings(self) -> None:
        """Log the settings that look misspelt or are unknown, each once."""
        super().check_settings()
        for name in () if self._app is None else self._app.config:
            if name.startswith(PREFIX) and name not in VARIABLES:
                warn_of_misspelt(name, "in the configuration of Flask,")

    def _mount(self, app: Flask) -> None:
        def on_request() -> None:
            if not app.testing:  # the application's tests have no server
                self.declare_in_background()

        app.wsgi_app = WsgiReceiver(  # type: ignore[method-assign]  # as Flask documents it
            app.wsgi_app, self._receiver_in(app), on_request=on_request
        )
        app.cli.add_command(_commands(self))

    def _receiver_in(self, app: Flask) -> Receiver:
        return Receiver(self, call=partial(_call_in, app), acall=partial(_acall_in, app))

    def _running_app(self) -> Flask | None:
        if has_app_context() and current_app.extensions.get(EXTENSION) is self:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's
            return app
        return self._app


def _call_in(app: Flask, delivery: Delivery) -> object:
    with app.app_context():  # its teardown functions get the handler's exception
        value = delivery.call()
        return run_to_end(value) if inspect.isawaitable(value) else value


async def _acall_in(app: Flask, delivery: Delivery) -> object:
    if not delivery.function.is_async:
        return await asyncio.to_thread(_call_in, app, delivery)
    with app.app_context():
        value = delivery.call()
        return await value if inspect.isawaitable(value) else value


def _deliver_in_test(app: Flask, request: IncomingRequest) -> Reply:
    answer = app.test_client().open(
        request.target, method=request.method, headers=dict(request.headers), data=request.body
    )
    return Reply(answer.status_code, answer.data, dict(answer.headers))


def _commands(tasks: Tasks) -> AppGroup:
    group = AppGroup(EXTENSION, help="Background tasks.")

    @group.command("sync", help="Declare the code's queues and schedules to the server.")
    def sync() -> None:
        try:
            click.echo(sync_tasks(tasks))
        except PousseTachesError as exc:
            raise click.ClickException(str(exc)) from exc

    return group
