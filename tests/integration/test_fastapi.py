"""Tasks of FastAPI and Starlette applications: deliveries pass all middleware."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.immediate_pusher import ImmediatePusher
from poussetaches.fastapi import EndedTask, Tasks
from poussetaches.testing import testing
from tests.acceptance.harness import PATIENCE
from tests.application import delivery, signed
from tests.fakes import let_run
from tests.integration.asgi import request

KEY = "the key"
SECRET = "a secret of twenty-four bytes"
HEADERS = {"Poussetaches-Auth-Key": KEY, "Poussetaches-Task-ID": "1"}


class Refusing:
    """Middleware that refuses every request, as one that requires a login or a CSRF token."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("log in first", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def deny() -> None:
    """Refuse every request as a dependency."""
    raise HTTPException(401, "log in first")


class Database:
    """A dependency of handlers."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def session(self) -> AsyncIterator[str]:
        self.log.append("begin")
        try:
            yield "session"
        except ValueError:
            self.log.append("roll back")
            raise
        else:
            self.log.append("commit")


DATABASE = Database()
Session = Annotated[str, Depends(DATABASE.session)]


@pytest.fixture
def tasks() -> Tasks:
    DATABASE.log.clear()
    tasks = Tasks(auth_key=KEY, environ={})

    @tasks.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    @tasks.task(name="store")
    async def store(
        value: int,
        session: Session = "",
        request: Request = None,  # type: ignore[assignment]  # FastAPI fills it in
    ) -> str:
        if value < 0:
            raise ValueError("no negative ones")
        return f"{session} {request.app.title} {value}"

    return tasks


def deliver(app: Starlette, name: str, **arguments: object) -> tuple[int, object]:
    path = f"/_poussetaches/{name}"
    answer = TestClient(app).post(path, json=arguments, headers=HEADERS, follow_redirects=False)
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json() if is_json else answer.text.strip()


def guarded(guard: str) -> FastAPI:
    """Return an application that refuses requests in one of the usual ways."""
    if guard == "dependencies":
        return FastAPI(dependencies=[Depends(deny)])
    app = FastAPI()
    if guard == "https":
        app.add_middleware(HTTPSRedirectMiddleware)
    elif guard == "host":
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["shop.example"])
    else:
        app.add_middleware(Refusing)
    return app


GUARDS = ("https", "host", "login", "dependencies")


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_delivery_passes_middleware_that_refuses_other_requests(
    tasks: Tasks, guard: str, is_first: bool
) -> None:
    app = guarded(guard)
    tasks.init_app(app)
    if is_first:
        app.add_middleware(Refusing)

    assert deliver(app, "double", number=21) == (200, 42)


@pytest.mark.parametrize("guard", GUARDS)
def test_request_without_the_key_is_refused(tasks: Tasks, guard: str) -> None:
    app = guarded(guard)
    tasks.init_app(app)

    answer = TestClient(app).post("/_poussetaches/double", json={"number": 1})

    assert answer.status_code == 401


async def test_synchronous_handlers_take_no_thread_from_routes() -> None:
    tasks = Tasks(auth_key=KEY, environ={}, threads=2)
    started: list[int] = []
    goes_on = threading.Event()

    @tasks.task(name="block")
    def block(number: int, session: Session = "") -> None:
        started.append(number)
        goes_on.wait(PATIENCE)

    async def in_thread(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await asyncio.to_thread(str, "answered"))

    app = FastAPI()
    app.add_route("/", in_thread)
    tasks.init_app(app)
    with ThreadPoolExecutor(1) as default:
        asyncio.get_running_loop().set_default_executor(default)
        blocked = [
            asyncio.create_task(asked(app, "POST", "/_poussetaches/block", number=number))
            for number in range(3)
        ]
        while len(started) < 2:
            await let_run()

        answered = await asked(app, "GET", "/")
        started_meanwhile = sorted(started)
        goes_on.set()
        statuses = [(await one)[0] for one in blocked]

    assert answered == (200, b"answered")
    assert len(started_meanwhile) == 2
    assert statuses == [200] * 3


async def asked(app: ASGIApp, method: str, path: str, **arguments: object) -> tuple[int, bytes]:
    answer = await request(app, method, path, arguments, poussetaches_auth_key=KEY)
    return answer.status, answer.body


def test_dependencies_are_filled_in_and_closed(tasks: Tasks) -> None:
    app = FastAPI(title="Shop")
    tasks.init_app(app)

    assert deliver(app, "store", value=1) == (200, "session Shop 1")
    assert DATABASE.log == ["begin", "commit"]


def test_dependencies_see_that_the_handler_failed(tasks: Tasks) -> None:
    app = FastAPI(title="Shop")
    tasks.init_app(app)

    assert deliver(app, "store", value=-1) == (500, "ValueError: no negative ones")
    assert DATABASE.log == ["begin", "roll back"]


def test_dependencies_can_be_overridden_in_tests(tasks: Tasks) -> None:
    app = FastAPI(title="Shop")
    tasks.init_app(app)
    app.dependency_overrides[DATABASE.session] = lambda: "another"

    assert deliver(app, "store", value=1) == (200, "another Shop 1")


def test_dependency_that_refuses_fails_the_attempt(tasks: Tasks) -> None:
    app = FastAPI()
    tasks.init_app(app)
    app.dependency_overrides[DATABASE.session] = deny

    status, text = deliver(app, "store", value=1)

    assert status == 500
    assert "log in first" in str(text)


def test_what_is_filled_in_does_not_travel(tasks: Tasks) -> None:
    app = FastAPI()
    tasks.init_app(app)

    with testing(tasks, "record") as box:
        store = tasks.find("store")
        assert store is not None
        store.push(1)

    assert [record.task.json for record in box.all] == [{"value": 1}]
    status, text = deliver(app, "store", value=1, session="mine")
    assert (status, text) == (
        422,
        "argument session: it is injected where the task runs; leave it out",
    )


def test_receiver_is_not_in_the_public_document(tasks: Tasks) -> None:
    app = FastAPI()
    tasks.init_app(app)

    assert app.openapi()["paths"] == {}
    assert TestClient(app).get("/openapi.json").json()["paths"] == {}


def test_starlette_alone_will_do(tasks: Tasks) -> None:
    async def index(_: Request) -> PlainTextResponse:
        return PlainTextResponse("the shop")

    app = Starlette(routes=[Route("/", index)])
    tasks.init_app(app)

    assert deliver(app, "double", number=2) == (200, 4)
    assert TestClient(app).get("/").text == "the shop"


def test_application_below_a_path_is_found(tasks: Tasks) -> None:
    app = FastAPI()
    tasks.init_app(app)

    answer = TestClient(app, root_path="/shop").post(
        "/shop/_poussetaches/double", json={"number": 3}, headers=HEADERS
    )

    assert answer.json() == 6


@pytest.mark.parametrize(
    ("root_path", "path", "sent_below"),
    [
        ("", "", ""),
        # uvicorn --root-path: the proxy removed the prefix, and uvicorn put it back.
        ("/shop", "/shop", "/shop"),
        # The application server says what was removed, and did not put it back.
        ("/shop", "", "/shop"),
        # The same, and the server delivers directly.
        ("/shop", "/shop", ""),
        ("/shop", "", ""),
    ],
)
def test_path_is_signed_with_the_prefix_that_it_was_sent_with(
    root_path: str, path: str, sent_below: str
) -> None:
    app = FastAPI()
    tasks = Tasks(app, auth_key=KEY, signing_secrets=SECRET, environ={})

    @tasks.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    sent = delivery(double, {"number": 3}, Poussetaches_Auth_Key=KEY)
    sent = signed(replace(sent, query="x=%41"), SECRET, at=time.time(), prefix=sent_below)
    answer = TestClient(app, root_path=root_path).post(
        f"{path}{sent.target}", content=sent.body, headers=dict(sent.headers)
    )

    assert (answer.status_code, answer.text) == (200, "6")


@pytest.mark.parametrize("given", ["shop", Flask("shop"), FastAPI], ids=["name", "Flask", "class"])
def test_application_of_another_kind_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match="is not a FastAPI or Starlette application"):
        Tasks(given)
    with pytest.raises(DefinitionError, match="is not a FastAPI or Starlette application"):
        Tasks().init_app(given)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "4"])
def test_number_of_threads_that_runs_no_handler_is_refused(threads: Any) -> None:
    with pytest.raises(DefinitionError, match=f"threads={threads!r} is not allowed: use a number"):
        Tasks(threads=threads)


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_application_takes_one_object_of_tasks_once(kind: type[Starlette]) -> None:
    app = kind()
    tasks = Tasks(app, auth_key=KEY, environ={})
    build = app.build_middleware_stack

    tasks.init_app(app)

    assert app.build_middleware_stack is build
    with pytest.raises(DefinitionError, match="already has a Tasks object; use a single one"):
        Tasks(app)


def test_mounting_too_late_is_refused(tasks: Tasks) -> None:
    app = FastAPI()
    TestClient(app).get("/")

    with pytest.raises(RuntimeError, match="too late"):
        tasks.init_app(app)


async def test_immediate_mode_runs_handlers_with_their_dependencies() -> None:
    tasks = Tasks(FastAPI(title="Shop"), environ={"POUSSETACHES_MODE": "immediate"})

    @tasks.task
    async def store(value: int, session: Session = "") -> str:
        return f"{session} {value}"

    pushed = await store.apush(1)

    assert isinstance(tasks.pusher(), ImmediatePusher)
    assert await pushed.aresult(timeout=0) == "session 1"


def test_dependencies_work_in_tests_of_the_application(tasks: Tasks) -> None:
    tasks.init_app(FastAPI(title="Shop"))
    store = tasks.find("store")
    assert store is not None

    with testing(tasks, "run") as box:
        pushed = store.push(1)
        box.run_until_idle()
        assert pushed.result(timeout=0) == "session Shop 1"


@pytest.mark.parametrize("is_async", [False, True])
def test_dependencies_and_arguments_may_have_any_name(is_async: bool) -> None:
    tasks = Tasks(app := FastAPI(), auth_key=KEY, environ={})

    @tasks.task(name="plain")
    def plain(self: int, function: int, delivery: Session = "") -> str:
        return f"{delivery} {self + function}"

    @tasks.task(name="async")
    async def coroutine(delivery: int, function: int, self: Session = "") -> str:
        return f"{self} {delivery + function}"

    if is_async:
        assert deliver(app, "async", delivery=1, function=2) == (200, "session 3")
    else:
        assert deliver(app, "plain", self=1, function=2) == (200, "session 3")


def test_callback_may_have_dependencies_beside_the_ended_task() -> None:
    tasks, told = Tasks(FastAPI(), auth_key=KEY, environ={}), list[str]()

    @tasks.task(name="notify")
    async def notify(ended: EndedTask, session: Session = "") -> None:
        told.append(f"{session} {ended.state}")

    @tasks.task(name="send", on_success=notify)
    def send() -> None: ...

    with testing(tasks, "run") as box:
        send.push()
        box.run_until_idle()

    assert told == ["session succeeded"]
