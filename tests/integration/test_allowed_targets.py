"""The setting ``allow_target`` over real HTTP: what is refused when it comes, and what later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poussetaches.client import Client as PythonClient
from poussetaches.client import InvalidRequest
from tests.acceptance.harness import Receiver, free_port, receiving, serving, wait_until
from tests.integration.v1 import Client, problem

ELSEWHERE = "http://elsewhere.example/run"
REFUSAL = "elsewhere.example:80 is not an allowed target; see the setting allow_target"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("allowed") / "data"
    rules = [
        "--allow-target",
        receiver.url.removeprefix("http://"),
        "--allow-target",
        "*.app.test",
    ]
    with serving(folder, "--test-mode", *rules) as server:
        yield Client(server)


@pytest.fixture
def client(running: Client, receiver: Receiver) -> Client:
    assert running.post("/v1/test/reset").status == 200
    receiver.deliveries.clear()
    return running


@pytest.mark.parametrize(
    ("method", "path", "fields", "place"),
    [
        ("POST", "/", {"url": ELSEWHERE, "payload": ""}, "url"),
        ("POST", "/", {"url": ELSEWHERE, "payload": "", "schedule": "@hourly"}, "url"),
        ("POST", "/v1/tasks", {"url": ELSEWHERE}, "url"),
        (
            "POST",
            "/v1/tasks",
            {"url": "http://a.app.test/", "on_success": ELSEWHERE},
            "on_success",
        ),
        ("POST", "/v1/tasks", {"url": "http://a.app.test/", "on_dead": ELSEWHERE}, "on_dead"),
        (
            "POST",
            "/v1/tasks/batch",
            {"tasks": [{"url": "http://a.app.test/"}, {"url": ELSEWHERE}]},
            "tasks[1].url",
        ),
        (
            "POST",
            "/v1/tasks/run",
            {"all": True, "set": {"url": ELSEWHERE}},
            "set.url",
        ),
        ("PUT", "/v1/queues/mail", {"base_url": "http://elsewhere.example"}, "base_url"),
        ("PATCH", "/v1/queues/mail", {"on_dead": ELSEWHERE}, "on_dead"),
        (
            "PUT",
            "/v1/schedules/daily",
            {"cron": "@daily", "task": {"url": ELSEWHERE}},
            "task.url",
        ),
        (
            "PUT",
            "/v1/schedules",
            {
                "owner": "a",
                "schedules": [{"name": "x", "cron": "@daily", "task": {"url": ELSEWHERE}}],
            },
            "schedules[0].task.url",
        ),
    ],
)
def test_what_is_known_to_be_refused_is_not_taken(
    client: Client, method: str, path: str, fields: dict[str, Any], place: str
) -> None:
    answer = client.send(method, path, json_of(fields))

    assert problem(answer) == (403, "target-not-allowed", [place])
    assert answer.json["errors"][0]["reason"] == REFUSAL
    assert client.ids("") == []


def test_task_cannot_be_changed_to_lead_elsewhere(client: Client, receiver: Receiver) -> None:
    task_id = client.push(url=receiver.url, delay=60)

    for changes in ({"url": ELSEWHERE}, {"on_dead": ELSEWHERE}):
        assert problem(client.patch(f"/v1/tasks/{task_id}", **changes))[:2] == (
            403,
            "target-not-allowed",
        )
        answer = client.send("POST", f"/v1/tasks/{task_id}/run", json_of(changes))
        assert problem(answer)[:2] == (403, "target-not-allowed")
    assert client.task(task_id)["url"] == receiver.url


def test_python_client_says_which_field_is_refused(client: Client) -> None:
    with PythonClient(client.server.url) as python, pytest.raises(InvalidRequest) as caught:
        python.push(ELSEWHERE)

    cause = caught.value
    assert (cause.status, cause.code, cause.errors[0].field) == (403, "target-not-allowed", "url")


def test_alerts_go_where_the_operator_says(tmp_path: Path) -> None:
    """The operator configures ``alert_url``, and pushes cannot change it."""
    with receiving() as chat:
        env = {"POUSSETACHES_ALERT_URL": chat.url + "/alerts"}
        with serving(tmp_path / "data", "--allow-target", "*.invalid", env=env) as server:
            Client(server).push(url="http://unknown.invalid/", retry={"max_attempts": 1})
            wait_until(lambda: list(chat.deliveries), bool, "the alert")

    assert b"New failure" in chat.deliveries[0].body


def test_what_is_allowed_is_delivered(client: Client, receiver: Receiver) -> None:
    task_id = client.push(url=receiver.url + "/run", on_success=receiver.url + "/told")

    client.post("/v1/test/run-until-idle")

    assert client.task(task_id)["state"] == "succeeded"
    assert [delivery.path for delivery in receiver.deliveries] == ["/run", "/told"]


def test_tasks_from_before_the_setting_fail_without_being_sent(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.deliveries.clear()
    with serving(tmp_path / "data", "--start-paused") as server:
        client = Client(server)
        client.send("PUT", "/v1/queues/based", json_of({"base_url": receiver.url}))
        ids = [
            client.push(url=receiver.url + "/direct", retry={"max_attempts": 1}),
            client.push(url="/path", queue="based", retry={"max_attempts": 1}),
        ]
        server.stop()
    with serving(tmp_path / "data", "--allow-target", f"127.0.0.1:{free_port()}") as server:
        client = Client(server)
        client.post("/v1/resume")
        tasks = [client.task(task_id, "?wait=20") for task_id in ids]

    refusal = receiver.url.removeprefix("http://") + " is not an allowed target; see the setting"
    assert [(task["state"], task["reason"]) for task in tasks] == [("dead", "exhausted")] * 2
    assert all(task["last_error"].startswith(refusal) for task in tasks)
    assert receiver.deliveries == []


def test_name_is_resolved_and_its_addresses_are_checked(
    tmp_path: Path, receiver: Receiver
) -> None:
    """``localhost`` as the system resolves it: to loopback, in IPv4 and perhaps in IPv6."""
    url = receiver.url.replace("127.0.0.1", "localhost")
    retry = {"max_attempts": 1}
    with serving(
        tmp_path / "in", "--allow-target", "127.0.0.0/8", "--allow-target", "::1"
    ) as server:
        client = Client(server)
        allowed = client.task(client.push(url=url, retry=retry), "?wait=20")
    with serving(tmp_path / "out", "--allow-target", "10.0.0.0/8") as server:
        client = Client(server)
        refused = client.task(client.push(url=url, retry=retry), "?wait=20")

    assert allowed["state"] == "succeeded"
    assert refused["state"] == "dead"
    assert "which is not an allowed target; see the setting allow_target" in refused["last_error"]


def json_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()
