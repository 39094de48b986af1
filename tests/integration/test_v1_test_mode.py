"""Test mode over real HTTP: real deliveries on a virtual clock."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    PATIENCE,
    Answer,
    Delivery,
    Receiver,
    Server,
    free_port,
    serving,
)

DAY = 86_400


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("test-mode") / "data", "--test-mode") as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """Return an empty server."""
    assert running.request("POST", "/v1/test/reset").status == 200
    return running


class App:
    """An application with configured answers for each path, 200 by default."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.receiver = Receiver(self._answer)

    def _answer(self, delivery: Delivery) -> int:
        return self.answers.get(delivery.path, 200)

    @property
    def paths(self) -> list[str]:
        """The paths of all deliveries."""
        return [delivery.path for delivery in self.receiver.deliveries]


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.receiver.close()


def post(server: Server, path: str, **fields: object) -> Answer:
    return server.request("POST", path, json.dumps(fields).encode() if fields else None)


def push(server: Server, url: str, **fields: object) -> str:
    answer = post(server, "/v1/tasks", url=url, **fields)
    assert answer.status == 201, answer
    task_id: str = answer.json["id"]
    return task_id


def settled(answer: Answer) -> int:
    assert answer.status == 200, answer
    assert set(answer.json) == {"now", "attempt_count"}
    count: int = answer.json["attempt_count"]
    return count


def run_until_idle(server: Server) -> int:
    return settled(post(server, "/v1/test/run-until-idle"))


def advance(server: Server, seconds: float) -> int:
    return settled(post(server, "/v1/test/advance", seconds=seconds))


def now_of(server: Server) -> datetime:
    return datetime.fromisoformat(post(server, "/v1/test/run-until-idle").json["now"])


def task_of(server: Server, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = server.request("GET", f"/v1/tasks/{task_id}").json
    return task


def problem_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["type"].removeprefix("urn:poussetaches:problem:")


def test_nothing_is_delivered_before_run_until_idle(server: Server, app: App) -> None:
    task_id = push(server, app.receiver.url + "/run")
    assert app.paths == []

    assert run_until_idle(server) == 1

    assert app.paths == ["/run"]
    assert task_of(server, task_id)["state"] == "succeeded"
    assert run_until_idle(server) == 0


def test_clock_begins_at_the_real_time_and_stands_still(server: Server) -> None:
    first = now_of(server)

    assert abs(datetime.now(UTC) - first) < timedelta(seconds=60)
    assert now_of(server) == first


def test_retries_follow_their_backoff(server: Server, app: App) -> None:
    app.answers["/run"] = 503
    task_id = push(server, app.receiver.url + "/run", retry={"jitter": 0})

    counts = [run_until_idle(server), advance(server, 0.999), advance(server, 0.001)]
    assert counts == [1, 0, 1]

    assert advance(server, 4 + 16 + 64) == 3
    started = [
        datetime.fromisoformat(attempt["started_at"])
        for attempt in task_of(server, task_id)["attempts"]
    ]
    waits = [(b - a).total_seconds() for a, b in itertools.pairwise(started)]
    assert waits == [1, 4, 16, 64]


def test_failing_task_dies_when_its_attempts_are_used_up(server: Server, app: App) -> None:
    app.answers["/run"] = 500
    task_id = push(server, app.receiver.url + "/run")

    assert advance(server, 10 * DAY) == 12

    task = task_of(server, task_id)
    assert (task["state"], task["reason"]) == ("dead", "exhausted")


def test_delay_is_over_when_the_time_has_passed(server: Server, app: App) -> None:
    push(server, app.receiver.url + "/run", delay=3600)

    assert run_until_idle(server) == 0
    assert advance(server, 3599.999999) == 0
    assert advance(server, 0.000001) == 1


def test_daily_schedule_starts_every_day_for_20_days_though_it_fails(
    server: Server, app: App
) -> None:
    app.answers["/daily"] = 500
    definition = {"cron": "0 3 * * *", "task": {"url": app.receiver.url + "/daily"}}
    made = server.request("PUT", "/v1/schedules/daily", json.dumps(definition).encode())
    assert made.status == 201, made
    began = time.monotonic()

    count = advance(server, 20 * DAY)

    runs = server.request("GET", "/v1/schedules/daily/runs").json["tasks"]
    started = {run["created_at"] for run in runs}
    assert len(started) == 20
    assert all(moment[11:26] == "03:00:00.000000" for moment in started)
    assert count > 20 * 8  # each is retried until the next one supersedes it
    assert time.monotonic() - began < 15


def test_tasks_that_handlers_push_are_made_too(server: Server, app: App) -> None:
    push(server, app.receiver.url + "/run", on_success=app.receiver.url + "/told")

    assert run_until_idle(server) == 2

    assert app.paths == ["/run", "/told"]


def test_handler_may_use_the_api_while_it_is_called(server: Server) -> None:
    def answer(delivery: Delivery) -> int:
        if delivery.path == "/first":
            push(server, f"{receiver.url}/second")
            return server.request("GET", "/v1/tasks").status
        return 200

    receiver = Receiver(answer)
    try:
        push(server, receiver.url + "/first")

        assert run_until_idle(server) == 2
    finally:
        receiver.close()


def test_application_that_is_away_is_held_and_costs_nothing(server: Server) -> None:
    port = free_port()
    task_id = push(server, f"http://127.0.0.1:{port}/run")

    assert run_until_idle(server) == 0
    waits_for = [reason["reason"] for reason in task_of(server, task_id)["waiting_for"]]
    assert "origin_held" in waits_for
    assert advance(server, 60) == 0

    receiver = Receiver(lambda _: 200, port)
    try:
        assert run_until_idle(server) == 0
        assert advance(server, 30) == 1
    finally:
        receiver.close()


def test_rate_of_a_queue_is_kept_in_virtual_time(server: Server, app: App) -> None:
    assert server.request("PUT", "/v1/queues/slow", b'{"rate": "6/min"}').status == 201
    for _ in range(5):
        push(server, app.receiver.url + "/run", queue="slow")

    assert [run_until_idle(server), advance(server, 20), advance(server, 3600)] == [1, 2, 2]


def test_task_expires_in_virtual_time(server: Server, app: App) -> None:
    expires_at = (now_of(server) + timedelta(seconds=30)).isoformat()
    task_id = push(server, app.receiver.url + "/run", delay=60, expires_at=expires_at)

    assert advance(server, 3600) == 0

    task = task_of(server, task_id)
    assert (task["state"], task["reason"]) == ("dead", "expired")


def test_original_routes_are_served_too(server: Server, app: App) -> None:
    task_id = server.push(app.receiver.url + "/run", delay=2)

    assert run_until_idle(server) == 0
    assert advance(server, 120) == 1
    assert server.ids("success") == {task_id}


def test_reset_leaves_nothing(server: Server, app: App) -> None:
    url = app.receiver.url + "/run"
    key = {"key": "once", "queue": "mine"}
    first = push(server, url, **key)
    away = push(server, f"http://127.0.0.1:{free_port()}/run")
    definition = {"cron": "@daily", "task": {"url": url}}
    server.request("PUT", "/v1/schedules/daily", json.dumps(definition).encode())
    advance(server, 100 * DAY)
    server.request("POST", "/pause")

    answer = post(server, "/v1/test/reset")

    assert settled(answer) == 0
    assert abs(datetime.now(UTC) - datetime.fromisoformat(answer.json["now"])).days == 0
    assert server.request("GET", "/").json == {"paused": False, "in_flight": 0}
    assert server.request("GET", "/v1/tasks").json["tasks"] == []
    assert server.request("GET", "/v1/schedules").json["schedules"] == []
    queues = {queue["name"] for queue in server.request("GET", "/v1/queues").json["queues"]}
    assert queues == {"default"}
    assert server.request("GET", f"/v1/tasks/{away}").status == 404
    assert push(server, url, **key) != first
    assert run_until_idle(server) == 1


def test_what_does_not_come_to_rest_is_given_up_with_409(server: Server, app: App) -> None:
    app.answers["/run"] = 500
    at_once = {"min_backoff": 0, "max_backoff": 0, "max_attempts": 1000}
    for _ in range(11):
        push(server, app.receiver.url + "/run", retry=at_once)

    answer = post(server, "/v1/test/run-until-idle")

    assert problem_of(answer) == (409, "too-many-attempts")
    made = len(app.paths)
    assert 10_000 <= made < 10_300
    assert run_until_idle(server) == 11_000 - made


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"", (400, "bad-json"), id="no body"),
        pytest.param(b"{", (400, "bad-json"), id="not JSON"),
        pytest.param(b"{}", (422, "invalid-advance"), id="nothing given"),
        pytest.param(b'{"seconds": -1}', (422, "invalid-advance"), id="backwards"),
        pytest.param(b'{"seconds": 315360001}', (422, "invalid-advance"), id="over ten years"),
        pytest.param(b'{"seconds": 1e400}', (422, "invalid-advance"), id="endless"),
        pytest.param(b'{"seconds": "1"}', (422, "invalid-advance"), id="text"),
        pytest.param(b'{"seconds": true}', (422, "invalid-advance"), id="boolean"),
        pytest.param(b'{"seconds": 1, "x": 1}', (422, "invalid-advance"), id="unknown field"),
        pytest.param(b" " * 100_000, (413, "too-large"), id="too large"),
    ],
)
def test_impossible_advance_is_refused(
    server: Server, body: bytes, problem: tuple[int, str]
) -> None:
    before = now_of(server)

    assert problem_of(server.request("POST", "/v1/test/advance", body)) == problem

    assert now_of(server) == before


def test_ten_quiet_years_pass_at_once(server: Server) -> None:
    began = now_of(server)

    assert advance(server, 315_360_000) == 0

    assert now_of(server) - began == timedelta(seconds=315_360_000)


def test_calls_at_the_same_time_are_carried_out_one_after_another(
    server: Server, app: App
) -> None:
    began = now_of(server)
    for _ in range(20):
        push(server, app.receiver.url + "/run")

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda seconds: advance(server, seconds), [10.0] * 4))

    assert sum(counts) == 20
    assert now_of(server) - began == timedelta(seconds=40)


@pytest.mark.parametrize("path", ["run-until-idle", "advance", "reset"])
def test_routes_do_not_exist_otherwise(tmp_path: Path, path: str) -> None:
    with serving(tmp_path / "data") as ordinary:
        answer = post(ordinary, f"/v1/test/{path}", seconds=1)

    assert problem_of(answer) == (404, "not-found")
    assert "--test-mode" in answer.json["detail"]


def test_nothing_is_written_and_the_log_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--test-mode") as server:
        assert server.stop() == 0

        assert not server.data_dir.exists()
        assert server.logged("test mode: nothing is stored")


def test_hanging_handler_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    release = threading.Event()

    def answer(delivery: Delivery) -> int:
        release.wait(PATIENCE)
        return 200

    receiver = Receiver(answer)
    with serving(tmp_path / "data", "--test-mode", "--timeout", "0.2") as server:
        task_id = push(server, receiver.url + "/run")

        assert run_until_idle(server) == 1

        assert task_of(server, task_id)["last_error"] == "no answer within 0.2 s"
    release.set()
    receiver.close()


def test_stop_during_a_call_ends_it_and_is_clean(tmp_path: Path) -> None:
    arrived, release = threading.Event(), threading.Event()

    def answer(delivery: Delivery) -> int:
        arrived.set()
        release.wait(PATIENCE)
        return 200

    receiver = Receiver(answer)
    with serving(tmp_path / "data", "--test-mode") as server, ThreadPoolExecutor(1) as pool:
        push(server, receiver.url + "/run")
        call = pool.submit(advance, server, 10.0)
        assert arrived.wait(PATIENCE)
        began = time.monotonic()

        assert server.stop() == 0

        assert call.result() == 0
        assert time.monotonic() - began < 4
    release.set()
    receiver.close()
