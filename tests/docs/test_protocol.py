"""docs/protocol.md against a server: its examples run, and nothing is left out."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright._impl._driver import compute_driver_executable  # the Node that comes with it

from poussetaches.core.signature import SignedRequest, body_hash, secret_bytes, sign_request
from tests.acceptance.harness import Delivery, Receiver, Server, receiving, serving
from tests.docs.shell import ROOT, SERVER, code_blocks, execute, run

PAGE = (ROOT / "docs" / "protocol.md").read_text()
ORIGINAL_PAGE = (ROOT / "docs" / "original.md").read_text()
API = ROOT / "src" / "poussetaches" / "api"
TOKEN = "$TOKEN"  # in examples for handlers: that of the attempt
ANSWERING = API.parent / "server"


class Example(NamedTuple):
    """A block of commands, and the heading that it stands under."""

    heading: str
    commands: str


class Call(NamedTuple):
    """The request of one curl of an example."""

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


@pytest.mark.parametrize(
    "example",
    [it for it in examples() if TOKEN not in it.commands],
    ids=lambda example: example.heading,
)
def test_examples_of_the_page_run(example: Example, server: Server, application: Receiver) -> None:
    server.request("POST", "/v1/test/reset")
    task = {"url": f"{application.url}/tasks/welcome", "json": {"user": 42}, "queue": "mail"}
    pushed = server.request("POST", "/v1/tasks", json.dumps(task).encode())
    task_id = pushed.headers["poussetaches-task-id"]

    run(example.commands, server=server.url, application=application.url, ID=task_id)


def test_example_of_a_report_runs_in_a_handler(server: Server) -> None:
    server.request("POST", "/v1/test/reset")

    def answer(delivery: Delivery) -> int:
        for example in examples():
            if TOKEN in example.commands:
                run(
                    example.commands,
                    server=server.url,
                    application="http://not-called.test",
                    ID=delivery.headers["poussetaches-task-id"],
                    TOKEN=delivery.headers["poussetaches-attempt-token"],
                )
        return 200

    with receiving(answer) as application:
        task = json.dumps({"url": application.url}).encode()
        task_id = server.request("POST", "/v1/tasks", task).headers["poussetaches-task-id"]
        server.request("POST", "/v1/test/run-until-idle")

    [attempt] = server.request("GET", f"/v1/tasks/{task_id}").json["attempts"]
    assert attempt["progress"]["note"] == "rows imported"


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
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("CODE"):
                found.add(ast.literal_eval(node.value))
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            place = {"Problem": 1, "Kind": 1, "invalid": 0, "unavailable": 0, "_refuse": 0}.get(
                name
            )
            given = [] if place is None else node.args[place : place + 1]
            given += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            for argument in given:
                found |= {
                    part.value
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_every_problem_has_its_row() -> None:
    documented = set(re.findall(r"^\| \d{3} \| `([a-z-]+)` \|", PAGE, re.MULTILINE))

    assert documented == problem_codes()


# The example of a signed request, as the page has it.
SIGNED = dict(line.split(": ", 1) for line in code_blocks(PAGE, "http")[0].strip().splitlines())
KEY = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'


def test_example_of_a_signature_is_right() -> None:
    (content,) = (block for block in code_blocks(PAGE, "text") if "poussetaches-v1" in block)
    request = SignedRequest(
        method="POST",
        path="/tasks/send",
        query="x=1",
        id=SIGNED["webhook-id"],
        timestamp=int(SIGNED["webhook-timestamp"]),
        body_hash=body_hash(BODY),
    )

    assert request.content == content.rstrip("\n").encode()
    assert SIGNED["Poussetaches-Signature"] == sign_request([KEY], request)


def deliveries() -> Iterator[tuple[str, str, dict[str, str], str, bool]]:
    """Yield the method, target, headers and body of deliveries, and whether they are signed."""
    now = int(time.time())

    def headers(target: str, body: str, at: int) -> dict[str, str]:
        path, _, query = target.partition("?")
        request = SignedRequest("POST", path, query, "task-1", at, body_hash(body.encode()))
        return {
            "webhook-id": "task-1",
            "webhook-timestamp": str(at),
            "poussetaches-signature": sign_request([b"another", KEY], request),
        }

    for target in ("/", "/tasks/send", "/tasks/send?x=1?", "/tasks/caf%C3%A9?"):
        yield "POST", target, headers(target, "{}", now), "{}", True
    yield "PUT", "/", headers("/", "{}", now), "{}", False
    yield "POST", "/other", headers("/", "{}", now), "{}", False
    yield "POST", "/?x", headers("/", "{}", now), "{}", False
    yield "POST", "/", headers("/", "{}", now), "[]", False
    yield "POST", "/", headers("/", "{}", now - 400), "{}", False
    yield "POST", "/", {}, "{}", False


def test_python_code_checks_signatures(page: ModuleType) -> None:
    (code,) = code_blocks(PAGE, "python")
    execute(page, code)

    for method, target, headers, body, signed in deliveries():
        assert page.is_signed(KEY, method, target, headers, body.encode()) is signed, target


def test_javascript_code_checks_signatures() -> None:
    (code,) = code_blocks(PAGE, "javascript")
    given = [delivery[:4] for delivery in deliveries()]
    script = f"""{code}
        const key = Buffer.from({KEY.hex()!r}, "hex");
        const found = {json.dumps(given)}.map((delivery) => isSigned(key, ...delivery));
        console.log(JSON.stringify(found));
    """
    node, _ = compute_driver_executable()

    ran = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)

    assert ran.stderr == ""
    assert json.loads(ran.stdout) == [delivery[4] for delivery in deliveries()]
