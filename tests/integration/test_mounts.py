"""Pages beside the API: static files with a security policy of their own, behind all checks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.api.app import build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.router import Mount
from tests.integration.asgi import Answered, endpoint, request

FULL, READ = "Bearer writes", "Bearer reads"
POLICY = "default-src 'self'; frame-ancestors 'none'"
API_POLICY = "frame-ancestors 'none'"


async def acting(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a form that changes something."""
    await PlainTextResponse(f"done at {scope['root_path']}")(scope, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("the key is hunter2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<h1>Tasks</h1>")
    (tmp_path / "page.js").write_text("start()")
    return tmp_path


def app_with(
    folder: Path, tokens: Tokens | None, limits: RequestLimits | None = None, **mounts: ASGIApp
) -> ASGIApp:
    headers = ((b"content-security-policy", POLICY.encode()),)
    apps: dict[str, ASGIApp] = {"pages": StaticFiles(directory=folder, html=True), **mounts}
    return build_app(
        [endpoint("GET", "/v1/things"), endpoint("GET", "/pages/own")],
        mounts=[Mount(f"/{name}", app, headers) for name, app in apps.items()],
        tokens=tokens,
        request_limits=limits or RequestLimits(100),
    )


@pytest.fixture
def app(folder: Path) -> ASGIApp:
    return app_with(folder, None)


@pytest.fixture
def guarded(folder: Path) -> ASGIApp:
    return app_with(folder, Tokens("writes", "reads"), actions=acting)


def code_of(answered: Answered) -> str:
    problem_type: str = answered.json["type"]
    return problem_type.removeprefix("urn:poussetaches:problem:")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/pages/", b"<h1>Tasks</h1>"), ("/pages/page.js", b"start()")],
)
async def test_files_are_served_with_their_own_policy(
    app: ASGIApp, path: str, body: bytes
) -> None:
    answered = await request(app, "GET", path)

    assert (answered.status, answered.body) == (200, body)
    assert answered.headers["content-security-policy"] == POLICY
    assert "date" in answered.headers


async def test_api_keeps_its_policy_beside_pages(app: ASGIApp) -> None:
    for path in ("/v1/things", "/pages/own", "/nothing", "/pagesque"):
        answered = await request(app, "GET", path)

        assert answered.headers["content-security-policy"] == API_POLICY
        assert answered.headers["x-content-type-options"] == "nosniff"


async def test_endpoint_takes_precedence_over_a_mount(app: ASGIApp) -> None:
    assert (await request(app, "GET", "/pages/own")).status == 204


async def test_missing_file_is_a_problem_with_the_policy_of_the_mount(app: ASGIApp) -> None:
    answered = await request(app, "GET", "/pages/nothing.js")

    assert (answered.status, code_of(answered)) == (404, "not-found")
    assert answered.headers["content-security-policy"] == POLICY


async def test_path_that_only_begins_like_a_mount_is_not_found(app: ASGIApp) -> None:
    assert (await request(app, "GET", "/pagesque")).status == 404


async def test_file_outside_the_folder_is_not_served(app: ASGIApp) -> None:
    assert (await request(app, "GET", "/pages/../index.html")).status == 404


async def test_page_needs_a_token(guarded: ASGIApp) -> None:
    answered = await request(guarded, "GET", "/pages/")

    assert (answered.status, code_of(answered)) == (401, "unauthorized")
    assert 'Basic realm="poussetaches"' in answered.headers["www-authenticate"]


@pytest.mark.parametrize("token", [FULL, READ], ids=["full", "read"])
async def test_either_token_shows_a_page(guarded: ASGIApp, token: str) -> None:
    assert (await request(guarded, "GET", "/pages/", authorization=token)).status == 200
    assert (await request(guarded, "HEAD", "/pages/", authorization=token)).status == 200


async def test_read_only_token_changes_nothing_through_a_mount(guarded: ASGIApp) -> None:
    answered = await request(guarded, "POST", "/actions/pause", authorization=READ)

    assert (answered.status, code_of(answered)) == (403, "read-only-token")


async def test_change_through_a_mount_is_in_the_audit_log(
    guarded: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "poussetaches.api.audit_log")

    answered = await request(guarded, "POST", "/actions/pause", authorization=FULL)
    await request(guarded, "GET", "/actions/pause", authorization=FULL)

    assert answered.body == b"done at /actions"
    assert [record.getMessage() for record in caplog.records] == ["change made"]


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}],
    ids=["origin", "site"],
)
async def test_page_of_another_origin_changes_nothing_through_a_mount(
    guarded: ASGIApp, headers: dict[str, str]
) -> None:
    answered = await request(guarded, "POST", "/actions/pause", authorization=FULL, **headers)

    assert (answered.status, code_of(answered)) == (403, "cross-site")


async def test_page_is_not_served_under_an_unknown_name(app: ASGIApp) -> None:
    answered = await request(app, "GET", "/pages/", host="evil.example")

    assert (answered.status, code_of(answered)) == (421, "unknown-host")


async def test_requests_for_pages_count_as_concurrent_requests(folder: Path) -> None:
    limits = RequestLimits(4)
    app = app_with(folder, None, limits)
    slot = limits.enter()

    assert code_of(await request(app, "GET", "/pages/")) == "busy"
    slot.leave()
    assert (await request(app, "GET", "/pages/")).status == 200
    assert limits.active_count == 0


async def test_method_that_static_files_lack_is_refused(app: ASGIApp) -> None:
    answered = await request(app, "POST", "/pages/")

    assert (answered.status, code_of(answered)) == (405, "method-not-allowed")


async def test_unexpected_error_of_a_mount_is_logged_and_reveals_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(folder, None, broken=failing)

    answered = await request(app, "GET", "/broken")

    assert (answered.status, code_of(answered)) == (500, "unexpected")
    assert b"hunter2" not in answered.body
    assert "hunter2" in caplog.text
