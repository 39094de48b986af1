"""docs/protocol.md against a server: its examples run, and nothing is left out."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.acceptance.harness import Receiver, Server, receiving, serving
from tests.docs.shell import ROOT, SERVER, code_blocks, run

PAGE = (ROOT / "docs" / "protocol.md").read_text()
ORIGINAL_PAGE = (ROOT / "docs" / "original.md").read_text()
API = ROOT / "src" / "poussetaches" / "api"
ANSWERING = API.parent / "server"


class Example(NamedTuple):
    """A block of commands, and the heading that it stands under."""

    heading: str
    commands: str


class Call(NamedTuple):
    """What one curl of an example requests."""

    method: str
    path: str


def examples() -> Iterator[Example]:
    heading = ""
    for part in re.split(r"^(?=#{2,3} )", PAGE, flags=re.MULTILINE):
        heading = part.partition("\n")[0].strip("# ")
        for block in code_blocks(part, "sh"):
            yield Example(heading, block)


def calls(commands: str) -> Iterator[Call]:
    """Yield the requests of a block's commands."""
    for line in re.findall(r"curl (.*?)(?=\n(?:curl|printf)|\Z)", commands, re.DOTALL):
        words = shlex.split(line.replace("\\\n", " "))
        url = next(word for word in words if word.startswith(SERVER))
        has_body = "-d" in words or "--data-binary" in words
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if has_body else "GET"
        yield Call(method, urlsplit(url).path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("protocol") / "data", "--test-mode") as server:
        yield server


@pytest.fixture(scope="module")
def application() -> Iterator[Receiver]:
    with receiving() as application:
        yield application


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.heading)
def test_examples_of_the_page_run(example: Example, server: Server, application: Receiver) -> None:
    server.request("POST", "/v1/test/reset")
    task = {"url": f"{application.url}/tasks/welcome", "json": {"user": 42}, "queue": "mail"}
    pushed = server.request("POST", "/v1/tasks", json.dumps(task).encode())
    task_id = pushed.headers["poussetaches-task-id"]

    run(example.commands, server=server.url, application=application.url, ID=task_id)


def operations(server: Server) -> set[tuple[str, str]]:
    """Return the method and the path of all that the server describes of itself."""
    paths: dict[str, dict[str, Any]] = server.request("GET", "/openapi.json").json["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_every_route_has_an_example(server: Server) -> None:
    patterns = {
        (method, path): re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
        for method, path in operations(server)
        if path.startswith(("/v1", "/healthz", "/readyz", "/metrics", "/openapi.json"))
    }
    made = {call for example in examples() for call in calls(example.commands)}

    # The most literal path that fits is the one that is meant.
    shown = set()
    for call in made:
        fitting = [
            key
            for key, pattern in patterns.items()
            if key[0] == call.method and pattern.fullmatch(call.path)
        ]
        assert fitting, f"{call} is not a route"
        shown.add(min(fitting, key=lambda key: key[1].count("{")))
    assert shown == set(patterns)


def test_every_route_of_the_original_is_on_its_page(server: Server) -> None:
    theirs = {
        (method, path)
        for method, path in operations(server)
        if re.fullmatch(r"/|/(waiting|success|dead|cron|pause|resume)", path)
    }

    found = set(re.findall(r"^\| `([A-Z]+) (/\w*)` \|", ORIGINAL_PAGE, re.MULTILINE))

    assert found == theirs


def problem_codes() -> set[str]:
    """Return the codes of all problems that can be answered, read from the source."""
    found = set()
    for path in [*sorted(API.rglob("*.py")), *sorted(ANSWERING.rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CODE":
                found.add(ast.literal_eval(node.value))
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            place = {"Problem": 1, "Kind": 1, "invalid": 0, "_refuse": 0}.get(name)
            given = [] if place is None else node.args[place : place + 1]
            given += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            for argument in given:
                found |= {
                    part.value
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_every_problem_has_its_row(server: Server) -> None:
    documented = set(re.findall(r"^\| \d{3} \| `([a-z-]+)` \|", PAGE, re.MULTILINE))

    assert problem_codes() - documented == set()
    assert documented - problem_codes() == set()
