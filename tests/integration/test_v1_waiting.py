"""waiting_for over real HTTP, by protocol.md: the reasons of waiting tasks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import PATIENCE, Delivery, Receiver, receiving, serving, wait_until
from tests.integration.v1 import URL, Client, problem


class App:
    """An application that answers only once a test releases it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.receiver = Receiver(self._answer)

    def _answer(self, delivery: Delivery) -> int:
        self.go_on.wait(PATIENCE)
        return 200

    def has_got(self, count: int) -> None:
        """Wait for a number of deliveries."""
        deliveries = self.receiver.deliveries
        wait_until(lambda: len(deliveries), lambda found: found == count, "the deliveries")


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.go_on.set()
    app.receiver.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a server in test mode, with a virtual clock."""
    with serving(tmp_path_factory.mktemp("waiting") / "data", "--test-mode") as server:
        yield Client(server)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("live") / "data") as server:
        yield Client(server)


def put_queue(client: Client, name: str, **settings: object) -> None:
    body = json.dumps(settings).encode()
    assert client.send("PUT", f"/v1/queues/{name}", body).status == 201


def waiting_for(client: Client, task_id: str) -> list[Any]:
    found: list[Any] = client.task(task_id)["waiting_for"]
    return found


def reasons(client: Client, task_id: str) -> list[str]:
    return [one["reason"] for one in waiting_for(client, task_id)]


def test_reason_has_a_moment_where_it_is_known_and_words(still: Client) -> None:
    task_id = still.push(queue="later", delay=60)

    [found] = waiting_for(still, task_id)

    assert set(found) == {"reason", "until", "detail"}
    assert found["reason"] == "not_due"
    assert found["until"] == still.task(task_id)["run_at"]
    assert found["detail"]


def test_failed_task_waits_for_its_backoff(still: Client) -> None:
    with receiving(lambda _: 500) as failing:
        task_id = still.push(url=failing.url, queue="failing", retry={"jitter": 0})
        still.post("/v1/test/run-until-idle")

    [found] = waiting_for(still, task_id)

    task = still.task(task_id)
    assert (found["reason"], found["until"]) == ("backoff", task["run_at"])
    started = datetime.fromisoformat(task["attempts"][0]["started_at"])
    assert datetime.fromisoformat(found["until"]) == started + timedelta(seconds=1)


def test_pauses_of_the_queue_and_of_the_server_are_distinguished(still: Client) -> None:
    put_queue(still, "paused")
    task_id = still.push(queue="paused")
    still.post("/v1/queues/paused/pause")
    of_the_queue = reasons(still, task_id)
    still.post("/v1/pause")
    of_both = reasons(still, task_id)
    still.post("/v1/queues/paused/resume")

    of_the_server = reasons(still, task_id)
    still.post("/v1/resume")

    assert of_the_queue == ["paused"]
    assert set(of_both) == {"paused", "server_paused"}
    assert of_the_server == ["server_paused"]
    assert reasons(still, task_id) == []


def test_task_behind_others_shows_their_number_up_to_a_thousand(still: Client) -> None:
    put_queue(still, "crowd")
    still.post("/v1/queues/crowd/pause")
    tasks = [{"url": URL, "queue": "crowd"}] * 1_001
    ids = still.post("/v1/tasks/batch", tasks=tasks).json["ids"]
    first = still.push(queue="crowd", priority=1)

    def ahead(task_id: str) -> list[int]:
        found = waiting_for(still, task_id)
        return [one["count"] for one in found if one["reason"] == "behind"]

    assert [ahead(one) for one in (first, ids[0], ids[998], ids[1000])] == [[], [1], [999], [1000]]


def test_list_has_the_reasons_in_short(still: Client) -> None:
    put_queue(still, "listed")
    still.post("/v1/queues/listed/pause")
    later = still.push(queue="listed", delay=60)
    due = still.push(queue="listed")

    found = still.get("/v1/tasks?queue=listed").json["tasks"]

    paused = {"reason": "paused", "until": None}
    assert [task["id"] for task in found] == [due, later]
    assert found[0]["waiting_for"] == [paused]
    assert found[1]["waiting_for"] == [paused, {"reason": "not_due", "until": found[1]["run_at"]}]
    cancelled = still.cancelled()
    [ended] = still.get(f"/v1/tasks?ids={cancelled}").json["tasks"]
    assert "waiting_for" not in ended


def test_task_that_does_not_wait_says_nothing_of_it(still: Client) -> None:
    assert "waiting_for" not in still.task(still.cancelled())


def test_tasks_wait_for_a_slot_of_their_queue(live: Client, app: App) -> None:
    put_queue(live, "narrow", concurrency=2)
    ids = [live.push(url=app.receiver.url, queue="narrow") for _ in range(3)]
    app.has_got(2)

    assert reasons(live, ids[2]) == ["concurrency"]
    queue = live.get("/v1/queues/narrow").json
    assert [one["reason"] for one in queue["waiting_for"]] == ["concurrency"]
    assert (queue["counts"]["running"], queue["counts"]["waiting"]) == (2, 1)
    refused = live.send("DELETE", "/v1/queues/narrow")
    assert problem(refused) == (409, "queue-in-use", [])
    assert "1 waiting and 2 running" in refused.json["detail"]
    app.go_on.set()
    assert live.task(ids[2], "?wait=30")["state"] == "succeeded"


def test_tasks_wait_for_a_slot_of_their_origin_while_others_go_on(live: Client, app: App) -> None:
    put_queue(live, "shared", concurrency=4, origin_concurrency=1)
    ids = [live.push(url=app.receiver.url, queue="shared") for _ in range(2)]
    app.has_got(1)
    with receiving() as other:
        elsewhere = live.push(url=other.url, queue="shared")

        assert live.task(elsewhere, "?wait=30")["state"] == "succeeded"
    assert reasons(live, ids[1]) == ["origin_slots"]
    assert len(app.receiver.deliveries) == 1


def test_task_with_a_manual_run_still_waits_for_the_limits_of_its_queue(
    live: Client, app: App
) -> None:
    put_queue(live, "limited", concurrency=1)
    live.push(url=app.receiver.url, queue="limited")
    app.has_got(1)
    task_id = live.push(url=app.receiver.url, queue="limited", delay=3600)

    assert live.post(f"/v1/tasks/{task_id}/run").status == 200

    assert reasons(live, task_id) == ["concurrency"]


def test_task_waits_for_the_next_start_while_the_server_drains(tmp_path: Path, app: App) -> None:
    with serving(tmp_path / "data", "--concurrency", "1") as server:
        client = Client(server)
        client.push(url=app.receiver.url)
        app.has_got(1)
        task_id = client.push(url=app.receiver.url)
        stopping = threading.Thread(target=server.stop)
        stopping.start()

        found = wait_until(
            lambda: reasons(client, task_id), lambda found: "draining" in found, "the drain"
        )

        app.go_on.set()
        stopping.join()
    assert found[0] == "draining"
