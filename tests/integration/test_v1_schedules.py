"""Schedules over real HTTP, by protocol.md: every route, every field, every refusal."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.harness import Answer, Receiver, Server, receiving, serving
from tests.integration.v1 import problem

URL = "http://127.0.0.1:9/task"  # no process listens there
TASK = {"url": URL}
SHOWN_TASK = {
    "url": URL,
    "method": "POST",
    "headers": {},
    "queue": "default",
    "priority": 0,
    "expected": ["2xx"],
    "timeout": None,
    "retry": None,
    "on_success": None,
    "on_dead": None,
    "labels": {},
}
OWN_OF_RUNS: dict[str, object] = {
    "delay": 5,
    "run_at": "2030-01-01T00:00:00Z",
    "expires_at": "2030-01-01T00:00:00Z",
    "key": "once",
    "key_ttl": 60,
    "unique": "one",
    "on_conflict": "keep",
}

serial = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server in test mode, with a virtual clock."""
    with serving(tmp_path_factory.mktemp("schedules") / "data", "--test-mode") as server:
        yield server


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run an application."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def name() -> str:
    return f"schedule-{next(serial)}"


def call(server: Server, method: str, path: str, body: object = None) -> Answer:
    """Make a request with a body in JSON, if any."""
    content = None if body is None else json.dumps(body).encode()
    return server.request(method, path, content)


def at(name: str, action: str = "") -> str:
    return f"/v1/schedules/{name}{action}"


def put(server: Server, name: str, cron: str = "@hourly", **fields: object) -> Any:
    answer = call(server, "PUT", at(name), {"cron": cron, "task": TASK, **fields})
    assert answer.status in (200, 201), answer
    return answer.json


def show(server: Server, name: str) -> Any:
    answer = call(server, "GET", at(name))
    assert answer.status == 200, answer
    return answer.json


def declare(server: Server, owner: str, *names: str, **fields: object) -> Answer:
    schedules = [{"name": name, "cron": "@hourly", "task": TASK} for name in names]
    return call(server, "PUT", "/v1/schedules", {"owner": owner, "schedules": schedules, **fields})


SERVERS = {
    **dict.fromkeys(("timezone", "misfire", "misfire_grace", "overlap"), "server"),
    "task": dict.fromkeys(
        (
            *("method", "headers", "body", "queue", "priority", "expected", "timeout"),
            *("retry", "on_success", "on_dead", "labels"),
        ),
        "server",
    ),
}


def sources_with(task: dict[str, str], **others: str) -> dict[str, Any]:
    """Return the sources of all values: these, and otherwise the server."""
    return {**SERVERS, **others, "task": {**cast("dict[str, str]", SERVERS["task"]), **task}}


def pass_time(server: Server, **time: float) -> None:
    seconds = timedelta(**time).total_seconds()
    answer = call(server, "POST", "/v1/test/advance", {"seconds": seconds})
    assert answer.status == 200, answer


def now(server: Server) -> datetime:
    answer = call(server, "POST", "/v1/test/run-until-idle")
    return datetime.fromisoformat(answer.json["now"])


def runs(server: Server, name: str) -> list[Any]:
    found: list[Any] = call(server, "GET", at(name, "/runs")).json["tasks"]
    return found


def paths(receiver: Receiver) -> list[str]:
    return [delivery.path for delivery in receiver.deliveries]


def test_new_schedule_is_shown_with_what_it_does_not_say(server: Server, name: str) -> None:
    made_at = now(server)

    answer = call(server, "PUT", at(name), {"cron": "@every 90s", "task": TASK})

    occurrences = [made_at + timedelta(seconds=90 * number) for number in range(1, 6)]
    text = [f"{one:%Y-%m-%dT%H:%M:%S.%f}" for one in occurrences]
    assert (answer.status, answer.json) == (
        201,
        {
            "name": name,
            "owner": None,
            "cron": "@every 90s",
            "timezone": "UTC",
            "task": SHOWN_TASK,
            "misfire": "once",
            "misfire_grace": None,
            "overlap": "skip",
            "paused": False,
            "created_at": f"{made_at:%Y-%m-%dT%H:%M:%S.%f}Z",
            "next_runs": [{"utc": f"{one}Z", "local": f"{one}+00:00"} for one in text],
            "last_run_at": None,
            "last_task_id": None,
            "sources": sources_with({"url": "operator"}, cron="operator"),
        },
    )
    assert show(server, name) == answer.json


def test_every_field_is_kept(server: Server, name: str) -> None:
    said: dict[str, Any] = {
        "cron": "30 6 * * mon-fri",
        "timezone": "Europe/Paris",
        "misfire": "all",
        "misfire_grace": 3600.0,
        "overlap": "allow",
        "task": {
            "url": "http://app:5000/report",
            "method": "PUT",
            "headers": {"X-Kind": "report", "Authorization": "Bearer secret"},
            "json": {"kind": ["daily", 2]},
            "queue": "reports",
            "priority": 7,
            "expected": [200, "3xx"],
            "timeout": 30.0,
            "retry": {"max_attempts": 3},
            "on_success": "http://app:5000/done",
            "on_dead": "",
            "labels": {"team": "blue"},
        },
    }

    shown = put(server, name, **said)

    masked = {**said["task"], "headers": {"X-Kind": "report", "Authorization": "***"}}
    assert {field: shown[field] for field in said} == {**said, "task": masked}


@pytest.mark.parametrize(
    ("field", "value"),
    [("text", "déjà vu"), ("body_base64", base64.b64encode(b"\x00\xff").decode()), ("json", [1])],
)
def test_body_is_shown_as_it_was_put(server: Server, name: str, field: str, value: object) -> None:
    shown = put(server, name, task={**TASK, field: value})

    assert shown["task"] == {**SHOWN_TASK, field: value}


def test_next_runs_are_shown_as_the_clocks_of_the_time_zone_have_them(
    server: Server, name: str
) -> None:
    zone = ZoneInfo("America/New_York")

    shown = put(server, name, "15 9 * * *", timezone="America/New_York")

    for run in shown["next_runs"]:
        utc, local = (datetime.fromisoformat(run[kind]) for kind in ("utc", "local"))
        assert utc == local
        assert utc.tzinfo == UTC
        assert local.utcoffset() == utc.astimezone(zone).utcoffset()
        assert (local.hour, local.minute) == (9, 15)
    assert len(shown["next_runs"]) == 5


def test_schedules_of_all_owners_are_listed_by_name(server: Server) -> None:
    own, declared = f"listed-b-{next(serial)}", f"listed-a-{next(serial)}"
    put(server, own)
    declare(server, "listing", declared)
    pushed = push_original(server, "@daily")

    listed = call(server, "GET", "/v1/schedules").json["schedules"]

    found = {schedule["name"]: schedule["owner"] for schedule in listed}
    assert list(found) == sorted(found)
    assert (found[own], found[declared], found[pushed]) == (None, "listing", "original")


def test_last_run_is_shown(server: Server, receiver: Receiver, name: str) -> None:
    due = put(server, name, "@every 60s", task={"url": f"{receiver.url}/{name}"})["next_runs"][0]

    pass_time(server, seconds=60)

    shown = show(server, name)
    assert shown["last_run_at"] == due["utc"]
    assert [task["id"] for task in runs(server, name)] == [shown["last_task_id"]]


def test_put_again_keeps_pause_history_and_beginning(
    server: Server, receiver: Receiver, name: str
) -> None:
    before = put(server, name, "@every 60s", task={"url": f"{receiver.url}/{name}"})
    pass_time(server, seconds=60)
    ran = show(server, name)
    call(server, "POST", at(name, "/pause"))

    answer = call(server, "PUT", at(name), {"cron": "@daily", "task": TASK})

    assert answer.status == 200
    after = answer.json
    assert after["created_at"] == before["created_at"]
    assert (after["paused"], after["next_runs"]) == (True, [])
    assert after["last_task_id"] == ran["last_task_id"]
    assert (after["cron"], after["task"]) == ("@daily", SHOWN_TASK)


def test_put_of_the_same_leaves_its_times_alone(server: Server, name: str) -> None:
    before = put(server, name, "@every 1h")
    pass_time(server, seconds=10)

    assert put(server, name, "@every 1h") == before


def test_put_of_a_declared_schedule_leaves_it_to_its_owner(server: Server, name: str) -> None:
    declare(server, "keeper", name)

    assert put(server, name, "@daily")["owner"] == "keeper"


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "unknown": ({"every": 1}, "every"),
    "no-cron": ({"cron": None}, "cron"),
    "cron": ({"cron": "every day"}, "cron"),
    "cron-range": ({"cron": "61 * * * *"}, "cron"),
    "cron-every": ({"cron": "@every 1.5s"}, "cron"),
    "cron-long": ({"cron": "* " * 200}, "cron"),
    "cron-step": ({"cron": "*/90 * * * *"}, "cron"),
    "never": ({"cron": "0 0 30 2 *"}, "cron"),
    "skipped": ({"cron": "*/5 2 8-14 3 */7", "timezone": "America/New_York"}, "cron"),
    "timezone": ({"timezone": "Mars/Olympus"}, "timezone"),
    "timezone-path": ({"timezone": "../../etc/passwd"}, "timezone"),
    "timezone-local": ({"timezone": "localtime"}, "timezone"),
    "timezone-copy": ({"timezone": "posix/Europe/Paris"}, "timezone"),
    "timezone-case": ({"timezone": "europe/paris"}, "timezone"),
    "misfire": ({"misfire": "twice"}, "misfire"),
    "misfire_grace": ({"misfire_grace": -1}, "misfire_grace"),
    "overlap": ({"overlap": "queue"}, "overlap"),
    "task": ({"task": 1}, "task"),
    "task-url": ({"task": {}}, "task.url"),
    "task-url-kind": ({"task": {"url": "ftp://app/"}}, "task.url"),
    "task-path": ({"task": {"url": "/task"}}, "task.url"),
    "task-unknown": ({"task": {**TASK, "tries": 1}}, "task.tries"),
    "task-header": ({"task": {**TASK, "headers": {"Host": "x"}}}, "task.headers.Host"),
    "task-bodies": ({"task": {**TASK, "text": "", "json": 1}}, "task.text"),
    "task-queue": ({"task": {**TASK, "queue": "-"}}, "task.queue"),
    "task-retry": ({"task": {**TASK, "retry": {"jitter": 2}}}, "task.retry.jitter"),
    "name": ({"name": "other"}, "name"),
    "owner": ({"owner": "me"}, "owner"),
    "paused": ({"paused": True}, "paused"),
    "created_at": ({"created_at": "2030-01-01T00:00:00Z"}, "created_at"),
    "next_runs": ({"next_runs": []}, "next_runs"),
    "last_run_at": ({"last_run_at": None}, "last_run_at"),
    "last_task_id": ({"last_task_id": None}, "last_task_id"),
    **{
        name: ({"task": {**TASK, name: value}}, f"task.{name}")
        for name, value in OWN_OF_RUNS.items()
    },
}


@pytest.mark.parametrize(("fields", "field"), REFUSED.values(), ids=REFUSED)
def test_field_that_is_not_allowed_is_refused_by_name(
    server: Server, name: str, fields: dict[str, object], field: str
) -> None:
    answer = call(server, "PUT", at(name), {"cron": "@daily", "task": TASK, **fields})

    assert problem(answer) == (422, "invalid-schedule", [field])
    assert call(server, "GET", at(name)).status == 404


@pytest.mark.parametrize("missing", ["cron", "task"])
def test_field_that_is_required_is_missed_by_name(server: Server, name: str, missing: str) -> None:
    said = {"cron": "@daily", "task": TASK}
    said.pop(missing)

    answer = call(server, "PUT", at(name), said)

    assert problem(answer) == (422, "invalid-schedule", [missing])


def test_field_of_each_run_is_refused_with_a_reason(server: Server, name: str) -> None:
    answer = call(server, "PUT", at(name), {"cron": "@daily", "task": {**TASK, "delay": 5}})

    assert "it would be the same for every run" in answer.json["detail"]


def test_body_of_a_task_that_is_too_long_is_refused(server: Server, name: str) -> None:
    task = {**TASK, "text": "x" * (2**20 + 1)}

    answer = call(server, "PUT", at(name), {"cron": "@daily", "task": task})

    assert problem(answer) == (413, "too-large", ["task.text"])


@pytest.mark.parametrize("path", ["/v1/schedules", "/v1/schedules/a", "/v1/schedules/preview"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad-json", [])),
        (b"{", (400, "bad-json", [])),
        (b'{"cron": "\xff"}', (400, "bad-json", [])),
        (b"[]", (422, "invalid-schedule", [""])),
        (b" " * (2 * 2**20 + 1), (413, "too-large", [])),
    ],
    ids=["empty", "cut", "not-utf-8", "array", "long"],
)
def test_body_that_is_no_object_is_refused(
    server: Server, path: str, body: bytes, expected: tuple[int, str, list[str]]
) -> None:
    method = "POST" if path.endswith("/preview") else "PUT"

    assert problem(server.request(method, path, body)) == expected


@pytest.mark.parametrize("name", ["-a", "a%20b", "a%0A", "x" * 101])
def test_names_are_letters_digits_and_some_signs(server: Server, name: str) -> None:
    answer = call(server, "PUT", at(name), {"cron": "@daily", "task": TASK})

    assert problem(answer) == (422, "invalid-schedule", ["name"])


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/run"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/runs"),
    ],
)
def test_unknown_schedule_is_not_found(
    server: Server, name: str, method: str, action: str
) -> None:
    answer = call(server, method, at(name, action), {} if method == "PATCH" else None)

    assert problem(answer) == (404, "schedule-not-found", [])
    assert name in answer.json["detail"]


def test_patch_changes_what_it_names(server: Server, name: str) -> None:
    before = put(
        server,
        name,
        task={**TASK, "headers": {"X-A": "1", "X-B": "2"}, "labels": {"team": "blue"}},
    )

    answer = call(
        server,
        "PATCH",
        at(name),
        {
            "cron": "@daily",
            "overlap": "allow",
            "task": {"headers": {"X-A": None, "X-C": "3"}, "queue": "other", "priority": 5},
        },
    )

    assert answer.status == 200
    after = answer.json
    assert (after["cron"], after["overlap"]) == ("@daily", "allow")
    assert after["task"] == {
        **before["task"],
        "headers": {"X-B": "2", "X-C": "3"},
        "queue": "other",
        "priority": 5,
    }
    assert show(server, name) == after


def test_null_in_a_patch_resets(server: Server, name: str) -> None:
    said: dict[str, Any] = {
        "timezone": "Europe/Paris",
        "misfire": "all",
        "misfire_grace": 5,
        "overlap": "allow",
    }
    put(server, name, **said, task={**TASK, "priority": 5, "retry": {"jitter": 0}})
    expected = put(server, f"{name}-other")

    patch = {**dict.fromkeys(said), "task": {"priority": None, "retry": None}}
    after = call(server, "PATCH", at(name), patch).json

    same = ["timezone", "misfire", "misfire_grace", "overlap", "task"]
    assert {field: after[field] for field in same} == {field: expected[field] for field in same}


def test_patch_leaves_a_secret_header_as_it_is(
    server: Server, receiver: Receiver, name: str
) -> None:
    headers = {"Authorization": "Bearer secret"}
    put(server, name, task={"url": f"{receiver.url}/{name}", "headers": headers})

    call(server, "PATCH", at(name), {"task": {"headers": {"X-A": "1"}}})
    call(server, "POST", at(name, "/run"))
    call(server, "POST", "/v1/test/run-until-idle")

    [delivery] = [one for one in receiver.deliveries if one.path == f"/{name}"]
    assert (delivery.headers["authorization"], delivery.headers["x-a"]) == ("Bearer secret", "1")


def test_hidden_header_that_is_sent_back_keeps_its_value(
    server: Server, receiver: Receiver, name: str
) -> None:
    said = {"url": f"{receiver.url}/{name}", "headers": {"Authorization": "Bearer secret"}}
    put(server, name, task=said)
    shown = show(server, name)["task"]

    put(server, name, task={**shown, "priority": 1})
    call(server, "PATCH", at(name), {"task": {"headers": {"authorization": "***", "X-A": "1"}}})
    call(server, "POST", at(name, "/run"))
    call(server, "POST", "/v1/test/run-until-idle")

    assert shown["headers"] == {"Authorization": "***"}
    [delivery] = [one for one in receiver.deliveries if one.path == f"/{name}"]
    assert (delivery.headers["authorization"], delivery.headers["x-a"]) == ("Bearer secret", "1")


def test_hidden_header_of_a_declared_schedule_keeps_its_value(
    server: Server, name: str, receiver: Receiver
) -> None:
    said = {"url": f"{receiver.url}/{name}", "headers": {"Authorization": "Bearer secret"}}
    entry = {"name": name, "cron": "@daily", "task": said}
    call(server, "PUT", "/v1/schedules", {"owner": name, "schedules": [entry]})
    entry["task"] = show(server, name)["task"]

    call(server, "PUT", "/v1/schedules", {"owner": name, "schedules": [entry]})
    call(server, "POST", at(name, "/run"))
    call(server, "POST", "/v1/test/run-until-idle")

    [delivery] = [one for one in receiver.deliveries if one.path == f"/{name}"]
    assert delivery.headers["authorization"] == "Bearer secret"


def test_headers_are_patched_whatever_their_capitals(server: Server, name: str) -> None:
    put(server, name, task={**TASK, "headers": {"X-A": "1", "X-B": "2"}})

    after = call(server, "PATCH", at(name), {"task": {"headers": {"x-a": None, "x-b": "3"}}}).json

    assert after["task"]["headers"] == {"X-B": "3"}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"json": {"b": None, "c": 3}}, {"json": {"a": 1, "c": 3}}),
        ({"text": "x"}, {"text": "x"}),
        ({"json": None}, {}),
        ({"text": None}, {"json": {"a": 1, "b": 2}}),
        ({"priority": 0}, {"json": {"a": 1, "b": 2}}),
    ],
    ids=["merged", "other-form", "removed", "other-removed", "untouched"],
)
def test_body_may_be_patched(
    server: Server, name: str, patch: dict[str, object], expected: dict[str, object]
) -> None:
    put(server, name, task={**TASK, "json": {"a": 1, "b": 2}})

    after = call(server, "PATCH", at(name), {"task": patch}).json

    assert after["task"] == {**SHOWN_TASK, **expected}


def test_patch_of_the_task_alone_leaves_the_times_alone(server: Server, name: str) -> None:
    before = put(server, name, "@every 1h")
    pass_time(server, seconds=10)

    after = call(server, "PATCH", at(name), {"task": {"priority": 1}}).json

    assert after["next_runs"] == before["next_runs"]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"cron": None}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"task": None}, "task"),
        ({"task": {"url": None}}, "task.url"),
        ({"task": {"delay": 5}}, "task.delay"),
        ({"task": {"json": 1, "text": "x"}}, "task.text"),
        ({"task": 1}, "task"),
        ({"task": {"headers": 1}}, "task.headers"),
        ({"task": {"headers": {"X-A": 1}}}, "task.headers['X-A']"),
        ({"paused": True}, "paused"),
        ({"speed": 1}, "speed"),
    ],
)
def test_patch_that_is_not_allowed_is_refused_by_name(
    server: Server, name: str, patch: dict[str, object], field: str
) -> None:
    before = put(server, name)

    answer = call(server, "PATCH", at(name), patch)

    assert problem(answer) == (422, "invalid-schedule", [field])
    assert show(server, name) == before


@pytest.mark.parametrize("body", [b"", b"{", b'{"task": {"text": "\xff"}}'])
def test_patch_that_cannot_be_read_is_refused(server: Server, name: str, body: bytes) -> None:
    put(server, name)

    assert problem(server.request("PATCH", at(name), body)) == (400, "bad-json", [])


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"every": None}, "every"),
        ({"task": {"tries": None}}, "task.tries"),
        ({"task": {"retry": {"tries": None}}}, "task.retry.tries"),
        ({"task": {"key": None}}, "task.key"),
    ],
    ids=str,
)
def test_null_for_an_unknown_field_is_refused_by_name(
    server: Server, name: str, patch: dict[str, object], field: str
) -> None:
    put(server, name)

    assert problem(call(server, "PATCH", at(name), patch)) == (422, "invalid-schedule", [field])


@pytest.mark.parametrize("depth", [70, 100_000])
def test_deeply_nested_patch_is_refused(server: Server, name: str, depth: int) -> None:
    put(server, name)
    body = b'{"task":' * depth + b"1" + b"}" * depth

    assert server.request("PATCH", at(name), body).status in (400, 422)


def test_each_occurrence_makes_a_task(server: Server, receiver: Receiver, name: str) -> None:
    put(server, name, "@every 60s", task={"url": f"{receiver.url}/{name}", "labels": {"a": "b"}})

    pass_time(server, seconds=150)

    assert paths(receiver).count(f"/{name}") == 2
    found = runs(server, name)
    assert [(task["schedule"], task["state"]) for task in found] == [(name, "succeeded")] * 2
    assert [task["labels"] for task in found] == [{"a": "b"}] * 2


def test_run_by_hand_makes_a_task_now_and_moves_nothing(
    server: Server, receiver: Receiver, name: str
) -> None:
    before = put(server, name, task={"url": f"{receiver.url}/{name}"})

    answer = call(server, "POST", at(name, "/run"))

    task = answer.json
    assert (answer.status, task["state"], task["schedule"]) == (201, "waiting", name)
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert call(server, "GET", f"/v1/tasks/{task['id']}").status == 200
    assert show(server, name)["next_runs"] == before["next_runs"]
    call(server, "POST", "/v1/test/run-until-idle")
    assert paths(receiver).count(f"/{name}") == 1


def test_runs_are_listed_in_pages_the_latest_first(server: Server, name: str) -> None:
    put(server, name, overlap="allow", task={**TASK, "queue": f"{name}-held"})
    made = [call(server, "POST", at(name, "/run")).json["id"] for _ in range(3)]

    first = call(server, "GET", at(name, "/runs?limit=2")).json
    rest = call(server, "GET", at(name, f"/runs?limit=2&cursor={first['next_cursor']}")).json

    assert [task["id"] for task in first["tasks"]] == made[:0:-1]
    assert [task["id"] for task in rest["tasks"]] == made[:1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("cursor=x", "cursor"), ("queue=a", "queue")],
)
def test_query_of_runs_that_is_not_allowed_is_refused(
    server: Server, name: str, query: str, field: str
) -> None:
    put(server, name)

    assert problem(call(server, "GET", at(name, f"/runs?{query}"))) == (
        422,
        "invalid-query",
        [field],
    )


def test_pause_is_not_made_up_for(server: Server, receiver: Receiver, name: str) -> None:
    put(server, name, "@every 60s", misfire="all", task={"url": f"{receiver.url}/{name}"})
    paused = call(server, "POST", at(name, "/pause"))
    pass_time(server, seconds=150)

    resumed = call(server, "POST", at(name, "/resume"))
    resumed_at = now(server)
    pass_time(server, seconds=29)
    early = paths(receiver).count(f"/{name}")
    pass_time(server, seconds=1)

    assert (paused.status, paused.json["paused"], paused.json["next_runs"]) == (200, True, [])
    assert (resumed.status, resumed.json["paused"]) == (200, False)
    following = datetime.fromisoformat(resumed.json["next_runs"][0]["utc"])
    assert following == resumed_at + timedelta(seconds=30)
    assert (early, paths(receiver).count(f"/{name}")) == (0, 1)


def test_resuming_what_is_not_paused_changes_nothing(server: Server, name: str) -> None:
    before = put(server, name, "@every 1h")
    pass_time(server, seconds=10)

    answer = call(server, "POST", at(name, "/resume"))

    assert (answer.status, answer.json) == (200, before)


def test_deleted_schedule_takes_its_waiting_runs_along(server: Server, name: str) -> None:
    put(server, name)
    call(server, "POST", "/v1/queues/default/pause")
    run = call(server, "POST", at(name, "/run")).json["id"]

    answer = call(server, "DELETE", at(name))
    call(server, "POST", "/v1/queues/default/resume")

    assert (answer.status, answer.body) == (204, b"")
    assert call(server, "GET", at(name)).status == 404
    assert call(server, "GET", f"/v1/tasks/{run}").status == 404


def test_declared_set_replaces_the_owners_schedules(server: Server, name: str) -> None:
    own = put(server, f"{name}-own")
    declare(server, name, f"{name}-a", f"{name}-b")
    call(server, "POST", at(f"{name}-b", "/pause"))

    answer = declare(server, name, f"{name}-c", f"{name}-b")

    assert answer.status == 200
    found = {one["name"]: (one["owner"], one["paused"]) for one in answer.json["schedules"]}
    assert found == {f"{name}-b": (name, True), f"{name}-c": (name, False)}
    assert call(server, "GET", at(f"{name}-a")).status == 404
    assert show(server, f"{name}-own") == own


def test_unchanged_entry_of_a_set_is_not_touched(server: Server, name: str) -> None:
    names = [f"{name}-a", f"{name}-b"]
    assert declare(server, name, *names, version=1).status == 200
    pass_time(server, hours=1)
    call(server, "POST", at(names[0], "/pause"))
    before = [show(server, one) for one in names]

    assert declare(server, name, *names, version=2).status == 200

    assert [show(server, one) for one in names] == before
    assert before[0]["paused"]
    assert before[1]["last_run_at"] is not None


def test_empty_set_deletes_the_owners_schedules(server: Server, name: str) -> None:
    declare(server, name, f"{name}-a")

    answer = declare(server, name)

    assert (answer.status, answer.json) == (200, {"schedules": [], "refused": []})
    assert call(server, "GET", at(f"{name}-a")).status == 404


def test_name_of_another_owner_is_a_conflict(server: Server, name: str) -> None:
    put(server, f"{name}-own")
    declare(server, f"{name}-first", f"{name}-declared")

    for taken in (f"{name}-own", f"{name}-declared"):
        answer = declare(server, f"{name}-second", f"{name}-new", taken)
        assert problem(answer) == (409, "owned-by-another", [])

    assert call(server, "GET", at(f"{name}-new")).status == 404


def test_change_of_an_operator_holds_until_the_declaration_changes(
    server: Server, name: str
) -> None:
    entry = {
        "name": name,
        "cron": "@daily",
        "timezone": "Europe/Paris",
        "overlap": "allow",
        "task": {**TASK, "json": {"n": 1}, "timeout": 9},
    }
    body = {"owner": name, "schedules": [entry]}
    [first] = call(server, "PUT", "/v1/schedules", body).json["schedules"]
    patch = {"cron": "@hourly", "timezone": None, "task": {"timeout": 3, "priority": 5}}
    call(server, "PATCH", at(name), patch)
    call(server, "POST", at(name, "/pause"))
    changed = show(server, name)

    [same] = call(server, "PUT", "/v1/schedules", body).json["schedules"]
    other_body = {"owner": name, "schedules": [{**entry, "misfire": "skip"}]}
    [other] = call(server, "PUT", "/v1/schedules?partial=true", other_body).json["schedules"]

    code = {"url": "code", "body": "code", "timeout": "code"}
    assert first["sources"] == sources_with(code, cron="code", timezone="code", overlap="code")
    assert same == changed
    assert (same["cron"], same["timezone"]) == ("@hourly", "UTC")
    assert same["sources"] == sources_with(
        {**code, "timeout": "operator", "priority": "operator"}, cron="operator", overlap="code"
    )
    assert (other["cron"], other["task"]["timeout"], other["task"]["priority"]) == ("@daily", 9, 0)
    assert other["sources"] == sources_with(
        code, cron="code", timezone="code", overlap="code", misfire="code"
    )
    assert other["paused"] is True


def test_put_of_an_operator_holds_until_the_declaration_changes(server: Server, name: str) -> None:
    declare(server, name, name)
    by_hand = put(server, name, cron="@weekly")

    declare(server, name, name)

    assert show(server, name) == by_hand
    assert by_hand["sources"] == sources_with({"url": "code"}, cron="operator")


def test_schedule_that_code_declares_as_somebody_wrote_it_is_the_codes(
    server: Server, name: str
) -> None:
    declare(server, name, name)
    put(server, name, cron="@weekly")
    entry = {"name": name, "cron": "@weekly", "task": TASK}

    call(server, "PUT", "/v1/schedules", {"owner": name, "schedules": [entry]})

    assert show(server, name)["sources"]["cron"] == "code"


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"cron": "0 25 * * *"}, "cron", "not an hour"),
        ({"task": {"url": "nowhere"}}, "task.url", "must begin with /, http"),
        ({"task": {**TASK, "timeout": 0}}, "task.timeout", "0.1"),
        ({"colour": 1}, "colour", "is unknown; remove it, or use one of "),
        ({"cron": None}, "cron", ""),
    ],
)
def test_partial_set_leaves_out_what_is_refused_and_keeps_what_is_there(
    server: Server, name: str, change: dict[str, object], field: str, reason: str
) -> None:
    names = [f"{name}-a", f"{name}-b", f"{name}-new", f"{name}-other"]
    entries: list[dict[str, object]] = [
        {"name": one, "cron": "@daily", "task": TASK} for one in names
    ]
    declare(server, name, *names[:2])
    declare(server, f"{name}-another", names[3])
    before = show(server, names[1])
    # One that is there, one that is new, one of another owner, and one without a name.
    entries[1] |= change
    refused_new = {**entries[2], **change, "name": f"{name}-new-too"}
    given = [*entries, refused_new, {"cron": "@daily"}]

    body = {"owner": name, "schedules": given}
    answer = call(server, "PUT", "/v1/schedules?partial=true", body)

    assert answer.status == 200, answer
    refused = answer.json["refused"]
    assert [(it["name"], it["field"]) for it in refused] == [
        (names[1], field),
        (names[3], ""),
        (f"{name}-new-too", field),
        ("", "task"),
    ]
    assert reason in refused[0]["reason"]
    assert refused[1]["reason"] == f"the schedule {names[3]!r} belongs to '{name}-another'"
    assert [it["name"] for it in answer.json["schedules"]] == names[:3]
    assert show(server, names[1]) == before
    assert show(server, names[0])["cron"] == "@daily"
    assert call(server, "GET", at(f"{name}-new-too")).status == 404


def test_partial_set_is_left_out_as_a_whole_when_it_is_older(server: Server, name: str) -> None:
    declare(server, name, f"{name}-a", version=7)

    body = {"owner": name, "version": 6, "schedules": []}
    answer = call(server, "PUT", "/v1/schedules?partial=true", body)

    assert problem(answer) == (409, "older-version", [])


@pytest.mark.parametrize("query", ["", "?partial=true"])
def test_application_without_a_name_keeps_its_schedules_from_another_one(
    server: Server, query: str
) -> None:
    def declare_tasks(*tasks: str) -> Answer:
        task = "/_poussetaches/{}"
        entries = [
            {"name": it, "cron": "@daily", "task": {"url": task.format(it)}} for it in tasks
        ]
        return call(server, "PUT", f"/v1/schedules{query}", {"owner": "app", "schedules": entries})

    call(server, "PUT", "/v1/queues/default", {"base_url": "http://127.0.0.1:1"})
    first = declare_tasks("shop_a.morning")
    other = declare_tasks("shop_b.morning")
    removed = call(server, "DELETE", at("shop_a.morning"))
    moved = declare_tasks("shop_b.morning")
    declare_tasks()

    assert (first.status, removed.status, moved.status) == (200, 204, 200)
    assert problem(other) == (409, "owned-by-another", [])
    assert "DELETE /v1/schedules/shop_a.morning" in other.json["detail"]


def test_version_only_goes_up(server: Server, name: str) -> None:
    declare(server, name, f"{name}-a", version=7)

    older = declare(server, name, f"{name}-b", version=6)
    same = declare(server, name, f"{name}-c", version=7)
    newer = declare(server, name, f"{name}-d", version=8)

    assert problem(older) == (409, "older-version", [])
    assert (same.status, newer.status) == (200, 200)
    assert call(server, "GET", at(f"{name}-d")).status == 200


def test_refused_entry_is_named_by_its_place(server: Server, name: str) -> None:
    good = {"name": f"{name}-a", "cron": "@daily", "task": TASK}
    for change, field in (
        ({"cron": "nonsense"}, "schedules[1].cron"),
        ({"cron": "0 0 30 2 *"}, "schedules[1].cron"),
        ({"task": {"url": "ftp://app/"}}, "schedules[1].task.url"),
        ({"name": f"{name}-a"}, "schedules[1].name"),
    ):
        schedules = [good, {**good, "name": f"{name}-b", **change}]

        answer = call(server, "PUT", "/v1/schedules", {"owner": name, "schedules": schedules})

        assert problem(answer) == (422, "invalid-schedule", [field])
    assert call(server, "GET", at(f"{name}-a")).status == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"owner": "original"}, "owner"),
        ({"owner": "-"}, "owner"),
        ({"owner": None}, "owner"),
        ({"version": -1}, "version"),
        ({"version": 2**63}, "version"),
        ({"schedules": None}, "schedules"),
        ({"set": 1}, "set"),
    ],
)
def test_set_that_is_not_allowed_is_refused_by_name(
    server: Server, fields: dict[str, object], field: str
) -> None:
    said = {"owner": "somebody", "version": 1, "schedules": [], **fields}

    answer = call(server, "PUT", "/v1/schedules", said)

    assert problem(answer) == (422, "invalid-schedule", [field])


@pytest.mark.parametrize("fields", [{}, {"owner": "-"}], ids=["missing", "malformed"])
def test_invalid_owner_of_a_set_is_not_refused_as_read_only(
    server: Server, fields: dict[str, object]
) -> None:
    """Only the schedules in a set cannot have an owner."""
    answer = call(server, "PUT", "/v1/schedules", {"schedules": [], **fields})

    [error] = answer.json["errors"]
    assert error["field"] == "owner"
    assert "remove it" not in error["reason"]


def test_preview_shows_when_an_expression_is_due(server: Server) -> None:
    begin = now(server)

    answer = call(server, "POST", "/v1/schedules/preview", {"cron": "@every 90s", "count": 3})

    assert answer.status == 200
    found = [datetime.fromisoformat(run["utc"]) for run in answer.json["next_runs"]]
    assert found == [begin + timedelta(seconds=90 * number) for number in (1, 2, 3)]


def test_preview_has_five_occurrences_in_utc_by_default(server: Server) -> None:
    answer = call(server, "POST", "/v1/schedules/preview", {"cron": "0 12 * * *"})

    found = answer.json["next_runs"]
    assert len(found) == 5
    assert all(run["local"].endswith("T12:00:00.000000+00:00") for run in found)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"cron": "nonsense"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "*/90 * * * *"}, "cron"),
        ({}, "cron"),
        ({"cron": "@daily", "timezone": "Mars/Olympus"}, "timezone"),
        ({"cron": "@daily", "timezone": "localtime"}, "timezone"),
        ({"cron": "@daily", "count": 0}, "count"),
        ({"cron": "@daily", "count": 101}, "count"),
        ({"cron": "@daily", "task": {}}, "task"),
    ],
)
def test_preview_that_is_not_allowed_is_refused_by_name(
    server: Server, said: dict[str, object], field: str
) -> None:
    answer = call(server, "POST", "/v1/schedules/preview", said)

    assert problem(answer) == (422, "invalid-schedule", [field])


def test_preview_ends_where_the_clock_changes_at_a_quarter_to(server: Server) -> None:
    said = {"cron": "*/45 3 4 4 *", "timezone": "Pacific/Chatham", "count": 100}

    answer = call(server, "POST", "/v1/schedules/preview", said)

    assert (answer.status, len(answer.json["next_runs"])) == (200, 100)


def preview(server: Server, cron: str) -> list[datetime]:
    """Return the next 70 occurrences, as the clocks of Paris have them."""
    said = {"cron": cron, "timezone": "Europe/Paris", "count": 70}
    found = call(server, "POST", "/v1/schedules/preview", said).json["next_runs"]
    return [datetime.fromisoformat(run["local"]) for run in found]


def clocks_change_on(moment: datetime) -> bool:
    """Return whether a time is on the last Sunday of a month of 31 days."""
    return moment.isoweekday() == 7 and moment.day >= 25


@pytest.mark.parametrize("cron", ["30 2 25-31 3 *", "0 30 2 25-31 3 *"])
def test_fixed_time_that_is_skipped_runs_at_the_jump(server: Server, cron: str) -> None:
    found = preview(server, cron)

    assert any(map(clocks_change_on, found))
    for run in found:
        assert (run.hour, run.minute) == ((3, 0) if clocks_change_on(run) else (2, 30))


@pytest.mark.parametrize("cron", ["30 2 25-31 10 *", "0 30 2 25-31 10 *"])
def test_fixed_time_that_is_there_twice_runs_once(server: Server, cron: str) -> None:
    found = preview(server, cron)

    assert any(map(clocks_change_on, found))
    assert len({run.date() for run in found}) == 70


def test_steps_go_by_the_time_that_passes(server: Server) -> None:
    found = preview(server, "*/30 2 25-31 10 *")

    runs_of = Counter(run.date() for run in found)
    for run in found[4:-4]:  # the first and the last day may be cut
        assert runs_of[run.date()] == (4 if clocks_change_on(run) else 2)


def push_original(server: Server, cron: str, url: str = URL) -> str:
    """Push a schedule by the original's route; return its name."""
    server.push(url, b"payload", schedule=cron)
    content = url.encode() + b"payload" + cron.encode()
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def test_schedule_of_the_original_can_be_looked_at(server: Server) -> None:
    name = push_original(server, "@every 7h")

    shown = show(server, name)

    assert (shown["owner"], shown["cron"]) == ("original", "@every 7h")
    assert shown["task"]["body_base64"] == base64.b64encode(b"payload").decode()


def test_schedule_of_the_original_can_be_paused_run_and_deleted(
    server: Server, receiver: Receiver
) -> None:
    name = push_original(server, "@every 8h", f"{receiver.url}/original")

    steps = [
        call(server, method, at(name, action)).status
        for method, action in (
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/run"),
            ("GET", "/runs"),
            ("DELETE", ""),
        )
    ]

    assert steps == [200, 200, 201, 200, 204]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_schedule_of_the_original_is_not_changed(server: Server, method: str) -> None:
    name = push_original(server, "@every 9h")

    answer = call(server, method, at(name), {"cron": "@daily", "task": TASK})

    assert problem(answer) == (409, "owned-by-another", [])
    assert show(server, name)["cron"] == "@every 9h"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/schedules", "GET, HEAD, PUT"),
        ("POST", "/v1/schedules/a", "DELETE, GET, HEAD, PATCH, PUT"),
        ("GET", "/v1/schedules/a/run", "POST"),
        ("POST", "/v1/schedules/a/runs", "GET, HEAD"),
    ],
)
def test_other_methods_are_not_allowed(
    server: Server, method: str, path: str, allowed: str
) -> None:
    answer = call(server, method, path)

    assert problem(answer) == (405, "method-not-allowed", [])
    assert answer.headers["allow"] == allowed
