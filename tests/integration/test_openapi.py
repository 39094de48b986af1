"""GET /openapi.json against the server that it describes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poussetaches.api.original_routes import ORIGINAL, PATHS
from tests.acceptance.harness import Server, serving
from tests.effort import LONG

SOURCE = Path(__file__).parents[2] / "src" / "poussetaches"
EXAMPLES = 300 if LONG else 10  # for each operation, besides those at the edges of its schemas
LONGEST_RUN = 3000 if LONG else 500  # seconds; it takes 15, or 10 minutes
# Reproducible, except in the long form, which searches with new examples.
REPEATABLE = () if LONG else ("--generation-deterministic",)

ENDLESS = "/v1/events"  # its answer has no end
DELIVERING = r"^/v1/test/"  # they would send made-up tasks to made-up hosts

# No 5xx is among what a healthy server answers, documented or not. Methods that a path does not
# have are sent, too: these checks pass over the 405 that no row lists.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

# Names of existing objects, so that not every request is a 404, and values beyond the schemas.
CONFIGURATION = """
[dictionaries]
names.values = ["a", "b", "default"]
ids.values = {ids}
urls.values = ["http://app:5000/", "https://app.example.com/b?c=d"]
crons.values = ["@daily", "@every 90s", "*/5 * * * *", "0 30 6 * * mon"]
zones.values = ["UTC", "Europe/Paris"]

[parameters]
"query.wait" = 0.01
"path.name" = {{ dictionary = "names", probability = 0.7 }}
"path.id" = {{ dictionary = "ids", probability = 0.7 }}
"body.url" = {{ dictionary = "urls", probability = 0.7 }}
"body.tasks[*].url" = {{ dictionary = "urls", probability = 0.7 }}
"body.task.url" = {{ dictionary = "urls", probability = 0.7 }}
"body.cron" = {{ dictionary = "crons", probability = 0.7 }}
"body.timezone" = {{ dictionary = "zones", probability = 0.7 }}
"body.schedules[*].task.url" = {{ dictionary = "urls", probability = 0.7 }}
"body.schedules[*].cron" = {{ dictionary = "crons", probability = 0.7 }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that delivers nothing by itself."""
    with serving(tmp_path_factory.mktemp("openapi") / "data", "--test-mode") as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    answer = server.request("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


@pytest.fixture
def configuration(server: Server, tmp_path: Path) -> Path:
    """Return the configuration of schemathesis, with the ids of tasks that there are."""
    ids = [
        server.request("POST", "/v1/tasks", b'{"url": "http://app:5000/"}').json["id"]
        for _ in range(40)
    ]
    schedule = b'{"cron": "@daily", "task": {"url": "http://app:5000/"}}'
    for name in ("a", "b"):
        assert server.request("PUT", f"/v1/queues/{name}", b"{}").status == 201
        assert server.request("PUT", f"/v1/schedules/{name}", schedule).status == 201
    path = tmp_path / "schemathesis.toml"
    path.write_text(CONFIGURATION.format(ids=json.dumps(ids)))
    return path


def test_routes_are_made_of_rows_alone() -> None:
    """A row is described, and a test of ``describe`` says so; there is no other way in."""
    makers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {"Route", "add_route"}
    }

    assert makers == set()


def test_dialect_of_the_original_covers_its_routes_and_no_others(document: Any) -> None:
    paths = {
        path
        for path, operations in document["paths"].items()
        if any(one["tags"] == ["The original's routes"] for one in operations.values())
    }

    assert paths == PATHS
    assert {path for path in document["paths"] if ORIGINAL.covers(path)} == PATHS


def test_methods_that_are_described_are_those_that_are_served(
    server: Server, document: Any
) -> None:
    described = {
        re.compile(re.sub(r"\{[a-z]+\}", "[^/]+", path)): set(map(str.upper, operations))
        for path, operations in document["paths"].items()
    }
    for path in document["paths"]:
        address = path.replace("{id}", "0" * 32).replace("{name}", "a")
        expected: set[str] = set()
        for template, methods in described.items():
            if template.fullmatch(address):
                expected |= methods

        answer = server.request("TRACE", address)

        assert answer.status == 405, path
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == expected, path


def test_every_get_is_answered_to_head_without_a_body(server: Server, document: Any) -> None:
    gets = [path for path, operations in document["paths"].items() if "get" in operations]
    task_id = server.request("POST", "/v1/tasks", b'{"url": "http://app:5000/"}').json["id"]
    server.request("PUT", "/v1/schedules/head", b'{"cron": "@daily", "task": {"url": "http://a"}}')
    for path in gets:
        name = "head" if "schedules" in path else "default"
        address = path.replace("{id}", task_id).replace("{name}", name)

        answer = server.request("HEAD", address)

        assert (answer.status, answer.body) == (200, b""), path


def test_patterns_are_described_in_words(document: Any) -> None:
    """The words are what a refusal says."""
    undescribed = [
        schema
        for schema in _objects_in(document["components"]["schemas"])
        if isinstance(schema.get("pattern"), str) and "description" not in schema
    ]

    assert undescribed == []


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _objects_in(inner)


@pytest.mark.timeout(LONGEST_RUN + 20)
def test_every_answer_is_as_described(
    server: Server, document: Any, configuration: Path, tmp_path: Path
) -> None:
    # From a file: schemathesis leaves out the address that it has a description from.
    description, report = tmp_path / "openapi.json", tmp_path / "report.json"
    description.write_text(json.dumps(document))

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
            *("run", str(description), "--url", server.url, "--checks", ",".join(CHECKS)),
            *("--exclude-path", ENDLESS, "--exclude-path-regex", DELIVERING),
            *("--max-examples", str(EXAMPLES), *REPEATABLE, "--no-color"),
            *("--suppress-health-check", "all", "--continue-on-failure"),
            *("--report", "json", "--report-json-path", str(report)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    expected = [
        (path, method)
        for path, operations in document["paths"].items()
        for method in operations
        if path != ENDLESS and not re.match(DELIVERING, path)
    ]
    assert json.loads(report.read_text())["operations"]["tested"] == len(expected)
