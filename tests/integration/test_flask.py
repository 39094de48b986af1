"""Tasks of a Flask application: deliveries, contexts of handlers, and declarations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask, abort, current_app, g, has_request_context, redirect, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server
from werkzeug.test import Client as WsgiClient
from werkzeug.wrappers import Response

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.client import Client
from poussetaches.client.delivery_auth import IncomingRequest
from poussetaches.client.environment import Keys, warn_of_misspelt
from poussetaches.client.errors import Refused
from poussetaches.client.task_function import TaskFunction
from poussetaches.flask import EndedTask, GiveUp, Pushed, Tasks, current_task
from tests.acceptance.harness import KEY as SERVER_KEY
from tests.acceptance.harness import Reply, receiving, serving
from tests.application import KEY, RecordingPusher, delivery, make_info, signed

SECRET = "a secret of twenty-four bytes"

REFUSAL: Reply = (422, {}, b'{"type": "urn:poussetaches:problem:invalid-task"}')


def make_app(**config: object) -> Flask:
    """Return an application with one page."""
    app = Flask("shop")
    app.config.update(config)
    app.add_url_rule("/", view_func=lambda: "welcome", methods=["GET", "POST"])
    return app


def make_tasks(app: Flask | None = None) -> Tasks:
    """Return tasks with a key, in an otherwise empty environment."""
    return Tasks(app, auth_key=KEY, environ={})


def send(app: Flask, sent: IncomingRequest) -> tuple[int, str]:
    """Send a delivery through the application; return the status and the text of its answer."""
    answer = app.test_client().open(
        sent.path, method=sent.method, headers=dict(sent.headers), data=sent.body
    )
    return answer.status_code, answer.text


def require_login() -> None:
    abort(401)


def require_csrf_token() -> None:
    if request.method == "POST" and "csrf_token" not in request.form:
        abort(400)


def require_https() -> Response | None:
    return None if request.is_secure else redirect(request.url.replace("http:", "https:"))


def require_host() -> None:
    if request.host != "shop.example.org":
        abort(421)


def require_small_bodies() -> None:
    request.max_content_length = 1
    request.get_data()


@pytest.mark.parametrize(
    ("guard", "refusal"),
    [
        (require_login, 401),
        (require_csrf_token, 400),
        (require_https, 302),
        (require_host, 421),
        (require_small_bodies, 413),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_deliveries_pass_what_refuses_other_requests(
    guard: Callable[[], Response | None], refusal: int, is_late: bool
) -> None:
    app = make_app()
    if is_late:
        tasks = make_tasks(app)
        app.before_request(guard)
    else:
        app.before_request(guard)
        tasks = make_tasks(app)

    @tasks.task
    def double(number: int) -> int:
        return 2 * number

    with tasks.use(RecordingPusher()):
        page = app.test_client().post("/", data={"a": "b"})
        taken = send(app, delivery(double, {"number": 21}))
        refused = send(app, delivery(double, {"number": 21}, Poussetaches_Auth_Key=""))

    assert page.status_code == refusal
    assert taken == (200, "42")
    assert refused[0] == 401
    assert refused[1].startswith("the header Poussetaches-Auth-Key is missing: set POUSSETACHES_")


def test_trusted_hosts_do_not_count_for_deliveries() -> None:
    app = make_app(TRUSTED_HOSTS=["shop.example.org"])
    tasks = make_tasks(app)

    @tasks.task
    def handler() -> None: ...

    with tasks.use(RecordingPusher()):
        assert app.test_client().get("/").status_code == 400
        assert send(app, delivery(handler))[0] == 200


def test_other_requests_are_the_applications() -> None:
    app = make_app()
    tasks = make_tasks(app)

    with tasks.use(RecordingPusher()):
        client = app.test_client()

        assert client.get("/").text == "welcome"
        assert client.post("/_poussetache").status_code == 404
        assert client.get("/é").status_code == 404


def test_without_a_key_everything_is_refused_and_the_log_says_what_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()
    tasks = Tasks(app, environ={})

    with tasks.use(RecordingPusher()):
        status, _ = send(app, delivery("app.send"))

    assert status == 503
    assert "no key is configured; set POUSSETACHES_AUTH_KEY" in caplog.text


def test_application_that_is_mounted_below_another_gets_its_deliveries() -> None:
    app = make_app(POUSSETACHES_SIGNING_SECRET=SECRET)
    tasks = make_tasks(app)

    @tasks.task
    def handler() -> str:
        return "done"

    site = WsgiClient(DispatcherMiddleware(Flask("site"), {"/shop": app}))
    sent = signed(delivery(handler), SECRET, at=time.time(), prefix="/shop")
    with tasks.use(RecordingPusher()):
        answer = site.post(f"/shop{sent.path}", headers=dict(sent.headers), data=sent.body)

    assert (answer.status_code, answer.text) == (200, '"done"')


def behind_proxy_fix(app: Flask) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]


def configured_with_prefix(app: Flask) -> None:
    app.config["POUSSETACHES_PUBLIC_PREFIX"] = "/shop"


@pytest.mark.parametrize(
    ("tell", "status"),
    [(behind_proxy_fix, 200), (configured_with_prefix, 200), (lambda app: None, 401)],
)
def test_proxy_may_remove_a_prefix_that_the_application_knows(
    tell: Callable[[Flask], None], status: int
) -> None:
    app = make_app(POUSSETACHES_SIGNING_SECRET=SECRET)
    tasks = make_tasks(app)
    tell(app)

    @tasks.task
    def handler() -> None: ...

    sent = signed(delivery(handler), SECRET, at=time.time(), prefix="/shop")
    sent = replace(sent, headers={**sent.headers, "X-Forwarded-Prefix": "/shop"})
    with tasks.use(RecordingPusher()):
        assert send(app, sent)[0] == status


def test_query_is_signed_as_it_came() -> None:
    app = make_app(POUSSETACHES_SIGNING_SECRET=SECRET)
    tasks = make_tasks(app)

    @tasks.task
    def handler() -> None: ...

    sent = signed(replace(delivery(handler), query="x=%41+b&y"), SECRET, at=time.time())
    with tasks.use(RecordingPusher()):
        assert tasks.delivery_in_test()(sent).status == 200
        assert tasks.delivery_in_test()(replace(sent, query="x=A")).status == 401


def test_body_may_come_in_chunks() -> None:
    app = make_app()
    tasks = make_tasks(app)

    @tasks.task
    def double(number: int) -> int:
        return 2 * number

    sent = delivery(double, {"number": 21})
    with tasks.use(RecordingPusher()):
        answer = app.test_client().post(
            sent.path,
            headers=dict(sent.headers),
            input_stream=BytesIO(sent.body),
            environ_overrides={"wsgi.input_terminated": True},
        )

    assert answer.text == "42"


def test_handlers_run_in_an_application_context_of_their_own() -> None:
    app = make_app(GREETING="Hello")
    tasks = make_tasks(app)

    def greet(name: str) -> str:
        assert "name" not in g
        g.name = name
        assert not has_request_context()
        return f"{current_app.config['GREETING']} {name}, attempt {current_task().attempt}"

    async def agreet(name: str) -> str:
        await asyncio.sleep(0)
        return greet(name)

    handlers = [tasks.task(name="greet")(greet), tasks.task(name="agreet")(agreet)]
    with tasks.use(RecordingPusher()), app.app_context():
        g.name = "the test's own"
        answers = [send(app, delivery(handler, {"name": "Ada"})) for handler in handlers]

    assert answers == 2 * [(200, '"Hello Ada, attempt 2"')]


def test_teardown_of_the_context_gets_the_exception_of_a_handler() -> None:
    app = make_app()
    tasks = make_tasks(app)
    heard: list[BaseException | None] = []
    app.teardown_appcontext(heard.append)

    @tasks.task
    def fails() -> None:
        raise GiveUp("no such user")

    @tasks.task
    async def succeeds() -> None: ...

    with tasks.use(RecordingPusher()):
        assert send(app, delivery(fails)) == (500, "no such user\n")
        assert send(app, delivery(succeeds)) == (200, "null")

    assert [type(it) for it in heard] == [GiveUp, type(None)]


@pytest.mark.parametrize("within", [False, True])
def test_immediate_mode_runs_handlers_in_an_application_context(within: bool) -> None:
    app = make_app(POUSSETACHES_MODE="immediate")
    tasks = make_tasks(app)

    def name_of_app() -> str:
        assert "name" not in g
        g.name = current_app.name
        return current_app.name

    async def aname_of_app() -> str:
        return name_of_app()

    handler = tasks.task(name="name")(name_of_app)
    ahandler = tasks.task(name="aname")(aname_of_app)

    async def apush(task: TaskFunction[[], str]) -> str:
        pushed = await task.apush()
        return await pushed.aresult(1)

    with app.app_context() if within else nullcontext():
        for task in (handler, ahandler):
            assert task.push().result(1) == "shop"
            assert asyncio.run(apush(task)) == "shop"


def test_configuration_goes_before_the_environment_and_arguments_before_both() -> None:
    environ = {"POUSSETACHES_AUTH_KEY": "of the environment", "POUSSETACHES_API_TOKEN": "token"}
    configured = make_app(POUSSETACHES_AUTH_KEY="configured", POUSSETACHES_API_TOKEN="")
    left_to_it = make_app(POUSSETACHES_AUTH_KEY=None)

    tasks = Tasks(configured, environ=environ)

    assert tasks.keys().auth_key == "configured"
    assert tasks.setting("POUSSETACHES_API_TOKEN") == "token"
    assert Tasks(left_to_it, environ=environ).keys().auth_key == "of the environment"
    assert Tasks(make_app(**configured.config), environ=environ, auth_key=KEY).keys() == Keys(KEY)


def test_applications_of_a_factory_each_run_their_own_deliveries() -> None:
    tasks = make_tasks()

    @tasks.task
    def name() -> str:
        return current_app.name

    def create_app(name: str) -> Flask:
        app = Flask(name)
        tasks.init_app(app)
        return app

    first, second = create_app("first"), create_app("second")
    with tasks.use(RecordingPusher()):
        assert send(first, delivery(name)) == (200, '"first"')
        assert send(second, delivery(name)) == (200, '"second"')
        assert tasks.delivery_in_test()(delivery(name)).body == b'"second"'
        with first.app_context():
            assert tasks.delivery_in_test()(delivery(name)).body == b'"first"'


def test_pushes_go_to_the_server_of_the_last_application() -> None:
    tasks = Tasks(environ={})
    handler = tasks.task(name="app.send")(lambda: None)

    with receiving(lambda _: REFUSAL) as first, receiving(lambda _: REFUSAL) as second:
        for server in (first, second):
            tasks.init_app(make_app(POUSSETACHES_URL=server.url))
            with pytest.raises(Refused):
                handler.push()

        assert [len(server.deliveries) for server in (first, second)] == [1, 1]


def test_client_that_is_given_stays() -> None:
    client = Client("http://127.0.0.1:1")
    tasks = Tasks(client=client, environ={})

    tasks.init_app(make_app(POUSSETACHES_URL="http://127.0.0.1:2"))

    assert tasks.client() is client


@pytest.mark.parametrize("given", ["shop", FastAPI(), object], ids=["name", "FastAPI", "class"])
def test_application_of_another_kind_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match="is not a Flask application"):
        Tasks(given)
    with pytest.raises(DefinitionError, match="is not a Flask application"):
        Tasks().init_app(given)


def test_unknown_setting_in_the_configuration_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_of_misspelt.cache_clear()
    app = make_app(POUSSETACHES_ULR="x", POUSSETACHES_BASE_URL="x", POUSSETACHES_URL="http://a")
    tasks = make_tasks(app)

    for _ in range(2):
        tasks.keys()

    assert [message.partition(" is not")[0] for message in caplog.messages] == [
        "in the configuration of Flask, POUSSETACHES_ULR",
        "in the configuration of Flask, POUSSETACHES_BASE_URL",
    ]
    assert "did you mean POUSSETACHES_URL?" in caplog.messages[0]


def test_application_takes_one_object_of_tasks_once() -> None:
    app = make_app()
    tasks = make_tasks(app)
    mounted = app.wsgi_app

    tasks.init_app(app)

    assert app.wsgi_app is mounted
    with pytest.raises(DefinitionError, match="shop already has a Tasks object; use a single one"):
        make_tasks(app)


def test_tasks_without_an_application_are_delivered() -> None:
    tasks = make_tasks()
    handler = tasks.task(name="app.send")(lambda: None)

    with tasks.use(RecordingPusher()):
        assert tasks.delivery_in_test()(delivery(handler)).status == 200


def declaring(**config: object) -> Flask:
    """Return an application whose tasks declare a queue and a schedule."""
    app = make_app(**config)
    tasks = make_tasks(app)
    tasks.queue("images", concurrency=1)
    tasks.cron("@daily", name="app.report")(lambda: None)
    return app


def declarations_end() -> None:
    """Wait for the threads that send declarations."""
    for thread in threading.enumerate():
        if thread.name == "poussetaches-declare":
            thread.join()


def test_queues_are_declared_at_the_first_request_served_and_not_before() -> None:
    with receiving(lambda _: REFUSAL) as server:
        app = declaring(POUSSETACHES_URL=server.url)
        declarations_end()
        before = list(server.deliveries)
        for _ in range(2):
            app.test_client().get("/")
        declarations_end()

        assert before == []
        assert [(it.method, it.path) for it in server.deliveries] == [
            ("PATCH", "/v1/queues/images?declared=true&owner=app&modules=app"),
            ("PUT", "/v1/schedules?partial=true"),
        ]


def test_tests_of_the_application_declare_nothing() -> None:
    with receiving(lambda _: REFUSAL) as server:
        app = declaring(POUSSETACHES_URL=server.url, TESTING=True)
        app.test_client().get("/")
        declarations_end()

        assert server.deliveries == []


def test_sync_says_what_went_wrong() -> None:
    with receiving(lambda _: REFUSAL) as server:
        app = declaring(POUSSETACHES_URL=server.url)
        ran = app.test_cli_runner().invoke(args=["poussetaches", "sync"])

    assert ran.exit_code == 1
    assert ran.output.startswith("Error: ")


@contextmanager
def listening(app: Flask) -> Iterator[str]:
    """Serve an application; yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("is_async", [False, True])
def test_server_delivers_what_the_application_pushes(tmp_path: Path, is_async: bool) -> None:
    app = make_app(POUSSETACHES_AUTH_KEY=SERVER_KEY, POUSSETACHES_SIGNING_SECRET=SECRET)
    app.before_request(require_login)
    tasks = Tasks(app, environ={})

    def double(number: int) -> str:
        return f"{2 * number} at attempt {current_task().attempt} in {current_task().queue}"

    async def adouble(number: int) -> str:
        return double(number)

    function = tasks.task(queue="numbers")(adouble) if is_async else tasks.task(double)
    env = {"POUSSETACHES_SIGNING_SECRET": SECRET}
    with listening(app) as url, serving(tmp_path / "data", "--base-url", url, env=env) as server:
        app.config["POUSSETACHES_URL"] = server.url

        result = function.push(21).result(30)

    assert result == f"42 at attempt 1 in {'numbers' if is_async else 'default'}"


@pytest.mark.parametrize("is_own_url", [False, True], ids=["server's URL", "application's URL"])
def test_server_calls_back_tasks(tmp_path: Path, is_own_url: bool) -> None:
    told: SimpleQueue[tuple[EndedTask, object, int]] = SimpleQueue()
    app = make_app(POUSSETACHES_AUTH_KEY=SERVER_KEY, POUSSETACHES_SIGNING_SECRET=SECRET)
    env = {"POUSSETACHES_SIGNING_SECRET": SECRET, "POUSSETACHES_MIN_BACKOFF": "0.01"}

    with listening(app) as url:
        base_url = "http://127.0.0.1:1" if is_own_url else url
        tasks = Tasks(app, environ={}, name="shop", base_url=url if is_own_url else None)

        @tasks.task
        def notify(ended: EndedTask) -> None:
            result = tasks.handle(ended.id).result() if ended.state == "succeeded" else None
            told.put((ended, result, current_task().attempt))
            if current_task().attempt == 1:
                raise ConnectionError

        @tasks.task(queue="sums", on_success=notify, labels={"kind": "sum"})
        def add(first: int, second: int) -> int:
            return first + second

        @tasks.task(name="shop.fail")
        def fail() -> None:
            raise GiveUp("no such user")

        with serving(tmp_path / "data", "--base-url", base_url, env=env) as server:
            app.config["POUSSETACHES_URL"] = server.url
            tasks.declare(tasks.client())
            pushed = add.push(1, 2)
            succeeded = [told.get(timeout=30) for _ in range(2)]
            fail.options(on_dead=notify).push()
            died = [told.get(timeout=30) for _ in range(2)]

    assert [(result, attempt) for _, result, attempt in succeeded] == [(3, 1), (3, 2)]
    ended = succeeded[0][0]
    assert (ended.id, ended.name, ended.state) == (pushed.id, add.name, "succeeded")
    assert (ended.queue, ended.labels) == ("shop.sums", {"app": "shop", "kind": "sum"})
    assert (ended.reason, ended.error, ended.attempt_count) == (None, None, 1)
    assert [attempt for _, _, attempt in died] == [1, 2]
    ended = died[0][0]
    assert (ended.name, ended.state, ended.reason) == ("shop.fail", "dead", "refused")
    assert (ended.error, ended.attempt_count) == ("no such user", 1)


def test_sync_declares_and_says_how_much(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--base-url", "http://127.0.0.1:1") as server:
        app = declaring(POUSSETACHES_URL=server.url)
        ran = app.test_cli_runner().invoke(args=["poussetaches", "sync"])
        schedules = server.request("GET", "/v1/schedules").json["schedules"]
        queue = server.request("GET", "/v1/queues/images").json

    said = f"declared 1 queue and 1 schedule to the server at {server.url}\n"
    assert (ran.exit_code, ran.output) == (0, said)
    assert [it["name"] for it in schedules] == ["app.report"]
    assert queue["concurrency"] == 1


@pytest.mark.parametrize("has_schedules", [True, False])
def test_sync_to_the_server_of_another_application_changes_nothing(
    tmp_path: Path, has_schedules: bool
) -> None:
    other = make_app()
    tasks = make_tasks(other)
    tasks.queue("images", concurrency=3)
    tasks.task(name="other.evening")(lambda: None)
    if has_schedules:
        tasks.cron("@hourly", name="other.morning")(lambda: None)
    with serving(tmp_path / "data", "--base-url", "http://127.0.0.1:1") as server:
        other.config["POUSSETACHES_URL"] = server.url
        app = declaring(POUSSETACHES_URL=server.url)
        runs = [
            each.test_cli_runner().invoke(args=["poussetaches", "sync"]) for each in (other, app)
        ]
        schedules = server.request("GET", "/v1/schedules").json["schedules"]
        queue = server.request("GET", "/v1/queues/images").json

    assert [ran.exit_code for ran in runs] == [0, 1]
    assert "not declared: queue 'images': another application (other) declared" in runs[1].output
    assert [it["name"] for it in schedules] == ["other.morning"] * has_schedules
    assert queue["concurrency"] == 3


def test_type_checkers_see_through_the_decorator() -> None:
    tasks = make_tasks()

    @tasks.task
    def double(number: int) -> int:
        return 2 * number

    with tasks.use(RecordingPusher(make_info())):
        with pytest.raises(ArgumentError, match="argument number"):
            double.push("x")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="other"):
            double.options(delay=1).push(1, other=2)  # type: ignore[call-arg]
        pushed: Pushed[int] = double.push(21)

    assert pushed.id == "task-1"
