"""Tasks of a FastAPI or Starlette application."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, get_args

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from poussetaches.client.arguments import DefinitionError, Injected
from poussetaches.client.asgi import AsgiApp, AsgiReceiver, Receive, Scope, Send
from poussetaches.client.current_task import TaskLogFilter, current_task
from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.push_handle import Pushed
from poussetaches.client.receiver import Delivery, Receiver
from poussetaches.client.results import EndedTask
from poussetaches.client.tasks import Tasks as ClientTasks

try:
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from fastapi.params import Depends
    from starlette.exceptions import HTTPException
except ImportError:  # Starlette alone has no dependencies
    HAS_DEPENDENCIES = False
else:
    HAS_DEPENDENCIES = True

OWN_STATE = "_poussetaches_tasks"  # the attribute of the application's state
THREADS = 40  # as many as Starlette has for synchronous routes

__all__ = [
    "EndedTask",
    "GiveUp",
    "Pushed",
    "RetryLater",
    "TaskLogFilter",
    "Tasks",
    "current_task",
]


class Tasks(ClientTasks):
    """The tasks of a FastAPI or Starlette application; ``init_app`` mounts their receiver.

    Parameters of a handler that are dependencies (``Depends``), or the request itself, are filled
    in where the task runs. If they have no default, give them one, so that type checkers allow
    a push without them.

    ``threads`` limits the synchronous handlers that run at once in one process. Routes use other
    threads.
    """

    def __init__(
        self, app: Starlette | None = None, *, threads: int = THREADS, **options: Any
    ) -> None:
        count: object = threads  # for applications without a type checker
        if type(count) is not int or count < 1:
            raise DefinitionError(f"threads={threads!r} is not allowed: use a number from 1")
        super().__init__(**options)
        self._threads = _Threads(threads)
        self._app: Starlette | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Starlette) -> None:
        """Mount the receiver outside of all middleware, even of middleware added later.

        Raises:
            RuntimeError: the application has answered requests already.
            DefinitionError: it is not a FastAPI or Starlette application, or has other tasks
                already.
        """
        if not isinstance(app, Starlette):
            raise DefinitionError(
                f"{app!r} is not a FastAPI or Starlette application; pass one to init_app"
            )
        there = getattr(app.state, OWN_STATE, None)
        if there is self:
            return
        if there is not None:
            raise DefinitionError("the application already has a Tasks object; use a single one")
        if app.middleware_stack is not None:
            raise RuntimeError(
                "init_app was called too late; call it before the application's first request"
            )
        self._app = app
        setattr(app.state, OWN_STATE, self)
        build = app.build_middleware_stack

        def build_with_receiver() -> AsgiApp:
            return AsgiReceiver(
                build(), partial(self._receiver_for, app), on_request=self.declare_in_background
            )

        # The stack is built once, at the first request, and is incomplete before.
        app.build_middleware_stack = build_with_receiver  # type: ignore[method-assign]

    def is_injected(self, parameter: inspect.Parameter, hint: object) -> bool:
        """Return whether a parameter is a dependency, or the request."""
        kind = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        if isinstance(kind, type) and issubclass(kind, HTTPConnection):
            return True
        marks = (parameter.default, *getattr(hint, "__metadata__", ()))
        return HAS_DEPENDENCIES and any(isinstance(mark, Depends) for mark in marks)

    def receiver(self) -> Receiver:
        """Return the receiver for deliveries without a request, as in immediate mode."""
        if self._app is None:
            return super().receiver()
        return self._receiver_for(self._app, {"type": "http", "headers": [], "query_string": b""})

    def delivery_in_test(self) -> Callable[[IncomingRequest], Reply]:
        """Return a function that delivers through the application's test client."""
        if self._app is None:
            return super().delivery_in_test()
        from starlette.testclient import TestClient  # noqa: PLC0415  # of tests alone

        app = _expose_exceptions(self._app)
        client = TestClient(app, base_url="http://localhost", follow_redirects=False)

        def deliver(request: IncomingRequest) -> Reply:
            headers = dict(request.headers)
            try:
                answer = client.request(
                    request.method, request.target, headers=headers, content=request.body
                )
            except _TestEnded as exc:
                raise exc.reason from None
            return Reply(answer.status_code, answer.content, dict(answer.headers))

        return deliver

    def _receiver_for(self, app: Starlette, scope: Scope) -> Receiver:
        acall = partial(_acall, app, scope, is_injected=self.is_injected, threads=self._threads)
        return Receiver(self, acall=acall)


class _Threads:
    """Limits the threads of synchronous handlers, in each event loop."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._limiter: RunVar[CapacityLimiter] = RunVar("poussetaches_threads")

    async def call(self, delivery: Delivery, /, **injected: object) -> object:
        """Call a handler: a synchronous one in a thread, as soon as one is free."""
        if delivery.function.is_async:
            return delivery.call(**injected)
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self._count)
            self._limiter.set(limiter)
        return await to_thread.run_sync(partial(delivery.call, **injected), limiter=limiter)


class _TestEnded(Exception):
    """Carries the exception that ends a test."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


def _expose_exceptions(app: AsgiApp) -> AsgiApp:
    """Return an application whose test client sees every exception.

    A BaseException from the application ends the client's loop, sometimes before the client has
    seen the exception.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as exc:
            raise _TestEnded(exc) from exc

    return call


async def _acall(
    app: Starlette,
    scope: Scope,
    delivery: Delivery,
    *,
    is_injected: Injected,
    threads: _Threads,
) -> object:
    function = delivery.function
    parameters = [
        parameter
        for name, parameter in inspect.signature(function.function).parameters.items()
        if name in function.arguments.injected
    ]
    if not parameters:
        return await threads.call(delivery)
    call = partial(threads.call, delivery)
    return await _with_dependencies(
        app, scope, parameters, call=call, hints=function.arguments.hints
    )


async def _with_dependencies(
    app: Starlette,
    scope: Scope,
    parameters: list[inspect.Parameter],
    *,
    call: Callable[..., Awaitable[object]],
    hints: Mapping[str, Any],
) -> object:
    """Call a handler through an internal route whose parameters are its dependencies.

    So FastAPI itself fills them in, as for any route, and closes them.
    """
    results: list[object] = []

    async def endpoint(**injected: Any) -> None:
        value = await call(**injected)
        results.append(await value if inspect.isawaitable(value) else value)

    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)
            for parameter in parameters
        ]
    )
    inner = FastAPI(
        openapi_url=None,
        exception_handlers={HTTPException: _raise, RequestValidationError: _raise},
    )
    inner.add_api_route("/", endpoint, methods=["POST"], response_model=None)
    inner.dependency_overrides = getattr(app, "dependency_overrides", {})
    inner.add_middleware(_OuterApplication, app=app)
    await inner({**scope, "method": "POST", "path": "/", "root_path": ""}, _receive, _send)
    return results[0]


class _OuterApplication:
    """Sets the application that dependencies see to the one of the task."""

    def __init__(self, inner: AsgiApp, *, app: Starlette) -> None:
        self._inner = inner
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await self._inner({**scope, "app": self._app}, receive, send)


async def _raise(_: object, exc: Exception) -> Any:
    raise exc


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_: object) -> None:
    """Drop the inner route's response: the handler's return value is used instead."""
