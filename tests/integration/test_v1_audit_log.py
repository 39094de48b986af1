"""The log of what requests change, of a server that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import KEY, Server, receiving, serving, wait_until
from tests.integration.v1 import URL, Client

FLAGS = ("--log-format", "json", "--log-level", "debug", "--start-paused")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path / "data", *FLAGS) as server:
        yield Client(server)


def logged(server: Server, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def changes(client: Client) -> list[tuple[str, str]]:
    return [(line["method"], line["path"]) for line in logged(client.server, "change made")]


def test_change_is_logged_with_who_asked_for_it(client: Client) -> None:
    task_id = client.push()

    client.post("/v1/pause")
    client.post("/resume")
    client.send("PUT", "/v1/queues/mail", b'{"rate": 2}')
    client.post(f"/v1/tasks/{task_id}/cancel")
    client.send("DELETE", f"/v1/tasks/{task_id}")

    lines = logged(client.server, "change made")
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/v1/pause", 200),
        ("POST", "/resume", 200),
        ("PUT", "/v1/queues/mail", 201),
        ("POST", f"/v1/tasks/{task_id}/cancel", 200),
        ("DELETE", f"/v1/tasks/{task_id}", 204),
    ]
    assert {line["client"] for line in lines} == {"127.0.0.1"}


def test_pushes_and_looks_and_refusals_are_no_changes(client: Client) -> None:
    client.push()
    client.post("/v1/tasks/batch", tasks=[{"url": URL}])
    client.server.push(URL)
    client.get("/v1/tasks")
    client.post("/v1/schedules/preview", cron="@daily")
    client.post("/v1/tasks/nobody/cancel")

    assert changes(client) == []


def test_bulk_change_is_logged_with_its_number_and_what_was_asked_for(client: Client) -> None:
    for _ in range(3):
        client.push(queue="mail", labels={"customer": "secret-42"})

    conditions = {"state": "waiting", "queue": "mail", "label": "customer:secret-42"}
    client.post("/v1/tasks/cancel", filter=conditions)
    client.post("/v1/tasks/cancel", filter=conditions, dry_run=True)

    (line,) = logged(client.server, "tasks changed in bulk")
    assert (line["count"], line["skipped"]) == (3, 0)
    assert line["filter"] == {"queue": "mail", "states": ["waiting"], "labels": "…"}
    assert "secret-42" not in client.server.log.read_text()


def test_log_holds_no_secret_of_a_task(tmp_path: Path) -> None:
    secrets = ["pass-word", "in-the-query", "in-a-header", "in-the-body", "alert-path", KEY]
    env = {"POUSSETACHES_ALERT_URL": "http://user:pass-word@127.0.0.1:9/alert-path"}
    with (
        receiving(lambda found: 500) as receiver,
        serving(tmp_path / "data", *FLAGS[:4], env=env) as server,
    ):
        client = Client(server)
        host = receiver.url.removeprefix("http://")
        for target in (host, "127.0.0.1:9", "nowhere.invalid"):
            client.push(
                url=f"http://user:pass-word@{target}/run?token=in-the-query",
                headers={"Authorization": "Bearer in-a-header", "X-Mine": "in-a-header"},
                json={"secret": "in-the-body"},
                retry={"max_attempts": 1},
            )
        wait_until(lambda: logged(server, "task died"), lambda ended: len(ended) == 2, "the ends")
        wait_until(lambda: logged(server, "alert not delivered"), bool, "the alert")
        client.patch(
            f"/v1/tasks/{client.get('/v1/tasks').json['tasks'][0]['id']}", text=secrets[3]
        )
        client.post("/v1/tasks/requeue", filter={"state": "dead"}, set={"text": "in-the-body"})
        assert server.stop() == 0

    text = server.log.read_text()
    assert [secret for secret in secrets if secret in text] == []
