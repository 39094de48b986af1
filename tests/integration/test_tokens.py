"""Tokens in front of an application of a few endpoints."""

from __future__ import annotations

import base64

import pytest
from starlette.types import ASGIApp

from poussetaches.api.app import build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.request_limits import RequestLimits
from tests.integration.asgi import Answered, endpoint, request

FULL = "Bearer writes"
READ = "Bearer reads"


def app_with(tokens: Tokens | None) -> ASGIApp:
    return build_app(
        [
            endpoint("GET", "/"),
            endpoint("POST", "/"),
            endpoint("GET", "/healthz", is_open=True),
            endpoint("GET", "/readyz", is_open=True),
            endpoint("GET", "/v1/things"),
            endpoint("PUT", "/v1/things/{name}"),
            endpoint("POST", "/v1/things/preview", changes_nothing=True),
        ],
        tokens=tokens,
        request_limits=RequestLimits(100),
    )


@pytest.fixture
def app() -> ASGIApp:
    return app_with(Tokens("writes", "reads"))


def code_of(answered: Answered) -> str:
    assert answered.headers["content-type"] == "application/problem+json"
    problem_type: str = answered.json["type"]
    return problem_type.removeprefix("urn:poussetaches:problem:")


@pytest.mark.parametrize("authorization", [None, "Basic Og==", "Bearer anything", "Nonsense"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/v1/things")])
async def test_without_tokens_everything_is_allowed(
    method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    answered = await request(app_with(None), method, path, **headers)

    assert answered.status == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("POST", "/"), ("PUT", "/v1/things/a"), ("GET", "/nothing"), ("GET", "/docs")],
)
async def test_response_without_a_token_reveals_nothing(
    app: ASGIApp, method: str, path: str
) -> None:
    answered = await request(app, method, path)

    assert (answered.status, code_of(answered)) == (401, "unauthorized")
    assert answered.json["detail"].startswith("a token is required; send the server's API token")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(app: ASGIApp, path: str) -> None:
    assert (await request(app, "GET", path)).status == 204
    assert (await request(app, "GET", path, authorization="Bearer wrong")).status == 204


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz/../v1/things"])
async def test_path_that_resembles_health_needs_a_token(app: ASGIApp, path: str) -> None:
    assert (await request(app, "GET", path)).status == 401


@pytest.mark.parametrize(
    "authorization",
    [FULL, "bearer writes", "Basic " + base64.b64encode(b"anybody:writes").decode()],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("PUT", "/v1/things/a")])
async def test_right_token_may_do_everything(
    app: ASGIApp, method: str, path: str, authorization: str
) -> None:
    assert (await request(app, method, path, authorization=authorization)).status == 204


@pytest.mark.parametrize(
    "authorization",
    ["Bearer hunter2", "Bearer", "Basic Og==", "Basic %%%", "Digest writes", "writes"],
)
async def test_wrong_token_is_refused_without_showing_it(app: ASGIApp, authorization: str) -> None:
    answered = await request(app, "GET", "/", authorization=authorization)

    assert (answered.status, code_of(answered)) == (401, "unauthorized")
    assert b"writes" not in answered.body
    assert b"hunter2" not in answered.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/", id="status"),
        pytest.param("HEAD", "/v1/things", id="HEAD"),
        pytest.param("GET", "/v1/things", id="list"),
        pytest.param("POST", "/v1/things/preview", id="POST that changes nothing"),
    ],
)
async def test_read_token_may_look(app: ASGIApp, method: str, path: str) -> None:
    assert (await request(app, method, path, authorization=READ)).status == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/", id="push"),
        pytest.param("PUT", "/v1/things/a", id="change"),
        pytest.param("PUT", "/v1/things/preview", id="change of what is only read by POST"),
        pytest.param("DELETE", "/v1/things/a", id="method that there is not"),
        pytest.param("POST", "/nothing", id="path that there is not"),
    ],
)
async def test_read_token_may_change_nothing(app: ASGIApp, method: str, path: str) -> None:
    answered = await request(app, method, path, authorization=READ)

    assert (answered.status, code_of(answered)) == (403, "read-only-token")
    assert answered.json["detail"] == (
        f"the token is read-only; {method} {path} requires the API token"
    )


async def test_without_a_read_token_its_place_is_not_open() -> None:
    app = app_with(Tokens("writes"))

    for authorization in ("Bearer None", "Bearer ", "Bearer"):
        assert (await request(app, "GET", "/", authorization=authorization)).status == 401


async def test_refusals_have_a_date(app: ASGIApp) -> None:
    assert "date" in (await request(app, "GET", "/")).headers


async def test_method_that_a_path_has_not_names_all_it_has(app: ASGIApp) -> None:
    answered = await request(app, "DELETE", "/", authorization=FULL)

    assert (answered.status, code_of(answered)) == (405, "method-not-allowed")
    assert answered.headers["allow"] == "GET, HEAD, POST"
