"""Limits of protocol.md over real HTTP: values at a limit are accepted, above it refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.harness import serving
from tests.integration.v1 import URL, Client, problem

MIB = 1024 * 1024
TEN_YEARS = 315_360_000  # seconds
LONG = "x" * (MIB + 1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a server whose time stands still, and which delivers nothing."""
    with serving(tmp_path_factory.mktemp("limits") / "data", "--test-mode") as server:
        yield Client(server)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def url_of(length: int) -> str:
    return "http://app.test/".ljust(length, "a")


AT_THEIR_LIMITS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "url": ({"url": url_of(8192)}, {"url": url_of(8193)}, "url"),
    "on_dead": ({"on_dead": url_of(8192)}, {"on_dead": url_of(8193)}, "on_dead"),
    "headers": (
        {"headers": {f"X-{n}": "" for n in range(64)}},
        {"headers": {f"X-{n}": "" for n in range(65)}},
        "headers",
    ),
    "size-of-headers": (
        {"headers": {"X-A": "a" * (16 * 1024 - 3)}},
        {"headers": {"X-A": "a" * (16 * 1024 - 2)}},
        "headers",
    ),
    "labels": (
        {"labels": {str(n): "" for n in range(16)}},
        {"labels": {str(n): "" for n in range(17)}},
        "labels",
    ),
    "label-name": ({"labels": {"n" * 100: ""}}, {"labels": {"n" * 101: ""}}, "labels"),
    "label-value": ({"labels": {"n": "v" * 200}}, {"labels": {"n": "v" * 201}}, "labels['n']"),
    "key": ({"key": "k" * 200}, {"key": "k" * 201}, "key"),
    "unique": ({"unique": "u" * 200}, {"unique": "u" * 201}, "unique"),
    "key_ttl": (
        {"key": "ttl", "key_ttl": 2_592_000},
        {"key": "ttl", "key_ttl": 2_592_000.1},
        "key_ttl",
    ),
    "queue": ({"queue": "q" * 100}, {"queue": "q" * 101}, "queue"),
    "expected": ({"expected": [200] * 32}, {"expected": [200] * 33}, "expected"),
    "dead_on": (
        {"retry": {"dead_on": [404] * 32}},
        {"retry": {"dead_on": [404] * 33}},
        "retry.dead_on",
    ),
    "delay": ({"delay": TEN_YEARS}, {"delay": TEN_YEARS + 0.1}, "delay"),
    "max_age": (
        {"retry": {"max_age": TEN_YEARS}},
        {"retry": {"max_age": TEN_YEARS + 1}},
        "retry.max_age",
    ),
    "timeout-short": ({"timeout": 0.1}, {"timeout": 0.0999}, "timeout"),
    "timeout-long": ({"timeout": 86_400}, {"timeout": 86_400.1}, "timeout"),
    "max_attempts-few": (
        {"retry": {"max_attempts": 1}},
        {"retry": {"max_attempts": 0}},
        "retry.max_attempts",
    ),
    "max_attempts-many": (
        {"retry": {"max_attempts": 1000}},
        {"retry": {"max_attempts": 1001}},
        "retry.max_attempts",
    ),
    "priority-low": ({"priority": -100}, {"priority": -101}, "priority"),
    "priority-high": ({"priority": 100}, {"priority": 101}, "priority"),
    "depth": ({"json": nested(64)}, {"json": nested(65)}, "json"),
}


@pytest.mark.parametrize(
    ("allowed", "refused", "field"), AT_THEIR_LIMITS.values(), ids=AT_THEIR_LIMITS
)
def test_field_is_taken_at_its_limit_and_refused_by_name_beyond(
    client: Client, allowed: dict[str, object], refused: dict[str, object], field: str
) -> None:
    taken = client.post("/v1/tasks", **{"url": URL, **allowed})

    answer = client.post("/v1/tasks", **{"url": URL, **refused})

    assert taken.status == 201
    shown = client.task(taken.json["id"])
    assert {name: shown[name] for name in allowed if name in shown} == {
        name: value for name, value in allowed.items() if name in shown
    }
    assert problem(answer) == (422, "invalid-task", [field])


@pytest.mark.parametrize("field", ["run_at", "expires_at"])
def test_moment_may_be_ten_years_ahead_and_no_more(client: Client, field: str) -> None:
    now = datetime.fromisoformat(client.post("/v1/test/run-until-idle").json["now"])
    latest = now + timedelta(seconds=TEN_YEARS)

    taken = client.post("/v1/tasks", url=URL, **{field: latest.isoformat()})
    refused = client.post(
        "/v1/tasks", url=URL, **{field: (latest + timedelta(microseconds=1)).isoformat()}
    )

    assert taken.status == 201
    assert datetime.fromisoformat(taken.json[field]) == latest
    assert problem(refused) == (422, "invalid-task", [field])


@pytest.mark.parametrize("field", ["run_at", "expires_at"])
def test_patch_plans_no_farther_ahead_than_a_push(client: Client, field: str) -> None:
    path = f"/v1/tasks/{client.push()}"

    answer = client.patch(path, **{field: "2099-01-01T00:00:00Z"})

    assert problem(answer) == (422, "invalid-task", [field])


def test_body_of_a_task_is_measured_decoded(client: Client) -> None:
    taken = client.post("/v1/tasks", url=URL, text="a" * MIB)

    refused = client.post("/v1/tasks", url=URL, text="a" * (MIB + 1))

    assert taken.status == 201
    assert problem(refused) == (413, "too-large", ["text"])


@pytest.mark.parametrize("path", ["/v1/tasks", "/"])
def test_request_of_two_mebibytes_is_read_and_a_longer_one_refused(
    client: Client, path: str
) -> None:
    push = json.dumps({"url": URL}).encode()

    assert client.send("POST", path, push.ljust(2 * MIB)).status == 201

    assert problem(client.send("POST", path, push.ljust(2 * MIB + 1)))[:2] == (413, "too-large")


def test_refusal_of_a_request_far_over_its_limit_can_be_read(client: Client) -> None:
    answer = client.send("POST", "/v1/tasks", bytes(40 * MIB))

    assert problem(answer)[:2] == (413, "too-large")
    assert client.push()


def test_cron_of_200_characters_is_taken_and_a_longer_one_refused(client: Client) -> None:
    cron = f"{','.join(['0'] * 96)} * * * *"
    assert len(cron) == 199

    def preview(cron: str) -> int:
        return client.post("/v1/schedules/preview", cron=cron).status

    assert (preview(cron + " "), preview(cron.replace("*", "*/1", 1))) == (200, 422)


def test_list_has_a_thousand_tasks_a_page_at_most(client: Client) -> None:
    ids = client.post("/v1/tasks/batch", tasks=[{"url": URL, "queue": "pages"}] * 2_500).json[
        "ids"
    ]

    page = client.get("/v1/tasks?queue=pages&limit=1000").json

    assert [task["id"] for task in page["tasks"]] == ids[:1499:-1]
    assert client.ids("queue=pages&limit=1000") == ids[::-1]
    assert problem(client.get("/v1/tasks?limit=1001")) == (422, "invalid-query", ["limit"])


def test_pages_have_neither_gaps_nor_repeats_while_tasks_come_and_go(client: Client) -> None:
    ids = client.post("/v1/tasks/batch", tasks=[{"url": URL, "queue": "moving"}] * 30).json["ids"]
    first = client.get("/v1/tasks?queue=moving&limit=10").json

    client.push(queue="moving")
    client.send("DELETE", f"/v1/tasks/{ids[20]}")
    client.send("DELETE", f"/v1/tasks/{ids[15]}")
    rest = client.get(f"/v1/tasks?queue=moving&limit=100&cursor={first['next_cursor']}").json

    assert [task["id"] for task in first["tasks"]] == ids[:19:-1]
    assert [task["id"] for task in rest["tasks"]] == [
        task_id for task_id in ids[19::-1] if task_id != ids[15]
    ]


@pytest.mark.parametrize(
    ("method", "path", "fields", "field"),
    [
        ("POST", "/v1/tasks", {"url": URL, "text": LONG}, "text"),
        ("POST", "/v1/tasks/batch", {"tasks": [{"url": URL, "text": LONG}]}, "tasks[0].text"),
        ("POST", "/v1/tasks/requeue", {"all": True, "set": {"text": LONG}}, "set.text"),
        (
            "PUT",
            "/v1/schedules/long",
            {"cron": "@daily", "task": {"url": URL, "text": LONG}},
            "task.text",
        ),
    ],
    ids=["push", "batch", "bulk", "schedule"],
)
def test_body_over_max_body_is_413_wherever_it_is(
    client: Client, method: str, path: str, fields: dict[str, object], field: str
) -> None:
    answer = client.send(method, path, json.dumps(fields).encode())

    assert problem(answer) == (413, "too-large", [field])
