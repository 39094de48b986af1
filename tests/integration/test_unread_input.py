"""Query parameters and bodies that a route does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from poussetaches.api.original_routes import PATHS
from tests.acceptance.harness import serving
from tests.integration.v1 import Client, problem

ID = "0" * 32
VALUES = {"{id}": ID, "{name}": "default", "{number}": "1", "{round}": "1"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a server that delivers nothing."""
    data = tmp_path_factory.mktemp("unread") / "data"
    with serving(data, "--start-paused", "--test-mode") as server:
        yield Client(server)


def operations(client: Client) -> list[tuple[str, str, bool]]:
    """Return method, path and whether there is a request body, of all routes of ours."""
    found = []
    for path, methods in client.get("/openapi.json").json["paths"].items():
        if path in PATHS:
            continue
        filled = path
        for name, value in VALUES.items():
            filled = filled.replace(name, value)
        found += [
            (method.upper(), filled, "requestBody" in row) for method, row in methods.items()
        ]
    return found


def test_unknown_query_parameter_is_refused_by_every_route(client: Client) -> None:
    answers = {
        (method, path): problem(client.send(method, f"{path}?dry_run=1&a=b", b"{}"))
        for method, path, _ in operations(client)
    }

    assert set(answers) > {("POST", "/v1/tasks"), ("GET", "/healthz"), ("PUT", "/v1/schedules")}
    assert {key: found[:2] for key, found in answers.items()} == dict.fromkeys(
        answers, (422, "invalid-query")
    )
    assert all(found[2][0] in ("dry_run", "a") for found in answers.values())


def test_body_is_refused_by_every_route_that_has_none(client: Client) -> None:
    refused = [(method, path) for method, path, has_body in operations(client) if not has_body]

    answers = {
        (method, path): problem(client.send(method, path, b'{"queue":"other"}'))[:2]
        for method, path in refused
    }

    assert ("POST", "/v1/queues/default/purge") in answers
    assert answers == dict.fromkeys(answers, (422, "invalid-body"))


@pytest.mark.parametrize("body", [b"", b"{}", b" {} "])
def test_empty_body_is_accepted_by_a_route_that_has_none(client: Client, body: bytes) -> None:
    assert client.send("POST", "/v1/queues/default/purge", body).status == 200


@pytest.mark.parametrize("path", ["/pause", "/v1/pause"])
def test_body_that_is_too_long_is_refused_by_a_route_that_has_none(
    client: Client, path: str
) -> None:
    answer = client.send("POST", path, b"x" * (1024 * 1024 + 1))

    assert answer.status == 413


def test_routes_of_the_original_ignore_unknown_input(client: Client) -> None:
    answer = client.send("POST", "/pause?now=1", b"please")

    assert (answer.status, answer.body) == (200, b"")


def test_optional_field_of_every_body_may_be_null(client: Client) -> None:
    """Except required ones in a patch, where null would remove them."""
    document = client.get("/openapi.json").json
    bodies = [
        row["requestBody"]["content"]["application/json"]["schema"]
        for methods in document["paths"].values()
        for row in methods.values()
        if "requestBody" in row
    ]

    found = {
        f"{name}.{field}"
        for name, schema in _referenced(bodies, document["components"]["schemas"]).items()
        for field, inner in schema.get("properties", {}).items()
        if field not in schema["required"] and not _allows_null(inner)
    }

    assert found == {
        *("TaskChanges.url", "TemplatePatch.url"),
        *("SchedulePatch.cron", "SchedulePatch.task"),
    }


def _referenced(schema: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the components that a schema refers to, by name."""
    found: dict[str, Any] = {}
    pending = [schema]
    while pending:
        for name in re.findall(r"#/components/schemas/([^'\"]+)", json.dumps(pending.pop())):
            if name not in found:
                found[name] = components[name]
                pending.append(components[name])
    return found


def _allows_null(schema: dict[str, Any]) -> bool:
    kinds = schema.get("anyOf", [schema])
    return any(kind.get("type", "null") == "null" and "$ref" not in kind for kind in kinds)
