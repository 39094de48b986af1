"""The guard against requests of foreign web pages, before an application of a few endpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import ASGIApp

from poussetaches.api.app import build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.cross_site import cross_site_problem
from poussetaches.api.request_head import RequestHead
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.router import Resource
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import Answered, endpoint, request
from tests.integration.service import Service

TOKEN = "Bearer writes"
HOST = "127.0.0.1:7991"


def app_with(tokens: Tokens | None, *hosts: str) -> ASGIApp:
    rows = [
        endpoint("GET", "/"),
        endpoint("POST", "/", is_push=True),
        endpoint("GET", "/healthz", is_open=True),
        endpoint("GET", "/readyz", is_open=True),
        endpoint("GET", "/v1/things"),
        endpoint("POST", "/v1/things"),
        endpoint("PUT", "/v1/things"),
        endpoint("PATCH", "/v1/things"),
        endpoint("DELETE", "/v1/things"),
    ]
    return build_app(rows, tokens=tokens, request_limits=RequestLimits(100), hosts=hosts)


@pytest.fixture(params=[None, Tokens("writes")], ids=["without a token", "with a token"])
def app(request: pytest.FixtureRequest) -> ASGIApp:
    return app_with(request.param)


def code_of(answered: Answered) -> str:
    assert answered.headers["content-type"] == "application/problem+json"
    problem_type: str = answered.json["type"]
    return problem_type.removeprefix("urn:poussetaches:problem:")


CHANGES = [
    pytest.param("POST", "/", id="push on the short way"),
    pytest.param("POST", "/v1/things", id="POST"),
    pytest.param("PUT", "/v1/things", id="PUT"),
    pytest.param("PATCH", "/v1/things", id="PATCH"),
    pytest.param("DELETE", "/v1/things", id="DELETE"),
    pytest.param("POST", "/nothing", id="path that there is not"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("http://evil.example", id="another host"),
        pytest.param("http://127.0.0.1:8000", id="another port"),
        pytest.param("http://127.0.0.1", id="no port"),
        pytest.param("http://localhost:7991", id="another name of the same"),
        pytest.param("null", id="null"),
        pytest.param("", id="empty"),
        pytest.param("127.0.0.1:7991", id="no scheme"),
        pytest.param("file://127.0.0.1:7991", id="another scheme"),
        pytest.param("http://127.0.0.1:7991.evil.example", id="longer host"),
        pytest.param("http://evil@127.0.0.1:7991", id="userinfo"),
        pytest.param("http://127.0.0.1:7991/", id="slash that no browser sends"),
        pytest.param("http://127.0.0.1:7991, http://evil.example", id="two of them"),
        pytest.param("http://\xe9vil.example", id="beyond ASCII"),
    ],
)
async def test_page_of_another_origin_changes_nothing(
    app: ASGIApp, method: str, path: str, origin: str
) -> None:
    answered = await request(app, method, path, host=HOST, origin=origin, authorization=TOKEN)

    assert (answered.status, code_of(answered)) == (403, "cross-site")
    assert answered.json["detail"].startswith(
        "a web page of another origin cannot change anything"
    )
    assert repr(origin) in answered.json["detail"]
    assert "date" in answered.headers


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_request_that_the_browser_calls_foreign_changes_nothing(
    app: ASGIApp, method: str, path: str, site: str
) -> None:
    answered = await request(app, method, path, sec_fetch_site=site, authorization=TOKEN)

    assert (answered.status, code_of(answered)) == (403, "cross-site")
    assert f"its Sec-Fetch-Site is '{site}'" in answered.json["detail"]


async def test_either_sign_of_a_foreign_page_is_enough(app: ASGIApp) -> None:
    own, foreign = f"http://{HOST}", "http://evil.example"

    for origin, site in ((own, "cross-site"), (foreign, "same-origin"), (foreign, "none")):
        answered = await request(
            app, "POST", "/", host=HOST, origin=origin, sec_fetch_site=site, authorization=TOKEN
        )

        assert answered.status == 403


@pytest.mark.parametrize("path", ["/", "/v1/things"])
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        pytest.param(HOST, f"http://{HOST}", id="own origin"),
        pytest.param("localhost:7991", "http://localhost:7991", id="own by name"),
        pytest.param("LocalHost:7991", "http://localhost:7991", id="upper case"),
        pytest.param("127.0.0.1", "http://127.0.0.1", id="usual port"),
        pytest.param("[::1]:7991", "http://[::1]:7991", id="IPv6"),
        pytest.param("tasks", "https://tasks", id="proxy that ends TLS"),
        pytest.param("tasks:443", "https://tasks", id="proxy that writes the usual port"),
    ],
)
async def test_page_of_the_own_origin_may_change_things(
    app: ASGIApp, path: str, host: str, origin: str
) -> None:
    answered = await request(
        app,
        "POST",
        path,
        host=host,
        origin=origin,
        sec_fetch_site="same-origin",
        authorization=TOKEN,
    )

    assert answered.status == 204


async def test_forwarded_host_of_a_proxy_is_ignored(app: ASGIApp) -> None:
    answered = await request(
        app,
        "POST",
        "/",
        host=HOST,
        origin="https://evil.example",
        x_forwarded_host="evil.example",
        x_forwarded_proto="https",
        forwarded="host=evil.example",
        authorization=TOKEN,
    )

    assert answered.status == 403


async def test_programs_that_name_no_origin_may_change_things(app: ASGIApp) -> None:
    for site in ({}, {"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin"}):
        answered = await request(app, "POST", "/v1/things", authorization=TOKEN, **site)

        assert answered.status == 204


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_link_on_a_page_of_another_origin_leads_here(app: ASGIApp, method: str) -> None:
    answered = await request(
        app, method, "/v1/things", sec_fetch_site="cross-site", authorization=TOKEN
    )

    assert answered.status == 204


async def test_other_origins_are_given_no_leave_to_ask(app: ASGIApp) -> None:
    answered = await request(
        app,
        "OPTIONS",
        "/v1/things",
        origin="http://evil.example",
        access_control_request_method="POST",
        authorization=TOKEN,
    )

    assert answered.status == 405
    assert not [name for name in answered.headers if name.startswith("access-control")]


READS_AND_CHANGES = [("GET", "/"), ("GET", "/v1/things"), ("POST", "/"), ("POST", "/v1/things")]


@pytest.mark.parametrize(("method", "path"), READS_AND_CHANGES)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7991",
        "127.0.0.1.evil.example",
        "evil.localhost.example",
        "known.example.evil.example",
        "below.known.example",
        "known.example.",
        "wild.example",
        "notwild.example",
        "127.0.0.1.",
        "1.2.3",
        "[bad.face]",
        "a b",
        "evil.example/tasks",
        "user@tasks",
        "\xe9",
    ],
)
async def test_name_that_may_be_rebound_is_not_answered(method: str, path: str, host: str) -> None:
    app = app_with(None, "known.example", "*.wild.example")

    answered = await request(app, method, path, host=host)

    assert (answered.status, code_of(answered)) == (421, "unknown-host")
    assert repr(host) in answered.json["detail"]
    assert "--allow-host" in answered.json["detail"]


@pytest.mark.parametrize(("method", "path"), READS_AND_CHANGES)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:7991",
        "127.0.0.1",
        "203.0.113.7:80",
        "[::1]",
        "[2001:db8::1]:7991",
        "[::ffff:127.0.0.1]:7991",
        "localhost",
        "LOCALHOST:7991",
        "tasks",
        "project_tasks_1:7991",
        "known.example",
        "Known.Example:443",
        "a.wild.example",
        "a.b.wild.example:7991",
        "",
    ],
)
async def test_name_that_cannot_be_rebound_is_answered(method: str, path: str, host: str) -> None:
    app = app_with(None, "known.example", "*.wild.example")

    assert (await request(app, method, path, host=host)).status == 204


@pytest.mark.parametrize(("method", "path"), READS_AND_CHANGES)
async def test_with_a_token_any_name_will_do(method: str, path: str) -> None:
    app = app_with(Tokens("writes"))

    answered = await request(app, method, path, host="any.example", authorization=TOKEN)

    assert answered.status == 204


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_answered_under_any_name(path: str) -> None:
    assert (await request(app_with(None), "GET", path, host="probe.example")).status == 204


async def test_server_is_known_by_the_names_of_its_settings(tmp_path: Path) -> None:
    service = await Service.opened(
        tmp_path / "tasks.db",
        clock=FakeClock(),
        sender=ScriptedSender(),
        random=seeded(),
        POUSSETACHES_HOST="Tasks.example.com",
        POUSSETACHES_ALLOW_HOST="proxy.example.com,*.internal",
    )

    async def status(host: str) -> int:
        return (await request(service.app, "GET", "/v1/queues", host=host)).status

    assert await status("tasks.example.com:7991") == 200
    assert await status("proxy.example.com") == 200
    assert await status("a.internal") == 200
    assert await status("other.example.com") == 421
    await service.close()


def test_origin_is_not_own_where_the_host_is_not_one() -> None:
    """Every browser sends exactly one host, so other requests are not trusted."""
    origin = (b"origin", b"http://a")

    for hosts in ([], [(b"host", b"a"), (b"host", b"b")], [(b"host", b"b"), (b"host", b"a")]):
        head = RequestHead("POST", "/", [*hosts, origin])

        problem = cross_site_problem(head, Resource(), known_hosts=None)

        assert problem is not None
        assert problem.code == "cross-site"
