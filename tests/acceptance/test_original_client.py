"""The original's own Python client, unchanged, in a Flask application against our server."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import KEY, Server, free_port, serving, wait_until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-original" / "bin" / "python"
APP = Path(__file__).parent / "original_client" / "app.py"


class Application:
    """The application's process, and its client's methods by name."""

    def __init__(self, server: Server) -> None:
        assert PYTHON.exists(), f"{PYTHON} is missing: run `make test`, which makes it"
        self.port = free_port()
        self._process = subprocess.Popen(
            [PYTHON, APP, str(self.port), server.url],
            env={**os.environ, "POUSSETACHES_AUTH_KEY": KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def call(self, method: str, **arguments: object) -> Any:
        """Call a method of the client and return what it returns."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/call/{method}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
            return json.load(response)["result"]

    def parsed(self) -> list[dict[str, Any]]:
        """Return the results of the client's ``parse`` for each delivery."""
        url = f"http://127.0.0.1:{self.port}/parsed"
        with urllib.request.urlopen(url, timeout=30) as response:
            found: list[dict[str, Any]] = json.load(response)
            return found

    def answers(self) -> bool:
        """Return whether the application answers."""
        try:
            self.parsed()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Kill the application."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.1",
        "POUSSETACHES_ORIGINAL_MULTIPLIER": "1",
        "POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "3",
    }
    with serving(tmp_path_factory.mktemp("original") / "data", env=env) as server:
        yield server


@pytest.fixture(scope="module")
def application(server: Server) -> Iterator[Application]:
    application = Application(server)
    try:
        wait_until(application.answers, bool, "the application to answer")
        yield application
    finally:
        application.close()


def listed(application: Application, listing: str, task_id: str) -> dict[str, Any]:
    """Wait until the client lists a task, and return it."""
    found: list[dict[str, Any]] = wait_until(
        lambda: application.call(f"get_{listing}"),
        lambda tasks: any(task["task_id"] == task_id for task in tasks),
        f"task {task_id} in {listing}",
    )
    return next(task for task in found if task["task_id"] == task_id)


def parsed_of(application: Application, behaviour: str) -> list[dict[str, Any]]:
    return [task for task in application.parsed() if task["behaviour"] == behaviour]


def test_a_pushed_task_is_parsed_and_listed_as_a_success(application: Application) -> None:
    payload = {"a": [1, "é"]}

    task_id = application.call("push", payload=payload, path="/task/succeeds")

    task = listed(application, "success", task_id)
    assert (task["payload"], task["expected"], task["tries"]) == (payload, 200, 1)
    assert (task["schedule"], task["last_error_status_code"]) == ("", 0)
    (received,) = parsed_of(application, "succeeds")
    assert (received["payload"], received["tries"]) == (payload, 1)
    assert len(received["req_id"]) == 12


def test_another_expected_status_counts_as_success(application: Application) -> None:
    task_id = application.call("push", payload="bare", path="/task/204", expected=204)

    assert listed(application, "success", task_id)["payload"] == "bare"


def test_a_failing_task_is_retried_until_it_succeeds(application: Application) -> None:
    task_id = application.call("push", payload={}, path="/task/fails_twice")

    task = listed(application, "success", task_id)
    assert (task["tries"], task["last_error_status_code"]) == (3, 503)
    assert task["last_error_body"] == "café closed"
    received = parsed_of(application, "fails_twice")
    assert [attempt["tries"] for attempt in received] == [1, 2, 3]
    assert len({attempt["req_id"] for attempt in received}) == 3


def test_a_task_that_keeps_failing_is_dead_with_its_error(application: Application) -> None:
    task_id = application.call("push", payload={}, path="/task/fails")

    task = listed(application, "dead", task_id)
    assert (task["tries"], task["last_error_status_code"]) == (3, 503)
    assert task["last_error_body"] == "café closed"


def test_a_delayed_task_waits_for_its_minutes(application: Application) -> None:
    before = time.time()

    task_id = application.call("push", payload={}, path="/task/later", delay=2)

    task = listed(application, "waiting", task_id)
    assert before + 119 <= task["next_run"] <= time.time() + 120.01
    assert parsed_of(application, "later") == []


def test_a_schedule_is_pushed_once_runs_and_is_listed(application: Application) -> None:
    push = {"payload": {"n": 1}, "path": "/task/scheduled", "schedule": "@every 1s"}

    first = application.call("push", **push)
    again = application.call("push", **push)

    assert (first, len(first)) == (again, 40)
    assert listed(application, "cron", first)["schedule"] == "@every 1s"
    assert listed(application, "waiting", first)["payload"] == {"n": 1}
    wait_until(
        lambda: parsed_of(application, "scheduled"), lambda runs: len(runs) >= 2, "two runs"
    )
    assert listed(application, "cron", first)["tries"] == 1


def test_pause_delays_tasks_until_resume(application: Application) -> None:
    application.call("pause")
    task_id = application.call("push", payload={}, path="/task/paused")

    assert listed(application, "waiting", task_id)["tries"] == 0
    assert parsed_of(application, "paused") == []
    application.call("resume")

    listed(application, "success", task_id)
