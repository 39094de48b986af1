"""Pushes without ASGI: the checks before them, and the responses to all results."""

from __future__ import annotations

import json

import pytest
from starlette.responses import Response

from poussetaches.api.app import App, build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.push_handler import Headers, PendingPush, PushHandler
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.errors import KeyConflict, StoreClosed, StoreFull
from tests.fakes import let_run
from tests.integration.asgi import endpoint, request
from tests.push_desk import Desk

MOST = 8  # bytes of a request
HOST = (b"host", b"localhost")
TOKEN = (b"authorization", b"Bearer secret")


@pytest.fixture
def desk() -> Desk:
    return Desk()


class Failures:
    """Counts internal errors."""

    count = 0

    def note(self) -> None:
        self.count += 1


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def app(desk: Desk, failures: Failures) -> App:
    rows = [
        endpoint("POST", "/v1/tasks", handler=PushHandler(desk.begin, max_request=MOST)),
        endpoint("POST", "/v1/others"),
        endpoint("GET", "/v1/tasks"),
    ]
    return build_app(
        rows,
        tokens=Tokens("secret"),
        request_limits=RequestLimits(100),
        count_failure=failures.note,
    )


def push(app: App, body: bytes, *headers: tuple[bytes, bytes]) -> list[Response]:
    """Push, and return a list that the response will be in."""
    responses: list[Response] = []
    answer = app.pushes[b"POST", b"/v1/tasks"].answer
    answer([HOST, *headers], "127.0.0.1", body, responses.append)
    return responses


def code_of(response: Response) -> str:
    problem_type: str = json.loads(bytes(response.body))["type"]
    return problem_type.removeprefix("urn:poussetaches:problem:")


def test_endpoints_with_a_push_handler_need_no_asgi(app: App) -> None:
    assert list(app.pushes) == [(b"POST", b"/v1/tasks")]


async def test_push_is_answered_once_it_is_stored(app: App, desk: Desk) -> None:
    responses = push(app, b"task", TOKEN)
    before = list(responses)

    desk.store(0)
    await let_run(1)

    assert before == []
    assert [(one.status_code, one.body) for one in responses] == [(201, b"task")]
    assert "date" in responses[0].headers


async def test_refused_push_is_not_stored(app: App, desk: Desk) -> None:
    [unknown] = push(app, b"task")
    [foreign] = push(app, b"task", TOKEN, (b"origin", b"http://evil.example"))
    [long] = push(app, b"a" * (MOST + 1), TOKEN)

    assert (unknown.status_code, code_of(unknown)) == (401, "unauthorized")
    assert (foreign.status_code, code_of(foreign)) == (403, "cross-site")
    assert (long.status_code, code_of(long)) == (413, "too-large")
    assert desk.bodies == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyConflict("k"), (409, "key-conflict")),
        (StoreFull(), (507, "store-full")),
        (StoreClosed(), (503, "store-unavailable")),
    ],
)
async def test_error_of_the_store_is_a_problem(
    app: App, desk: Desk, failures: Failures, error: Exception, expected: tuple[int, str]
) -> None:
    responses = push(app, b"task", TOKEN)
    desk.waiting[0].set_exception(error)
    await let_run(1)

    assert [(one.status_code, code_of(one)) for one in responses] == [expected]
    assert failures.count == 0


async def test_push_that_the_store_drops_is_refused(app: App, desk: Desk) -> None:
    responses = push(app, b"task", TOKEN)
    desk.waiting[0].cancel()
    await let_run(1)

    assert [code_of(one) for one in responses] == ["store-unavailable"]


async def test_unexpected_error_is_counted_and_logged(
    app: App, desk: Desk, failures: Failures, caplog: pytest.LogCaptureFixture
) -> None:
    responses = push(app, b"task", TOKEN)
    desk.waiting[0].set_exception(ZeroDivisionError("the key is hunter2"))
    await let_run(1)

    assert [(one.status_code, code_of(one)) for one in responses] == [(500, "unexpected")]
    assert b"hunter2" not in responses[0].body
    assert failures.count == 1
    assert "hunter2" in caplog.text


async def test_unexpected_error_before_the_store_is_answered(failures: Failures) -> None:
    def fail(headers: Headers, body: bytes) -> PendingPush[bytes]:
        raise ZeroDivisionError

    handler = PushHandler(fail, max_request=MOST)
    app = build_app(
        [endpoint("POST", "/v1/tasks", handler=handler)],
        tokens=None,
        request_limits=RequestLimits(100),
        count_failure=failures.note,
    )

    [response] = push(app, b"task")

    assert (response.status_code, failures.count) == (500, 1)


async def test_push_over_asgi_has_the_same_limit(app: App) -> None:
    answered = await request(app, "POST", "/v1/tasks", "a" * MOST, authorization="Bearer secret")

    assert (answered.status, answered.json["status"]) == (413, 413)
