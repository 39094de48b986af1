"""``poussetaches run`` with gunicorn, the usual server of Flask applications."""

from __future__ import annotations

import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, free_port, wait_until
from tests.acceptance.test_run import Run

APP = """
import sys
from flask import Flask
from poussetaches.flask import Tasks

app = Flask(__name__)
tasks = Tasks(app)

@tasks.task
def where() -> list[str]:
    return sys.argv

@app.get("/")
def push() -> str:
    return where.push().id
"""


def get(port: int) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_website_pushes_and_the_second_process_runs_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    website, tasks = free_port(), free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "--chdir", str(tmp_path), "app:app"]
    second = " ".join([*gunicorn, "--bind", f"127.0.0.1:{tasks}"])
    run = Run(tmp_path / "data", [*gunicorn, "--bind", f"127.0.0.1:{website}"], "--tasks", second)
    try:
        run.start()
        run.wait_for_line("application answers")
        status, task_id = get(website)

        def attempts() -> list[dict[str, str]]:
            found: list[dict[str, str]] = run.request("GET", f"/v1/tasks/{task_id}").json[
                "attempts"
            ]
            return found

        [attempt] = wait_until(attempts, bool, "the task to run")
        run.stop()
    finally:
        run.close()

    assert status == 200
    assert f"127.0.0.1:{tasks}" in attempt["response_body"]
    assert f"127.0.0.1:{website}" not in attempt["response_body"]


CALLBACK = """
from poussetaches.flask import EndedTask

@tasks.task
def after(ended: EndedTask) -> None: ...

@tasks.task(on_success=after)
def report() -> None: ...

tasks.queue(concurrency=4)
"""


@pytest.mark.parametrize(
    ("code", "slots"),
    [("tasks.queue('reports', concurrency=6)\n", 10), (CALLBACK, 8)],
    ids=["declared queue", "queue of callbacks"],
)
def test_slots_of_queues_in_the_code_are_compared_with_the_threads(
    tmp_path: Path, code: str, slots: int
) -> None:
    (tmp_path / "app.py").write_text(f"{APP}\n{code}")
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(tmp_path), "--threads", "8"]
    address = f"127.0.0.1:{free_port()}"
    run = Run(tmp_path / "data", [*command, "--bind", address, "app:app"])
    try:
        run.start()
        run.wait_for_line(
            f"tasks can occupy every worker of the application workers=8 slots={slots} "
        )
        run.stop()
    finally:
        run.close()
