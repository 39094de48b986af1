"""Failures, statistics, metrics and lists over real HTTP, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.harness import Delivery, Receiver, Reply, receiving, serving
from tests.integration.v1 import URL, Client, problem

DAY = 86_400


def answer(delivery: Delivery) -> Reply:
    """Fail as the first part of the path says."""
    if delivery.path.startswith("/ok"):
        return 200
    return 500, {}, f"KeyError: 'order-{len(delivery.path)}' at 0xdeadbeef99\nmore".encode()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving(answer) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("looks") / "data", "--test-mode") as server:
        yield Client(server)


@pytest.fixture
def client(running: Client) -> Client:
    """Return an empty server."""
    assert running.post("/v1/test/reset").status == 200
    return running


def advance(client: Client, seconds: float) -> None:
    assert client.post("/v1/test/advance", seconds=seconds).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1"), ("GET", "/v1/"), ("POST", "/v1/task"), ("GET", "/v1/tasks/a/b/c")],
)
def test_path_that_there_is_not_is_not_found(client: Client, method: str, path: str) -> None:
    answer = client.send(method, path)

    assert problem(answer) == (404, "not-found", [])
    assert path in answer.json["detail"]


def test_failures_are_grouped_without_what_differs_from_task_to_task(
    client: Client, receiver: Receiver
) -> None:
    paths = [
        "/orders/17?page=2",
        "/orders/123456",
        "/orders/0af76519-16cd-43dd-8448-eb211c80319c",
        "/orders/0af7651916cd43dd8448eb211c80319c#end",
    ]
    ids = [client.push(url=receiver.url + path, retry={"max_attempts": 1}) for path in paths]
    other = client.push(url=receiver.url + "/orders/17", queue="mail", retry={"max_attempts": 1})
    advance(client, 1)

    groups = {group["queue"]: group for group in client.get("/v1/failures").json["groups"]}

    group = groups["default"]
    assert (group["url_path"], group["status"], group["count"]) == ("/orders/*", 500, 4)
    assert group["error"] == "KeyError: * at *"
    assert group["example_id"] in ids
    assert group["first_at"] <= group["last_at"]
    assert (groups["mail"]["count"], groups["mail"]["example_id"]) == (1, other)
    assert set(client.ids(f"group={group['group']}")) == set(ids)


def test_failing_tasks_are_a_group_until_they_succeed(client: Client, receiver: Receiver) -> None:
    task_id = client.push(url=receiver.url + "/a")
    advance(client, 0)
    failing = client.get("/v1/failures?state=failing").json["groups"]

    client.post(f"/v1/tasks/{task_id}/run", url=receiver.url + "/ok")
    advance(client, 0)

    assert [(group["count"], group["example_id"]) for group in failing] == [(1, task_id)]
    assert client.get("/v1/failures?state=failing").json["groups"] == []
    assert client.get("/v1/failures").json["groups"] == []


def test_minutes_count_what_failed_and_what_died(client: Client, receiver: Receiver) -> None:
    client.push(url=receiver.url + "/a", queue="mail", retry={"max_attempts": 2, "jitter": 0})
    client.push(url=receiver.url + "/ok")
    advance(client, 61)

    def sums(query: str) -> dict[str, int]:
        rows = client.get(f"/v1/stats?{query}").json["minutes"]
        names = ("pushed", "started", "succeeded", "failed", "died")
        return {name: sum(row[name] for row in rows) for name in names}

    every = {"pushed": 2, "started": 3, "succeeded": 1, "failed": 2, "died": 1}
    assert sums("minutes=5") == every
    assert sums("minutes=5&queue=mail") == {
        **{"pushed": 1, "started": 2, "succeeded": 0, "failed": 2, "died": 1}
    }
    assert len(client.get("/v1/stats").json["minutes"]) == 60


def test_minutes_are_kept_for_a_day(client: Client) -> None:
    client.push(url=URL, delay=3 * DAY)

    def pushed() -> int:
        rows = client.get("/v1/stats?minutes=1440").json["minutes"]
        return sum(row["pushed"] for row in rows)

    advance(client, DAY - 300)
    before = pushed()
    advance(client, 600)

    assert (before, pushed()) == (1, 0)


def test_metrics_have_a_hundred_queues_by_name_and_the_rest_together(client: Client) -> None:
    names = [f"queue-{number}" for number in range(150)]
    tasks = [{"url": URL, "queue": name, "delay": 60} for name in names]
    assert client.post("/v1/tasks/batch", tasks=tasks).status == 201
    assert client.send("PUT", "/v1/queues/zebra", b"{}").status == 201

    text = client.get("/metrics").body.decode()

    waiting = {
        sample.labels["queue"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "poussetaches_tasks" and sample.labels["state"] == "waiting"
    }
    assert len(waiting) == 101
    assert "zebra" in waiting
    assert waiting["other"] > 50
    assert sum(waiting.values()) == 150


def test_ended_tasks_are_kept_by_the_retention_of_their_queue(client: Client) -> None:
    settings = json.dumps({"keep_dead": {"count": 2, "age": 3600}}).encode()
    assert client.send("PUT", "/v1/queues/short", settings).status == 201
    dead = [client.cancelled(queue="short") for _ in range(3)]
    other = client.cancelled()

    advance(client, 120)
    few = client.ids("queue=short")
    advance(client, 3600)

    assert few == dead[:0:-1]
    assert client.ids("queue=short") == []
    assert client.task(other)["state"] == "dead"
    assert 'poussetaches_pruned_total{state="dead"} 3.0' in client.get("/metrics").body.decode()
    assert client.server.logged("ended tasks pruned")


def test_filters_select_by_schedule_and_by_when_tasks_were_made_and_ended(
    client: Client, receiver: Receiver
) -> None:
    definition = {"cron": "@every 1h", "task": {"url": receiver.url + "/ok"}}
    client.send("PUT", "/v1/schedules/hourly", json.dumps(definition).encode())
    early = client.push(url=URL, delay=DAY)
    advance(client, 3600)
    [run] = client.ids("schedule=hourly")
    moment = (
        datetime.fromisoformat(client.task(run)["ended_at"]) - timedelta(seconds=1)
    ).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert client.task(run)["schedule"] == "hourly"
    assert client.ids(f"since={moment}") == [run]
    assert client.ids(f"until={moment}") == [early]
    assert client.ids(f"ended_since={moment}") == [run]
    assert client.ids(f"ended_until={moment}") == []
    done = client.post("/v1/tasks/delete", filter={"schedule": "hourly", "ended_since": moment})
    assert done.json == {"count": 1, "skipped": []}


def test_null_in_a_patch_resets(client: Client) -> None:
    said = {
        **{"method": "PUT", "headers": {"X-A": "a"}, "text": "a", "priority": 5, "timeout": 9},
        **{"delay": 60, "expected": [204], "retry": {"max_attempts": 2}, "labels": {"a": "1"}},
        **{"expires_at": "2031-01-01T00:00:00Z", "on_success": URL, "on_dead": URL},
    }
    plain, task_id = client.task(client.push()), client.push(**said)

    nothing = dict.fromkeys([*(set(said) - {"delay"}), "run_at"])
    answer = client.patch(f"/v1/tasks/{task_id}", **nothing)

    assert answer.status == 200
    task = client.task(task_id)
    assert task.pop("id") != plain.pop("id")
    for one in (task, plain):
        del one["waiting_for"]
    assert task == plain
