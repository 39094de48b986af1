"""README.md and docs/tour.md: the quickstart and the tour, as a new user runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from poussetaches.testing import testing
from tests.acceptance.harness import Server, free_port, serving, wait_until
from tests.docs.shell import ROOT, code_blocks, execute, listens, run, running

README = (ROOT / "README.md").read_text()
START, PUSH = code_blocks(README, "sh")
[TOUR] = code_blocks((ROOT / "docs" / "tour.md").read_text(), "sh")
TEN = 10  # calls of the tour
LONGEST = 120  # characters of a line that the tour prints
SUCCEEDED = 3  # of the tour's tasks


def succeeded(server: Server) -> list[dict[str, Any]]:
    try:
        tasks: list[dict[str, Any]] = server.request("GET", "/v1/tasks?state=succeeded").json[
            "tasks"
        ]
    except OSError:
        return []
    return tasks


def test_quickstart_delivers_its_task(tmp_path: Path) -> None:
    app, _ = code_blocks(README, "python")
    (tmp_path / "app.py").write_text(app)
    server = Server(tmp_path / "poussetaches_data")  # for its questions: the command starts one
    flask_port = free_port()
    ports = {"POUSSETACHES_PORT": str(server.port), "FLASK_RUN_PORT": str(flask_port)}

    with running(f"{START.strip()} &\nread -r _\nkill %1\nwait\n", tmp_path, ports):
        wait_until(lambda: listens(server.port), bool, "the server to listen")
        run(PUSH, server=server.url, application="")
        tasks = wait_until(lambda: succeeded(server), bool, "the task to succeed")
        log = (tmp_path / "log").read_text()

    assert [task["url"] for task in tasks] == ["/tasks/hello"]
    assert "hello Ada" in log
    assert len(START.splitlines() + PUSH.splitlines()) == 2
    assert len((app + START + PUSH).splitlines()) <= 20
    assert not listens(server.port)
    assert not listens(flask_port)


def documents(text: str) -> list[Any]:
    """Return the JSON documents in a text, one after another."""
    decoder, found = json.JSONDecoder(), list[Any]()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


@contextmanager
def quickstart_application(folder: Path) -> Iterator[str]:
    """Run the application of the quickstart; yield its URL."""
    app, _ = code_blocks(README, "python")
    (folder / "app.py").write_text(app)
    port = free_port()
    with running(f"flask --app app run -p {port} & read -r _; kill %1; wait", folder, {}):
        wait_until(lambda: listens(port), bool, "the application to listen")
        yield f"http://127.0.0.1:{port}"


def test_each_call_of_the_tour_shows_what_its_comment_says(tmp_path: Path) -> None:
    calls = [line for line in TOUR.splitlines() if re.search(r"\bcall [-\"$]", line)]
    with (
        serving(tmp_path / "data") as server,
        quickstart_application(tmp_path) as application,
    ):
        printed = run(TOUR, server=server.url, application=application)
        wait_until(
            lambda: len(succeeded(server)), lambda n: n == SUCCEEDED, "three tasks to succeed"
        )
        log = (tmp_path / "log").read_text()
    answers = documents(printed)
    queue, delayed, keyed, batch, schedule, _typo, failures, requeued, listed, stats = answers
    [waiting] = listed["tasks"]

    assert len(calls) == TEN
    assert max(map(len, printed.splitlines())) < LONGEST
    assert (queue["rate"], queue["concurrency"], queue["retry"]["max_attempts"]) == (2.0, 2, 5)
    assert keyed["key"] == "welcome-7"
    assert len(batch["ids"]) == 1
    assert schedule["timezone"] == "Europe/Paris"
    assert [(each["status"], each["count"]) for each in failures["groups"]] == [(404, 1)]
    assert requeued["count"] == 1
    assert waiting["id"] == delayed["id"]
    assert [each["reason"] for each in waiting["waiting_for"]] == ["not_due"]
    assert stats
    assert all(f"hello {name}" in log for name in ("Eve", "Joe", "Zoe"))


def test_python_side_pushes_as_it_says(page: ModuleType) -> None:
    _, code = code_blocks(README, "python")

    execute(page, code)
    with testing(page.tasks, "record") as box:
        page.app.test_client().post("/sign-up/42")

    [record] = box.all
    assert (record.arguments, record.task.key) == ({"user_id": 42}, "welcome-42")
