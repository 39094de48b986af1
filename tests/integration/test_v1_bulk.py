"""Bulk calls over real HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from poussetaches.core.task import BodyKind, TaskState
from poussetaches.engine.clock import SystemClock
from poussetaches.store import open_store
from poussetaches.store.folder import DataFolder
from tests.acceptance.harness import receiving, serving, wait_until
from tests.factories import make_attempt, make_ended, seeded
from tests.integration.v1 import URL, Client, problem

BAD_DEPLOY = 10_000  # tasks: enough for twenty slices

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("bulk") / "data"
    with serving(folder, "--start-paused") as server:
        yield Client(server)


@pytest.fixture
def client(server_of_all: Client) -> Client:
    """A server without any task, which is paused."""
    assert server_of_all.post("/v1/tasks/delete", all=True).status == 200
    return server_of_all


def push_many(client: Client, count: int, **fields: object) -> list[str]:
    answer = client.post("/v1/tasks/batch", tasks=[{"url": URL, **fields}] * count)
    assert answer.status == 201, answer
    ids: list[str] = answer.json["ids"]
    return ids


def run_at(client: Client, task_id: str) -> datetime:
    return datetime.fromisoformat(client.task(task_id)["run_at"])


def test_cancel_ends_all_selected_tasks_and_no_others(client: Client) -> None:
    push_many(client, 1200, queue="mail")
    others = push_many(client, 3)

    answer = client.post("/v1/tasks/cancel", filter={"queue": "mail"})

    assert (answer.status, answer.json) == (200, {"count": 1200, "skipped": []})
    assert len(client.ids("queue=mail&reason=cancelled&limit=1000")) == 1200
    assert client.ids("state=waiting") == others[::-1]


def test_call_that_is_repeated_skips_what_is_done(client: Client) -> None:
    push_many(client, 3)
    client.post("/v1/tasks/cancel", all=True)
    client.push()

    answer = client.post("/v1/tasks/cancel", all=True)

    assert answer.json == {"count": 1, "skipped": [{"reason": "dead", "count": 3}]}


def test_requeue_changes_what_set_names(client: Client) -> None:
    ids = push_many(client, 3, headers={"X-A": "a"}, json={"a": 1, "b": 2})
    client.post("/v1/tasks/cancel", all=True)

    answer = client.post(
        "/v1/tasks/requeue",
        filter={"state": "dead"},
        set={"url": URL + "/fixed", "json": {"a": None}, "headers": {"X-B": "b"}},
    )

    assert answer.json == {"count": 3, "skipped": []}
    for task_id in ids:
        task = client.task(task_id)
        assert (task["state"], task["round"], task["url"]) == ("waiting", 2, URL + "/fixed")
        assert (task["json"], task["headers"]) == ({"b": 2}, {"X-A": "a", "X-B": "b"})


@pytest.mark.parametrize("action", ["run", "requeue"])
def test_spread_plans_them_evenly_the_oldest_first(client: Client, action: str) -> None:
    ids = push_many(client, 1000)
    if action == "requeue":
        client.post("/v1/tasks/cancel", all=True)

    answer = client.post(f"/v1/tasks/{action}", all=True, spread=60_000)

    assert answer.json == {"count": 1000, "skipped": []}
    # Not the very first: it is due at once, and on its way.
    moments = [run_at(client, ids[place]) for place in (1, 2, 500, 501, 999)]
    offsets = [(moment - moments[0]).total_seconds() for moment in moments]
    assert offsets == [0.0, 60.0, 29_940.0, 30_000.0, 59_880.0]


def test_run_makes_delayed_tasks_due(client: Client) -> None:
    task_id = client.push(delay=3600)
    before = run_at(client, task_id)

    client.post("/v1/tasks/run", filter={"ids": [task_id]})

    assert run_at(client, task_id) < before


def test_delete_takes_whatever_state(client: Client) -> None:
    client.push()
    client.cancelled()

    assert client.post("/v1/tasks/delete", all=True).json == {"count": 2, "skipped": []}
    assert client.ids("") == []


@pytest.mark.parametrize(
    ("action", "count", "skipped"),
    [
        ("run", 3, [{"reason": "dead", "count": 2}]),
        ("requeue", 2, [{"reason": "waiting", "count": 3}]),
        ("cancel", 3, [{"reason": "dead", "count": 2}]),
        ("delete", 5, []),
    ],
)
def test_dry_run_reports_the_changes_and_makes_none(
    client: Client, action: str, count: int, skipped: list[dict[str, object]]
) -> None:
    push_many(client, 3)
    client.cancelled()
    client.cancelled()
    before = client.get("/v1/tasks").json

    dry = client.post(f"/v1/tasks/{action}", all=True, dry_run=True)

    assert dry.json == {"count": count, "skipped": skipped}
    assert client.get("/v1/tasks").json == before
    assert client.post(f"/v1/tasks/{action}", all=True).json == dry.json


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({"headers": {f"X-{n}": "a" for n in range(64)}}, {"headers": {"X-A": "a"}}),
        ({"headers": {"X-A": "a" * 10_000}}, {"headers": {"X-B": "b" * 10_000}}),
        ({"json": {"a": "a" * 600_000}}, {"json": {"b": "b" * 600_000}}),
    ],
    ids=["headers", "size-of-headers", "body"],
)
def test_dry_run_reports_changes_that_would_be_refused(
    client: Client, known: dict[str, object], changes: dict[str, object]
) -> None:
    client.push(**known)
    client.push()

    dry = client.post("/v1/tasks/run", all=True, set=changes, dry_run=True)

    assert (dry.json["count"], [one["count"] for one in dry.json["skipped"]]) == (1, [1])
    assert client.post("/v1/tasks/run", all=True, set=changes).json == dry.json


def test_set_that_does_not_fit_some_tasks_skips_those(client: Client) -> None:
    client.send("PUT", "/v1/queues/based", json.dumps({"base_url": "http://a"}).encode())
    push_many(client, 2, queue="based")
    push_many(client, 1)

    answer = client.post("/v1/tasks/run", all=True, set={"url": "/path"})

    assert answer.json["count"] == 2
    [skipped] = answer.json["skipped"]
    assert skipped["count"] == 1
    assert skipped["reason"].startswith("url: is a path")


@pytest.mark.parametrize("action", ["run", "requeue", "cancel", "delete"])
@pytest.mark.parametrize("filter", [None, {}, {"queue": None}, {"failing": False}], ids=str)
def test_empty_filter_is_refused_without_all(client: Client, action: str, filter: object) -> None:
    client.push()

    answer = client.post(f"/v1/tasks/{action}", filter=filter)

    assert problem(answer) == (422, "invalid-filter", ["filter"])
    assert len(client.ids("state=waiting")) == 1


@pytest.mark.parametrize(
    ("action", "fields", "code", "field"),
    [
        ("cancel", {"set": {}}, "invalid-bulk", "set"),
        ("delete", {"spread": 5}, "invalid-bulk", "spread"),
        ("run", {"color": "red"}, "invalid-bulk", "color"),
        ("run", {"spread": -1}, "invalid-bulk", "spread"),
        ("run", {"spread": 1, "set": {"run_at": None}}, "invalid-bulk", "spread"),
        ("run", {"filter": {"color": "red"}}, "invalid-filter", "filter.color"),
        ("run", {"filter": {"state": "failing"}}, "invalid-filter", "filter.state"),
        ("run", {"filter": {"label": ["tenant"]}}, "invalid-filter", "filter.label"),
        ("run", {"filter": {"text": ""}}, "invalid-filter", "filter.text"),
        ("run", {"filter": "dead"}, "invalid-filter", "filter"),
        ("run", {"set": {"queue": "mail"}}, "invalid-task", "set.queue"),
        ("requeue", {"set": {"timeout": 0}}, "invalid-task", "set.timeout"),
        ("requeue", {"set": {"url": "ftp://a"}}, "invalid-task", "set.url"),
        ("requeue", {"set": []}, "invalid-bulk", "set"),
    ],
    ids=str,
)
def test_call_that_is_not_allowed_changes_nothing(
    client: Client, action: str, fields: dict[str, object], code: str, field: str
) -> None:
    client.push()

    answer = client.post(f"/v1/tasks/{action}", **{"all": True, **fields})

    assert problem(answer) == (422, code, [field])
    assert len(client.ids("state=waiting")) == 1


def test_body_is_required(client: Client) -> None:
    assert problem(client.post("/v1/tasks/run"))[:2] == (400, "bad-json")
    too_long = client.send("POST", "/v1/tasks/run", b" " * (3 * MIB))
    assert problem(too_long)[:2] == (413, "too-large")


def test_call_goes_on_when_the_caller_hangs_up(client: Client) -> None:
    for _ in range(2):
        push_many(client, 10_000)
    body = b'{"all": true}'
    head = b"POST /v1/tasks/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"

    with socket.create_connection(("127.0.0.1", client.server.port)) as connection:
        connection.sendall(head % len(body) + body)

    wait_until(
        lambda: client.get("/v1/tasks?state=waiting&limit=1").json["tasks"],
        lambda tasks: tasks == [],
        "all to be cancelled",
    )


def test_pushes_are_answered_while_a_call_is_under_way(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused") as server:
        client = Client(server)
        for _ in range(2):
            push_many(client, 10_000)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            body = b'{"filter": {"queue": "default"}}'
            head = b"POST /v1/tasks/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
            connection.sendall(head % len(body) + b"\r\n" + body)

            pushed = [client.push(queue="mail") for _ in range(5)]
            unfinished = client.get("/v1/tasks?queue=default&state=waiting&limit=1").json["tasks"]

        assert len(pushed) == 5
        assert unfinished != []


async def test_thousands_of_tasks_of_a_bad_deploy_are_found_mended_and_sent_again(
    tmp_path: Path,
) -> None:
    """Two calls: list the failures, and requeue them, corrected, over ten minutes."""
    await keep_dead_tasks(tmp_path / "data", BAD_DEPLOY)
    with receiving(lambda _: 200) as app, serving(tmp_path / "data") as server:
        client = Client(server)
        other = client.cancelled(delay=600)

        groups = client.get("/v1/failures").json["groups"]
        sent = client.post(
            "/v1/tasks/requeue",
            filter={"group": groups[0]["group"], "state": "dead"},
            set={"url": app.url + "/mended", "json": {"total": 0}},
            spread=600,
        )

        assert (groups[0]["count"], groups[0]["status"]) == (BAD_DEPLOY, 500)
        assert (groups[0]["url_path"], groups[0]["error"]) == ("/orders/*", "KeyError: *")
        assert sent.json == {"count": BAD_DEPLOY, "skipped": []}
        assert client.task(other)["state"] == "dead"
        moments = [
            run_at(client, f"task-{place}") for place in range(0, BAD_DEPLOY, BAD_DEPLOY // 10)
        ]
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
        assert gaps == [pytest.approx(60.0, abs=0.001)] * 9
        wait_until(lambda: len(app.deliveries), lambda count: count >= 3, "the first deliveries")
        assert {one.path for one in app.deliveries} == {"/mended"}
        bodies = [json.loads(one.body) for one in app.deliveries[:3]]
        assert {body["order"] for body in bodies} <= set(range(200))
        assert {body["total"] for body in bodies} == {0}


async def keep_dead_tasks(data_dir: Path, count: int) -> None:
    """Make a data folder in which tasks died of the same error, each with its last attempt."""
    folder = DataFolder(data_dir)
    folder.lock()
    clock = SystemClock()
    store = await open_store(folder, now=clock.now, random=seeded(), window=0.0)
    now = clock.now()
    tasks = [
        make_ended(
            f"task-{place}",
            TaskState.DEAD,
            url=f"http://app.test/orders/{place}",
            body=b'{"order":%d}' % place,
            body_kind=BodyKind.JSON,
            created_at=now,
            run_at=now,
            ended_at=now,
            attempt_count=12,
            attempt_total=12,
            last_status=500,
            last_error=f"KeyError: 'total-{place}'",
        )
        for place in range(count)
    ]
    for start in range(0, count, 5_000):
        await store.restore([(task, [make_attempt(12)]) for task in tasks[start : start + 5_000]])
    await store.close()
    folder.unlock()
