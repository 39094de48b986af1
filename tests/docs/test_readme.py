"""README.md: its quickstart and its tour, as a new user runs them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

from poussetaches.testing import testing
from tests.acceptance.harness import Server, free_port, receiving, serving, wait_until
from tests.docs.shell import ROOT, code_blocks, execute, run, running

README = (ROOT / "README.md").read_text()
QUICKSTART, TOUR = code_blocks(README, "sh")
DOZEN = 12


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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
    stop = re.search(r"`(kill %1 %2)`", README)
    assert stop is not None
    (tmp_path / "app.py").write_text(app)
    server = Server(tmp_path / "poussetaches_data")  # for its questions: the commands start one
    flask_port = free_port()
    commands = QUICKSTART.replace("7991", str(server.port)).replace("5000", str(flask_port))
    ports = {"POUSSETACHES_PORT": str(server.port), "FLASK_RUN_PORT": str(flask_port)}

    with running(f"{commands}\nread -r _\n{stop[1]}\nwait\n", tmp_path, ports):
        tasks = wait_until(lambda: succeeded(server), bool, "the task to succeed")
        log = (tmp_path / "log").read_text()

    assert [task["url"] for task in tasks] == [f"http://127.0.0.1:{flask_port}/tasks/hello"]
    assert "hello Ada" in log
    assert len((app + QUICKSTART).splitlines()) <= 20
    assert not listens(server.port)
    assert not listens(flask_port)


def test_tour_takes_a_dozen_lines_and_runs(tmp_path: Path) -> None:
    lines = [line for line in TOUR.splitlines() if not line.startswith("#")]
    with (
        receiving() as application,
        serving(tmp_path / "data", "--test-mode") as server,
    ):
        run(TOUR, server=server.url, application=application.url)
        queue = server.request("GET", "/v1/queues/mail").json
        schedules = server.request("GET", "/v1/schedules").json["schedules"]

    assert len(lines) <= DOZEN
    assert (queue["rate"], queue["counts"]["waiting"]) == (2.0, 2)
    assert [schedule["name"] for schedule in schedules] == ["report"]


def test_python_side_pushes_as_it_says(page: ModuleType) -> None:
    _, code = code_blocks(README, "python")

    execute(page, code)
    with testing(page.tasks, "record") as box:
        page.app.test_client().post("/sign-up/42")

    [record] = box.all
    assert (record.arguments, record.task.key) == ({"user_id": 42}, "welcome-42")
