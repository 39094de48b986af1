"""The router: the endpoint of a request."""

from __future__ import annotations

import pytest

from poussetaches.api.dialect import V1, Dialects
from poussetaches.api.original_routes import ORIGINAL
from poussetaches.api.request_head import RequestHead
from poussetaches.api.router import Router, path_problem
from tests.integration.asgi import endpoint

ROUTES = Router(
    [
        endpoint("GET", "/"),
        endpoint("POST", "/"),
        endpoint("GET", "/healthz", is_open=True),
        endpoint("POST", "/tasks/batch", is_push=True),
        endpoint("GET", "/tasks/{id}"),
        endpoint("DELETE", "/tasks/{id}"),
        endpoint("GET", "/tasks/{id}/runs/{name}"),
    ]
)


def found(method: str, path: str) -> tuple[str, str] | None:
    row = ROUTES.find(method, path).endpoint
    return None if row is None else (row.method, row.path)


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [
        ("GET", "/", ("GET", "/")),
        ("HEAD", "/", ("GET", "/")),
        ("POST", "/", ("POST", "/")),
        ("POST", "/tasks/batch", ("POST", "/tasks/batch")),
        ("GET", "/tasks/batch", ("GET", "/tasks/{id}")),
        ("HEAD", "/tasks/7", ("GET", "/tasks/{id}")),
        ("DELETE", "/tasks/a\n", ("DELETE", "/tasks/{id}")),
        ("GET", "/tasks/7/runs/a", ("GET", "/tasks/{id}/runs/{name}")),
        ("GET", "/tasks/", None),
        ("GET", "/tasks/7/", None),
        ("GET", "/tasks/7/runs", None),
        ("GET", "//", None),
        ("GET", "", None),
        ("get", "/", None),
    ],
)
def test_request_leads_to_its_row(method: str, path: str, row: tuple[str, str] | None) -> None:
    assert found(method, path) == row


def test_parameters_are_read_from_the_path() -> None:
    assert ROUTES.find("GET", "/tasks/7/runs/a.b").parameters == {"id": "7", "name": "a.b"}
    assert ROUTES.find("GET", "/tasks/batch").parameters == {"id": "batch"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD, POST"),
        ("/tasks/7", "DELETE, GET, HEAD"),
        ("/tasks/batch", "DELETE, GET, HEAD, POST"),
    ],
)
def test_unknown_method_is_told_all_methods_of_its_path(path: str, allowed: str) -> None:
    problem = path_problem(RequestHead("PUT", path, []), ROUTES.find("PUT", path))

    assert problem is not None
    assert (problem.status, problem.headers) == (405, (("Allow", allowed),))


def test_flags_of_the_row_are_those_of_the_request() -> None:
    push, health = ROUTES.find("POST", "/tasks/batch"), ROUTES.find("GET", "/healthz")
    change = ROUTES.find("DELETE", "/tasks/7")

    assert (push.is_counted, push.is_audited, push.is_open) == (False, False, False)
    assert (health.is_counted, health.is_audited, health.is_open) == (False, False, True)
    assert (change.is_counted, change.is_audited, change.is_open) == (True, True, False)


def test_path_of_health_is_open_to_every_method() -> None:
    health = ROUTES.find("POST", "/healthz")

    assert (health.endpoint, health.is_open, health.is_counted) == (None, True, False)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [("/", ORIGINAL), ("/dead", ORIGINAL), ("/v1/tasks", V1), ("/metrics", V1), ("", V1)],
)
def test_path_has_one_dialect(path: str, dialect: object) -> None:
    assert Dialects(ORIGINAL).of(path) is dialect
