"""Pages of other origins cannot use the API through a real browser; pages of our own can."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.acceptance.browser import browsing
from tests.acceptance.harness import QuietServer, Receiver, Server, receiving, serving, wait_until
from tests.integration.v1 import Client

TOKEN = "a-token-that-the-browser-knows"
REBOUND = "rebound.example"  # the attacker's name, which resolves to 127.0.0.1

PUSH = '{"url": "http://127.0.0.1:9/never", "labels": {"a": "="}}'
ORIGINAL_PUSH = '{"url": "http://127.0.0.1:9/never", "payload": ""}'

SUBMIT_FORM = """
        const form = document.createElement("form");
        Object.assign(form, {method: "POST", enctype: "text/plain", action: url});
        const input = document.createElement("input");
        [input.name, input.value] = body.split("=");
        form.append(input);
        document.body.append(form);
        form.submit();
"""

# Requests that a page may send to another origin without a preflight. Each gets the URL and the
# body; a form's text is a name, an equals sign and a value.
SENT_UNASKED = {
    "form": "([url, body]) => {" + SUBMIT_FORM + "}",
    "form in a frame without an origin": """([url, body]) => {
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts allow-forms";
        const [name, value] = body.split("=").map(text => text.replaceAll('"', "&quot;"));
        frame.srcdoc = `<form method=POST enctype=text/plain action="${url}">
            <input name="${name}" value="${value}"></form>
            <script>document.forms[0].submit()</script>`;
        document.body.append(frame);
    }""",
    "form that says not where it comes from": """([url, body]) => {
        const policy = document.createElement("meta");
        Object.assign(policy, {name: "referrer", content: "no-referrer"});
        document.head.append(policy);"""
    + SUBMIT_FORM
    + "}",
    "fetch without CORS": """([url, body]) => {
        fetch(url, {method: "POST", mode: "no-cors", credentials: "include", body});
    }""",
    "fetch with CORS": """([url, body]) => {
        fetch(url, {method: "POST", credentials: "include", body}).catch(() => 0);
    }""",
    "XMLHttpRequest": """([url, body]) => {
        const request = new XMLHttpRequest();
        request.open("POST", url);
        request.withCredentials = true;
        request.send(body);
    }""",
    "beacon": """([url, body]) => { navigator.sendBeacon(url, body); }""",
}

# Requests that need a preflight, which the server refuses.
ASKED_FOR: dict[str, dict[str, object]] = {
    "JSON": {"method": "POST", "headers": {"Content-Type": "application/json"}},
    "header of its own": {"method": "POST", "headers": {"Poussetaches-Auth-Key": "x"}},
    "password": {"method": "POST", "headers": {"Authorization": f"Bearer {TOKEN}"}},
    "PUT": {"method": "PUT"},
    "PATCH": {"method": "PATCH"},
    "DELETE": {"method": "DELETE"},
}


class Pages:
    """Serves an empty page at every path, under each name of the loopback address."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = b"<!doctype html><title>a page</title><body></body>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Relay:
    """A proxy between the browser and a server that records all bytes.

    The browser's own record of requests depends on how it assigns pages to processes.
    """

    def __init__(self, port: int) -> None:
        self._requests = bytearray()
        self._answers = bytearray()
        relay = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    back = Thread(target=pass_on, args=(server, self.request, relay._answers))
                    back.start()
                    pass_on(self.request, server, relay._requests)
                    back.join()

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def forget(self) -> None:
        """Clear the record."""
        self._requests.clear()
        self._answers.clear()

    def asked(self) -> list[tuple[str, str]]:
        """Return methods and paths of the pages' requests, without those of the browser itself."""
        lines = re.findall(rb"([A-Z]+) (/\S*) HTTP/1\.1\r\n", bytes(self._requests))
        asked = [(method.decode(), path.decode()) for method, path in lines]
        return [request for request in asked if request[1] != "/favicon.ico"]

    def has_refused(self) -> bool:
        """Return whether a response was 403."""
        return b"HTTP/1.1 403" in self._answers

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def pass_on(source: socket.socket, target: socket.socket, note: bytearray) -> None:
    """Forward and record all bytes until the end."""
    with suppress(OSError):
        while data := source.recv(65_536):
            note += data
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def control() -> Iterator[Receiver]:
    """Return a server that accepts every request."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("open") / "data"
    with serving(folder, "--start-paused") as server:
        yield server


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded") / "data"
    env = {"POUSSETACHES_API_TOKEN": TOKEN}
    with serving(folder, "--start-paused", env=env) as server:
        yield server


@pytest.fixture(params=["open", "guarded"], ids=["without a token", "with a token"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    relay = Relay(server.port)
    yield relay
    relay.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Return a browser that sends the password to every site that asks for it."""
    context = browser.new_context(http_credentials={"username": "dev", "password": TOKEN})
    yield context
    context.close()


@pytest.fixture(params=["localhost", "127.0.0.1"], ids=["other name", "other port"])
def foreign_page(
    request: pytest.FixtureRequest, relay: Relay, context: BrowserContext, pages: Pages
) -> Page:
    """Return a page of another origin, in a browser that was logged in to the server."""
    page = context.new_page()
    answer = page.goto(relay.url + "/v1/tasks")
    assert answer is not None
    assert answer.status == 200
    page.goto(f"http://{request.param}:{pages.port}/")
    relay.forget()
    return page


def state_of(server: Server) -> tuple[list[str], list[str], bool]:
    """Return the tasks, the queues, and whether the server is paused."""
    client = Client(server)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def get(path: str) -> Any:
        answer = client.send("GET", path, headers=headers)
        assert answer.status == 200, answer
        return answer.json

    tasks = [task["id"] for task in get("/v1/tasks")["tasks"]]
    return tasks, [queue["name"] for queue in get("/v1/queues")["queues"]], get("/")["paused"]


NOTHING: tuple[list[str], list[str], bool] = ([], ["default"], True)


@pytest.mark.parametrize("way", SENT_UNASKED)
def test_unprotected_server_gets_the_attack(
    browser: Browser, pages: Pages, control: Receiver, way: str
) -> None:
    """The attacks below are real: a server without the browser guard accepts them."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{pages.port}/")
    control.deliveries.clear()

    page.evaluate(SENT_UNASKED[way], [control.url + "/v1/tasks", PUSH])

    wait_until(lambda: list(control.deliveries), bool, "what the page sent")
    assert json.loads(control.deliveries[0].body) == json.loads(PUSH)
    context.close()


@pytest.mark.parametrize("way", SENT_UNASKED)
def test_page_of_another_origin_pushes_nothing(
    foreign_page: Page, server: Server, relay: Relay, way: str
) -> None:
    foreign_page.evaluate(SENT_UNASKED[way], [relay.url + "/v1/tasks", PUSH])

    wait_until(relay.has_refused, bool, "the refusal")
    assert relay.asked()[0] == ("POST", "/v1/tasks")
    assert state_of(server) == NOTHING


@pytest.mark.parametrize("path", ["/", "/pause", "/resume", "/v1/resume", "/v1/tasks/batch"])
def test_page_of_another_origin_changes_nothing(
    foreign_page: Page, server: Server, relay: Relay, path: str
) -> None:
    way = SENT_UNASKED["fetch without CORS"]

    foreign_page.evaluate(way, [relay.url + path, ORIGINAL_PUSH])

    wait_until(relay.has_refused, bool, "the refusal")
    assert relay.asked()[0] == ("POST", path)
    assert state_of(server) == NOTHING


@pytest.mark.parametrize("what", ASKED_FOR)
def test_preflight_of_another_origin_is_refused(
    foreign_page: Page, server: Server, relay: Relay, what: str
) -> None:
    ended = foreign_page.evaluate(
        """([url, options]) => fetch(url, {credentials: "include", ...options})
            .then(answer => answer.status, error => error.name)""",
        [relay.url + "/v1/queues/mail", {"body": "{}", **ASKED_FOR[what]}],
    )

    assert ended == "TypeError"
    assert {method for method, _ in relay.asked()} == {"OPTIONS"}
    assert state_of(server) == NOTHING


@pytest.mark.parametrize("path", ["/resume", "/v1/resume", "/v1/tasks/run", "/v1/queues/mail"])
def test_image_on_a_page_changes_nothing(
    foreign_page: Page, server: Server, relay: Relay, path: str
) -> None:
    loaded = foreign_page.evaluate(
        """url => new Promise(done => {
            const image = new Image();
            image.onload = () => done(true);
            image.onerror = () => done(false);
            image.src = url;
        })""",
        relay.url + path,
    )

    assert loaded is False
    assert {*relay.asked()} == {("GET", path)}  # a browser may retry
    assert state_of(server) == NOTHING


def test_page_of_another_origin_reads_nothing(foreign_page: Page, relay: Relay) -> None:
    ended = foreign_page.evaluate(
        """url => fetch(url, {credentials: "include"})
            .then(answer => answer.text(), error => error.name)""",
        relay.url + "/v1/tasks",
    )

    assert ended == "TypeError"
    assert relay.asked()[0] == ("GET", "/v1/tasks")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_page_of_our_own_origin_pushes(context: BrowserContext, tmp_path: Path, name: str) -> None:
    env = {"POUSSETACHES_API_TOKEN": TOKEN}
    with serving(tmp_path / "data", "--start-paused", env=env) as server:
        page = context.new_page()
        page.goto(f"http://{name}:{server.port}/v1/tasks")

        statuses = page.evaluate(
            """async ([push, original]) => [
                (await fetch("/v1/tasks", {method: "POST", body: push})).status,
                (await fetch("/", {method: "POST", body: original})).status,
            ]""",
            [PUSH, ORIGINAL_PUSH],
        )

        assert statuses == [201, 201]
        assert len(state_of(server)[0]) == 2


def test_page_with_a_rebound_name_gets_no_answer(context: BrowserContext, tmp_path: Path) -> None:
    """DNS rebinding: for the browser, the page has the server's origin."""
    pages = Pages()
    page = context.new_page()
    page.goto(f"http://{REBOUND}:{pages.port}/")
    pages.close()
    server = Server(tmp_path / "data", "--start-paused")
    server.port = pages.port
    with closing(server):
        server.start()

        answers = page.evaluate(
            """async push => {
                const asked = [fetch("/v1/tasks"),
                               fetch("/v1/tasks", {method: "POST", body: push}),
                               fetch("/", {method: "POST", body: push})];
                const answers = await Promise.all(asked);
                return Promise.all(answers.map(async one => [one.status, await one.text()]));
            }""",
            PUSH,
        )

        assert [status for status, _ in answers] == [421, 421, 421]
        assert all("--allow-host" in text for _, text in answers)
        assert state_of(server) == NOTHING
