"""on_success and on_dead over real HTTP: the callback of each kind of end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.harness import Delivery, Receiver, Reply, receiving, serving
from tests.integration.v1 import Client

DAY = 86_400
LABELS = {"user": "17"}


def answer(delivery: Delivery) -> Reply:
    """Fail, refuse or succeed, depending on the path."""
    return {
        "/fail": (500, {}, b"KeyError: 'total'\nmore"),
        "/refuse": (500, {"Poussetaches-Retry": "no"}, b""),
    }.get(delivery.path, 200)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving(answer) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("callbacks") / "data", "--test-mode") as server:
        yield Client(server)


@pytest.fixture
def client(running: Client, receiver: Receiver) -> Client:
    """Return an empty server, whose deliveries are counted from now on."""
    assert running.post("/v1/test/reset").status == 200
    receiver.deliveries.clear()
    return running


def advance(client: Client, seconds: float) -> None:
    assert client.post("/v1/test/advance", seconds=seconds).status == 200


def told(receiver: Receiver) -> list[Any]:
    """Return the bodies of the callbacks."""
    return [json.loads(one.body) for one in receiver.deliveries if one.path == "/told"]


def exhausted(client: Client, receiver: Receiver, **fields: object) -> str:
    return client.push(url=receiver.url + "/fail", retry={"max_attempts": 2}, **fields)


def refused(client: Client, receiver: Receiver, **fields: object) -> str:
    return client.push(url=receiver.url + "/refuse", **fields)


def too_old(client: Client, receiver: Receiver, **fields: object) -> str:
    return client.push(url=receiver.url + "/fail", retry={"max_age": 0}, **fields)


def expired(client: Client, receiver: Receiver, **fields: object) -> str:
    now = client.post("/v1/test/run-until-idle").json["now"]
    expires_at = (datetime.fromisoformat(now) + timedelta(seconds=5)).isoformat()
    return client.push(url=receiver.url + "/ok", delay=60, expires_at=expires_at, **fields)


def cancelled(client: Client, receiver: Receiver, **fields: object) -> str:
    return client.cancelled(url=receiver.url + "/ok", **fields)


def superseded(client: Client, receiver: Receiver, **fields: object) -> str:
    """Return the failing run of a schedule whose next run takes its place."""
    task = {"url": receiver.url + "/fail", **fields}
    definition = json.dumps({"cron": "@every 1h", "task": task}).encode()
    assert client.send("PUT", "/v1/schedules/hourly", definition).status == 201
    advance(client, 3600)
    [run] = client.get("/v1/schedules/hourly/runs").json["tasks"]
    advance(client, 3600)
    client.send("DELETE", "/v1/schedules/hourly")
    task_id: str = run["id"]
    return task_id


Ending = Callable[..., str]


@pytest.mark.parametrize(
    "ending",
    [exhausted, refused, too_old, expired, cancelled, superseded],
    ids=lambda ending: ending.__name__,
)
def test_callback_of_a_death_has_the_reason(
    client: Client, receiver: Receiver, ending: Ending
) -> None:
    fields = {"labels": LABELS, "on_dead": receiver.url + "/told", "queue": "mail"}

    task_id = ending(client, receiver, on_success=receiver.url + "/never", **fields)
    advance(client, 60)

    [account] = told(receiver)
    task = client.task(task_id)
    assert (task["state"], task["reason"]) == ("dead", ending.__name__)
    last = task["attempts"][-1] if task["attempts"] else None
    assert account == {
        **{name: task[name] for name in ("id", "queue", "state", "reason", "labels", "url")},
        "attempt_count": task["attempt_count"],
        "last_attempt": last
        and {
            **{name: last[name] for name in ("number", "request_id", "started_at")},
            **{name: last[name] for name in ("duration", "status")},
            "error": "KeyError: 'total'" if ending is not refused else None,
        },
    }
    assert "/never" not in [one.path for one in receiver.deliveries]


def test_success_creates_a_callback(client: Client, receiver: Receiver) -> None:
    urls = {"on_success": receiver.url + "/told", "on_dead": receiver.url + "/never"}
    secrets = {"headers": {"Authorization": "secret"}, "json": "private"}

    task_id = client.push(url=receiver.url + "/ok", labels=LABELS, **urls, **secrets)
    advance(client, 1)

    [attempt] = client.task(task_id)["attempts"]
    assert told(receiver) == [
        {
            "id": task_id,
            "queue": "default",
            "state": "succeeded",
            "reason": None,
            "labels": LABELS,
            "url": receiver.url + "/ok",
            "attempt_count": 1,
            "last_attempt": {
                "number": 1,
                "request_id": attempt["request_id"],
                "started_at": attempt["started_at"],
                "duration": attempt["duration"],
                "status": 200,
                "error": None,
            },
        }
    ]


def test_callback_has_no_callback_of_its_own(client: Client, receiver: Receiver) -> None:
    everybody = json.dumps({"on_dead": receiver.url + "/told"}).encode()
    assert client.send("PUT", "/v1/queues/callbacks", everybody).status == 201

    client.cancelled(on_dead=receiver.url + "/fail")
    [task] = client.get("/v1/tasks?queue=callbacks").json["tasks"]
    advance(client, 2 * DAY)

    ended = client.task(task["id"])
    assert (task["state"], task["method"]) == ("waiting", "POST")
    assert (ended["state"], ended["reason"]) == ("dead", "exhausted")
    assert receiver.deliveries[0].headers["content-type"] == "application/json"
    assert told(receiver) == []


def test_callback_of_the_queue_applies_to_tasks_without_one(
    client: Client, receiver: Receiver
) -> None:
    settings = json.dumps({"on_dead": receiver.url + "/told"}).encode()
    assert client.send("PUT", "/v1/queues/mail", settings).status == 201

    named = client.cancelled(queue="mail", on_dead=receiver.url + "/own")
    silent = client.cancelled(queue="mail", on_dead="")
    other = client.cancelled(queue="mail")
    advance(client, 1)

    assert [account["id"] for account in told(receiver)] == [other]
    own = [json.loads(one.body)["id"] for one in receiver.deliveries if one.path == "/own"]
    assert own == [named]
    assert silent not in [json.loads(one.body)["id"] for one in receiver.deliveries]


def test_each_round_creates_a_callback(client: Client, receiver: Receiver) -> None:
    task_id = exhausted(client, receiver, on_dead=receiver.url + "/told")
    advance(client, 10)
    client.post(f"/v1/tasks/{task_id}/requeue")
    advance(client, 10)

    assert [(one["id"], one["attempt_count"]) for one in told(receiver)] == [(task_id, 2)] * 2
