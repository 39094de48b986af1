"""Tokens in front of a real server."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, Server, serving

API_TOKEN = "a token that may do everything"
READ_TOKEN = "reads-only"
PUSH = json.dumps({"url": "http://127.0.0.1:9/run", "delay": 60}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"POUSSETACHES_API_TOKEN": API_TOKEN, "POUSSETACHES_READ_TOKEN": READ_TOKEN}
    with serving(tmp_path_factory.mktemp("auth") / "data", env=env) as server:
        yield server


def bearer(token: str) -> str:
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, *, authorization: str = ""
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Make a request; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        headers = {"Authorization": authorization} if authorization else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def test_401_offers_both_schemes_and_is_a_problem_document(server: Server) -> None:
    status, headers, body = ask(server, "GET", "/")

    assert status == 401
    assert [value for name, value in headers if name.lower() == "www-authenticate"] == [
        "Bearer",
        'Basic realm="poussetaches", charset="UTF-8"',
    ]
    assert ("content-type", "application/problem+json") in headers
    assert json.loads(body) == {
        "type": "urn:poussetaches:problem:unauthorized",
        "title": "Unauthorized",
        "status": 401,
        "detail": "a token is required; send the server's API token as a Bearer token or "
        "Basic password",
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", None),
        ("POST", "/", PUSH),
        ("GET", "/waiting", None),
        ("DELETE", "/cron", None),
        ("POST", "/resume", None),
        ("GET", "/v1/tasks", None),
        ("POST", "/v1/tasks", PUSH),
        ("GET", "/v1/queues", None),
        ("GET", "/openapi.json", None),
        ("GET", "/metrics", None),
        ("GET", "/v1/events", None),
        ("GET", "/nothing", None),
    ],
)
@pytest.mark.parametrize("authorization", ["", "Basic Og==", bearer("wrong")])
def test_every_route_asks_for_a_token(
    server: Server, method: str, path: str, body: bytes | None, authorization: str
) -> None:
    assert ask(server, method, path, body, authorization=authorization)[0] == 401


def operations(server: Server) -> Iterator[tuple[str, str]]:
    """Yield the method and path of every endpoint that answers at once."""
    described = json.loads(ask(server, "GET", "/openapi.json", authorization=bearer(API_TOKEN))[2])
    for pattern, methods in described["paths"].items():
        path = re.sub(r"\{\w+\}", "some-thing", pattern)
        for method in methods:
            if path not in ("/v1/events", "/healthz", "/readyz"):
                yield method.upper(), path


def test_without_a_token_no_route_does_anything(server: Server) -> None:
    answers = {(method, path): ask(server, method, path)[0] for method, path in operations(server)}

    assert len(answers) > 40
    assert set(answers.values()) == {401}


def test_read_token_is_enough_for_what_only_looks_and_for_nothing_else(server: Server) -> None:
    looks = {("POST", "/v1/schedules/preview")}

    for method, path in operations(server):
        status, _, _ = ask(server, method, path, authorization=bearer(READ_TOKEN))

        is_allowed = method in ("GET", "HEAD") or (method, path) in looks
        assert (status not in (401, 403)) is is_allowed, (method, path, status)


def test_read_token_is_enough_to_hear_of_events(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", "/v1/events", headers={"Authorization": bearer(READ_TOKEN)})
    with connection.getresponse() as response:
        assert response.status == 200
        assert response.readline().startswith(b"id: ")
    connection.close()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_token(server: Server, path: str) -> None:
    assert ask(server, "GET", path)[0] == 200


@pytest.mark.parametrize("authorization", [bearer(API_TOKEN), basic("anybody", API_TOKEN)])
def test_api_token_may_do_everything(server: Server, authorization: str) -> None:
    assert ask(server, "POST", "/", PUSH, authorization=authorization)[0] == 201
    assert ask(server, "GET", "/v1/tasks", authorization=authorization)[0] == 200
    assert ask(server, "POST", "/resume", authorization=authorization)[0] == 200


@pytest.mark.parametrize("authorization", [bearer(READ_TOKEN), basic("", READ_TOKEN)])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", None),
        ("HEAD", "/", None),
        ("GET", "/waiting", None),
        ("GET", "/v1/tasks", None),
        ("GET", "/v1/queues/default", None),
        ("GET", "/openapi.json", None),
        ("POST", "/v1/schedules/preview", b'{"cron": "@daily"}'),
    ],
)
def test_read_token_may_look(
    server: Server, method: str, path: str, body: bytes | None, authorization: str
) -> None:
    assert ask(server, method, path, body, authorization=authorization)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/", PUSH),
        ("POST", "/pause", None),
        ("DELETE", "/cron", None),
        ("POST", "/v1/tasks", PUSH),
        ("POST", "/v1/tasks/delete", b'{"filter": {}, "all": true}'),
        ("POST", "/v1/tasks/delete", b'{"filter": {}, "all": true, "dry_run": true}'),
        ("PUT", "/v1/queues/preview", b"{}"),
        ("POST", "/v1/pause", None),
    ],
)
def test_read_token_may_change_nothing(
    server: Server, method: str, path: str, body: bytes | None
) -> None:
    status, _, answered = ask(server, method, path, body, authorization=bearer(READ_TOKEN))

    assert status == 403
    assert json.loads(answered)["type"] == "urn:poussetaches:problem:read-only-token"


def test_large_push_without_a_token_gets_to_read_the_refusal(server: Server) -> None:
    assert ask(server, "POST", "/", b"x" * 8_000_000)[0] == 401


def test_tokens_are_never_logged(server: Server) -> None:
    for token in (API_TOKEN, READ_TOKEN, "a wrong one"):
        ask(server, "POST", "/pause/nothing", authorization=bearer(token))

    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        # A request that is not valid HTTP is refused before it reaches the API.
        connection.sendall(f"GET /?{API_TOKEN} HTTP/9\r\nAuthorization: {API_TOKEN}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")

    text = server.log.read_text()
    assert all(token not in text for token in (API_TOKEN, READ_TOKEN, "a wrong one"))


def test_without_tokens_a_server_takes_any_authorization(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert ask(server, "POST", "/resume", authorization="Basic Og==")[0] == 200
