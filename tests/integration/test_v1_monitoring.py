"""Statistics, metrics and alerts of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from poussetaches.api.task_routes import MAX_WAIT
from tests.acceptance.harness import (
    PATIENCE,
    Delivery,
    Receiver,
    Server,
    free_port,
    receiving,
    serving,
    wait_until,
)
from tests.integration.v1 import Client, problem


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "data") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a server for tests that change nothing."""
    with serving(tmp_path_factory.mktemp("idle") / "data") as server:
        yield Client(server)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def push_later(client: Client, count: int, **fields: object) -> None:
    """Push delayed tasks, which are not delivered during the test."""
    for _ in range(count):
        client.push(delay=3600, **fields)


def deliver(client: Client, receiver: Receiver, **fields: object) -> None:
    task_id = client.push(url=f"{receiver.url}/run", **fields)
    assert client.task(task_id, f"?wait={MAX_WAIT}")["state"] == "succeeded"


def stats(client: Client, query: str = "") -> Any:
    answer = client.get(f"/v1/stats{query}")
    assert answer.status == 200, answer
    return answer.json


def metrics(client: Client) -> dict[str, float]:
    """Return every sample by its name and labels, as a scraper reads them."""
    text = client.get("/metrics").body.decode()
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_stats_show_what_happened_and_how_things_stand(client: Client, receiver: Receiver) -> None:
    deliver(client, receiver, queue="mail")
    push_later(client, 2)

    every = stats(client, "?minutes=3")

    assert every["counts"] == {
        "waiting": 2,
        "running": 0,
        "succeeded": 1,
        "dead": 0,
        "failing": 0,
    }
    assert (every["paused"], every["in_flight"], every["held_origins"]) == (False, 0, [])
    assert every["oldest_due_age"] is None
    assert every["store"]["used_bytes"] > 0
    assert every["store"]["free_bytes"] > 0
    assert every["store"]["trouble"] is None
    rows = every["minutes"]
    assert len(rows) == 3
    assert rows == sorted(rows, key=lambda row: row["minute"])
    assert all(row["minute"].endswith(":00.000000Z") for row in rows)
    sums = {name: sum(row[name] for row in rows) for name in ("pushed", "started", "succeeded")}
    assert sums == {"pushed": 3, "started": 1, "succeeded": 1}
    (busy,) = [row for row in rows if row["started"]]
    assert 0 <= busy["lateness_p50"] <= busy["lateness_p95"] < PATIENCE
    assert 0 < busy["duration_p50"] <= busy["duration_p95"] < PATIENCE


def test_stats_of_a_queue_are_its_own(client: Client) -> None:
    push_later(client, 2, queue="mail")
    push_later(client, 1)

    mail = stats(client, "?queue=mail&minutes=2")

    assert mail["counts"]["waiting"] == 2
    assert sum(row["pushed"] for row in mail["minutes"]) == 2


def test_stats_go_on_where_they_were_after_a_restart(client: Client) -> None:
    push_later(client, 2)
    assert client.server.stop() == 0
    client.server.start()
    push_later(client, 1)

    rows = stats(client, "?minutes=10")["minutes"]

    assert sum(row["pushed"] for row in rows) == 3


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?minutes=0", "invalid-query"),
        ("?minutes=1441", "invalid-query"),
        ("?minutes=x", "invalid-query"),
        ("?hours=1", "invalid-query"),
        ("?queue=-", "invalid-query"),
        ("?queue=unknown", "queue-not-found"),
    ],
)
def test_stats_are_refused_when_they_cannot_be_had(client: Client, query: str, code: str) -> None:
    assert problem(client.get(f"/v1/stats{query}"))[1] == code


def test_held_origin_is_shown(client: Client) -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    client.push(url=f"{origin}/run")

    held = wait_until(lambda: stats(client)["held_origins"], bool, "the origin to be held")

    assert [each["origin"] for each in held] == [origin]
    assert "connect" in held[0]["error"]
    assert metrics(client)["poussetaches_held_origins"] == 1


def test_metrics_are_those_of_the_server(client: Client, receiver: Receiver) -> None:
    deliver(client, receiver, queue="mail")
    push_later(client, 2)

    answer = client.get("/metrics")
    found = metrics(client)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found["poussetaches_tasks default waiting"] == 2
    assert found["poussetaches_tasks mail succeeded"] == 1
    assert found["poussetaches_pushed_total"] == 3
    assert found["poussetaches_attempts_total succeeded"] == 1
    assert found["poussetaches_store_bytes"] > 0


def test_new_failure_is_posted_to_the_alert_url(tmp_path: Path) -> None:
    def answer(delivery: Delivery) -> int:
        return 200 if delivery.path == "/hook" else 500

    with receiving(answer) as receiver:
        env = {"POUSSETACHES_ALERT_URL": f"{receiver.url}/hook"}
        with serving(tmp_path / "data", env=env) as server:
            Client(server).push(url=f"{receiver.url}/run/7", retry={"max_attempts": 1})

            alerts = wait_until(
                lambda: [each for each in receiver.deliveries if each.path == "/hook"],
                bool,
                "an alert",
            )

    text = json.loads(alerts[0].body)["text"]
    assert text.startswith("poussetaches: New failure: queue default, /run/*: status 500")
