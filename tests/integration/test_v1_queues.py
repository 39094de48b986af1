"""Queues over real HTTP, by protocol.md: every route, every setting, every refusal."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poussetaches.core.queue_fields import QueueFields
from tests.acceptance.harness import Answer, Receiver, Server, receiving, serving
from tests.integration.v1 import problem

URL = "http://127.0.0.1:9/task"  # no process listens there
RETRY: dict[str, object] = {
    "max_attempts": 12,
    "min_backoff": 1.0,
    "multiplier": 4.0,
    "max_backoff": 21600.0,
    "jitter": 0.3,
    "max_age": None,
    "max_retry_after": 3600.0,
    "dead_on": [],
}
COUNTS = {"waiting": 0, "running": 0, "succeeded": 0, "dead": 0, "failing": 0}
DEFAULTS: dict[str, object] = {
    "paused": False,
    "rate": None,
    "burst": 1,
    "concurrency": 4,
    "origin_concurrency": None,
    "timeout": 5.0,  # in test mode
    "retry": RETRY,
    "base_url": None,
    "on_success": None,
    "on_dead": None,
    # In test mode all ended tasks are kept.
    "keep_succeeded": {"count": 1_000_000_000, "age": 315_360_000.0},
    "keep_dead": {"count": 1_000_000_000, "age": 315_360_000.0},
    "counts": COUNTS,
    "oldest_due_age": None,
    "waiting_for": [],
}

serial = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server whose time stands still, so that nothing is delivered unless told."""
    with serving(tmp_path_factory.mktemp("queues") / "data", "--test-mode") as server:
        yield server


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run an application that fails requests to paths that end in /fail."""
    with receiving(lambda delivery: 500 if delivery.path.endswith("/fail") else 200) as receiver:
        yield receiver


@pytest.fixture
def name() -> str:
    return f"queue-{next(serial)}"


def call(server: Server, method: str, path: str, body: object = None) -> Answer:
    """Make a request with a body in JSON, if any."""
    content = None if body is None else json.dumps(body).encode()
    return server.request(method, path, content)


def put(server: Server, name: str, **settings: object) -> Any:
    answer = call(server, "PUT", f"/v1/queues/{name}", settings)
    assert answer.status in (200, 201), answer
    return answer.json


def values(queue: dict[str, Any]) -> dict[str, Any]:
    """Return a queue without the sources of its values."""
    return {field: value for field, value in queue.items() if field != "sources"}


def set_origins(queue: dict[str, Any]) -> dict[str, Any]:
    """Return the sources of a queue's values without those of the server's values."""

    def is_set(sources: dict[str, Any]) -> dict[str, Any]:
        found = {
            field: is_set(source) if isinstance(source, dict) else source
            for field, source in sources.items()
        }
        return {field: source for field, source in found.items() if source not in ("server", {})}

    return is_set(queue["sources"])


def declare(server: Server, name: str, query: str = "", **settings: object) -> Any:
    answer = call(server, "PATCH", f"/v1/queues/{name}?declared=true{query}", settings)
    assert answer.status in (200, 201), answer
    return answer.json


def show(server: Server, name: str) -> Any:
    answer = call(server, "GET", f"/v1/queues/{name}")
    assert answer.status == 200, answer
    return answer.json


def push(server: Server, queue: str, url: str = URL, **fields: object) -> str:
    answer = call(server, "POST", "/v1/tasks", {"url": url, "queue": queue, **fields})
    assert answer.status == 201, answer
    task_id: str = answer.json["id"]
    return task_id


def deliver(server: Server) -> None:
    """Make the attempts that are due, to their end."""
    assert call(server, "POST", "/v1/test/run-until-idle").status == 200


def test_default_queue_is_always_there(server: Server) -> None:
    assert show(server, "default")["name"] == "default"


def test_new_queue_has_what_the_server_has(server: Server, name: str) -> None:
    answer = call(server, "PUT", f"/v1/queues/{name}", {})

    assert (answer.status, values(answer.json)) == (201, {"name": name, **DEFAULTS})


def test_queues_are_listed_by_name(server: Server) -> None:
    names = [f"listed-{next(serial)}" for _ in range(3)]
    for one in reversed(names):
        put(server, one)

    listed = call(server, "GET", "/v1/queues").json["queues"]

    found = [queue["name"] for queue in listed]
    assert found == sorted(found)
    assert {"default", *names} <= set(found)
    assert values(listed[found.index(names[0])]) == {"name": names[0], **DEFAULTS}


def test_queue_that_a_push_made_is_listed(server: Server, name: str) -> None:
    push(server, name)

    assert show(server, name)["counts"] == {**COUNTS, "waiting": 1}


def test_counts_follow_the_tasks(server: Server, receiver: Receiver, name: str) -> None:
    push(server, name, f"{receiver.url}/done")
    push(server, name, f"{receiver.url}/fail", retry={"max_attempts": 1})
    push(server, name, f"{receiver.url}/fail")
    push(server, name, f"{receiver.url}/later", delay=60)

    deliver(server)

    assert show(server, name)["counts"] == {
        "waiting": 2,
        "running": 0,
        "succeeded": 1,
        "dead": 1,
        "failing": 1,
    }


def test_age_of_the_oldest_due_task_is_shown(server: Server, name: str) -> None:
    put(server, name)
    call(server, "POST", f"/v1/queues/{name}/pause")
    push(server, name, delay=10)
    assert show(server, name)["oldest_due_age"] is None

    call(server, "POST", "/v1/test/advance", {"seconds": 15})

    assert show(server, name)["oldest_due_age"] == 5.0


SETTINGS: dict[str, Any] = {
    "rate": 2.5,
    "burst": 7,
    "concurrency": 9,
    "origin_concurrency": 3,
    "timeout": 12.5,
    "retry": {**RETRY, "max_attempts": 3, "dead_on": [410, "4xx"]},
    "base_url": "http://app:5000/base",
    "on_success": "http://app:5000/done",
    "on_dead": "http://app:5000/dead",
    "keep_succeeded": {"count": 1, "age": 2.0},
    "keep_dead": {"count": 3, "age": 4.0},
}


def test_put_sets_every_setting(server: Server, name: str) -> None:
    queue = put(
        server, name, **{**SETTINGS, "retry": {"max_attempts": 3, "dead_on": [410, "4xx"]}}
    )

    assert values(queue) == {"name": name, **DEFAULTS, **SETTINGS}
    assert show(server, name) == queue


def test_put_again_resets_what_it_does_not_name(server: Server, name: str) -> None:
    put(server, name, **SETTINGS)

    answer = call(server, "PUT", f"/v1/queues/{name}", {"burst": 2, "timeout": None})

    assert (answer.status, values(answer.json)) == (
        200,
        {"name": name, **DEFAULTS, "burst": 2},
    )


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2/s", 2.0), ("30/min", 0.5), ("180/h", 0.05), ("0.5/s", 0.5), (".5/min", 0.5 / 60)],
)
def test_rate_may_be_written_with_its_unit(
    server: Server, name: str, text: str, rate: float
) -> None:
    assert put(server, name, rate=text)["rate"] == pytest.approx(rate)


def test_patch_changes_what_it_names(server: Server, name: str) -> None:
    put(server, name, rate=1, retry={"max_attempts": 3}, keep_dead={"age": 60})

    answer = call(
        server,
        "PATCH",
        f"/v1/queues/{name}",
        {"burst": 5, "retry": {"jitter": 0}, "keep_dead": {"count": 7}},
    )

    assert (answer.status, values(answer.json)) == (
        200,
        {
            **{"name": name, **DEFAULTS, "rate": 1.0, "burst": 5},
            "retry": {**RETRY, "max_attempts": 3, "jitter": 0.0},
            "keep_dead": {"count": 7, "age": 60.0},
        },
    )


def test_null_in_a_patch_resets(server: Server, name: str) -> None:
    put(server, name, rate=1, retry={"max_attempts": 3, "jitter": 0}, keep_dead={"count": 7})

    queue = call(
        server,
        "PATCH",
        f"/v1/queues/{name}",
        {"rate": None, "retry": {"jitter": None}, "keep_dead": {"count": None}},
    ).json

    assert values(queue) == {"name": name, **DEFAULTS, "retry": {**RETRY, "max_attempts": 3}}


def test_values_are_the_servers_until_somebody_sets_them(server: Server, name: str) -> None:
    queue = put(server, name)

    assert set(queue["sources"]) == set(QueueFields.__struct_fields__)
    assert set_origins(queue) == {}


def test_change_of_an_operator_holds_until_the_declaration_changes(
    server: Server, name: str
) -> None:
    declared: Any = {"rate": "20/s", "concurrency": 2, "retry": {"max_attempts": 5}}
    first = declare(server, name, **declared)
    patch = {"rate": "5/s", "burst": 7, "concurrency": None, "retry": {"jitter": 0}}
    call(server, "PATCH", f"/v1/queues/{name}", patch)
    call(server, "POST", f"/v1/queues/{name}/pause")
    changed = show(server, name)

    same = declare(server, name, **declared)
    other = declare(server, name, rate="20/s", retry={"max_attempts": 6})

    assert set_origins(first) == {
        "rate": "code",
        "concurrency": "code",
        "retry": {"max_attempts": "code"},
    }
    assert same == changed
    assert (same["rate"], same["burst"], same["concurrency"]) == (5.0, 7, 4)
    assert set_origins(same) == {
        "rate": "operator",
        "burst": "operator",
        "retry": {"max_attempts": "code", "jitter": "operator"},
    }
    # What the code says, or said, is as it says; what it never named stays.
    assert (other["rate"], other["burst"], other["concurrency"]) == (20.0, 7, 4)
    assert other["retry"] == {**RETRY, "max_attempts": 6, "jitter": 0.0}
    assert set_origins(other) == {
        "rate": "code",
        "burst": "operator",
        "retry": {"max_attempts": "code", "jitter": "operator"},
    }
    assert other["paused"] is True


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_whole_change_of_an_operator_holds_too(server: Server, name: str, method: str) -> None:
    declare(server, name, rate="20/s", burst=3)
    call(server, method, f"/v1/queues/{name}", {"rate": 20, "burst": None, "timeout": 9})

    queue = declare(server, name, rate=20.0, burst=3)

    assert (queue["rate"], queue["burst"], queue["timeout"]) == (20.0, 1, 9.0)
    assert set_origins(queue) == {"rate": "code", "timeout": "operator"}


def test_setting_that_leaves_the_declaration_is_the_servers_again(
    server: Server, name: str
) -> None:
    declare(server, name, rate=1, retry={"max_attempts": 5, "jitter": 0})

    queue = declare(server, name, retry={"jitter": 0.1})

    assert values(queue) == {"name": name, **DEFAULTS, "retry": {**RETRY, "jitter": 0.1}}
    assert set_origins(queue) == {"retry": {"jitter": "code"}}


def test_first_declaration_of_a_queue_that_was_set_by_hand_sets_what_it_names(
    server: Server, name: str
) -> None:
    put(server, name, rate=1, burst=2)

    queue = declare(server, name, rate=3)

    assert (queue["rate"], queue["burst"]) == (3.0, 2)
    assert set_origins(queue) == {"rate": "code", "burst": "operator"}


def test_declaration_that_is_refused_changes_nothing(server: Server, name: str) -> None:
    before = declare(server, name, rate=1)

    answer = call(server, "PATCH", f"/v1/queues/{name}?declared=true", {"on_dead": "/nowhere"})

    assert problem(answer) == (422, "invalid-queue", ["on_dead"])
    assert show(server, name) == before


def test_declaration_of_another_application_changes_nothing(server: Server, name: str) -> None:
    before = declare(server, name, "&owner=app&modules=shop,web", rate=1)

    path = f"/v1/queues/{name}?declared=true&owner=app&modules=other"
    answer = call(server, "PATCH", path, {"rate": "1/h"})

    assert problem(answer) == (409, "owned-by-another", [])
    assert show(server, name) == before
    declare(server, name)  # ends the declaration
    assert declare(server, name, "&owner=app&modules=other", rate=2)["rate"] == 2.0


@pytest.mark.parametrize("modules", ["a%20b", "%C2%84", "a" * 16_385])
def test_declaration_with_other_characters_in_its_modules_is_refused(
    server: Server, name: str, modules: str
) -> None:
    path = f"/v1/queues/{name}?declared=true&owner=app&modules={modules}"

    answer = call(server, "PATCH", path, {})

    assert problem(answer) == (422, "invalid-query", ["modules"])


def test_same_declaration_of_other_modules_keeps_the_changes_of_an_operator(
    server: Server, name: str
) -> None:
    declare(server, name, "&owner=app&modules=shop", rate=1)
    call(server, "PATCH", f"/v1/queues/{name}", {"rate": 5})

    queue = declare(server, name, "&owner=app&modules=shop,jobs", rate=1)
    declare(server, name, "&owner=app&modules=jobs", rate=1)

    assert queue["rate"] == 5.0


def test_declaration_and_changes_survive_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        declare(server, "mail", rate=20)
        call(server, "PATCH", "/v1/queues/mail", {"rate": 5})
        server.stop()
        server.start()
        after = declare(server, "mail", rate=20)

    assert (after["rate"], set_origins(after)) == (5.0, {"rate": "operator"})


@pytest.mark.parametrize(
    ("patch", "field"),
    [({"speed": None}, "speed"), ({"retry": {"tries": None}}, "retry.tries")],
    ids=str,
)
def test_null_for_an_unknown_field_is_refused_by_name(
    server: Server, name: str, patch: dict[str, object], field: str
) -> None:
    put(server, name)

    answer = call(server, "PATCH", f"/v1/queues/{name}", patch)

    assert problem(answer) == (422, "invalid-queue", [field])


def test_patch_makes_an_unknown_queue(server: Server, name: str) -> None:
    answer = call(server, "PATCH", f"/v1/queues/{name}", {"burst": 3})

    assert (answer.status, answer.json["burst"]) == (201, 3)


def test_refused_patch_changes_nothing(server: Server, name: str) -> None:
    before = put(server, name, burst=2)

    call(server, "PATCH", f"/v1/queues/{name}", {"burst": 5, "concurrency": 0})

    assert show(server, name) == before


def test_callback_may_be_a_path_when_there_is_a_base_url_for_it(server: Server, name: str) -> None:
    put(server, "callbacks", base_url="http://app:5000")

    queue = put(server, name, on_dead="/dead")
    call(server, "DELETE", "/v1/queues/callbacks")

    assert queue["on_dead"] == "/dead"
    assert problem(call(server, "PUT", f"/v1/queues/{name}", {"on_dead": "/dead"})) == (
        422,
        "invalid-queue",
        ["on_dead"],
    )


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "unknown": ({"speed": 1}, "speed"),
    "type": ({"burst": "many"}, "burst"),
    "rate-zero": ({"rate": 0}, "rate"),
    "rate-text": ({"rate": "2/week"}, "rate"),
    "rate-line": ({"rate": "2/s\n"}, "rate"),
    "rate-high": ({"rate": "99999999999/s"}, "rate"),
    "rate-true": ({"rate": True}, "rate"),
    "burst": ({"burst": 0}, "burst"),
    "concurrency": ({"concurrency": 0}, "concurrency"),
    "concurrency-part": ({"concurrency": 1.5}, "concurrency"),
    "origin_concurrency": ({"origin_concurrency": 10_001}, "origin_concurrency"),
    "timeout-short": ({"timeout": 0.05}, "timeout"),
    "timeout-long": ({"timeout": 86_401}, "timeout"),
    "retry-unknown": ({"retry": {"tries": 1}}, "retry.tries"),
    "retry-range": ({"retry": {"max_attempts": 1001}}, "retry.max_attempts"),
    "retry-order": ({"retry": {"min_backoff": 9, "max_backoff": 8}}, "retry.min_backoff"),
    "dead_on": ({"retry": {"dead_on": [700]}}, "retry.dead_on[0]"),
    "base_url-path": ({"base_url": "/base"}, "base_url"),
    "base_url-query": ({"base_url": "http://app/?a=b"}, "base_url"),
    "on_success": ({"on_success": "ftp://app/"}, "on_success"),
    "on_dead-path": ({"on_dead": "/dead"}, "on_dead"),
    "keep": ({"keep_dead": {"count": -1}}, "keep_dead.count"),
    "keep-unknown": ({"keep_dead": {"size": 1}}, "keep_dead.size"),
    "name": ({"name": "other"}, "name"),
    "counts": ({"counts": {}}, "counts"),
    "oldest_due_age": ({"oldest_due_age": 1}, "oldest_due_age"),
    "waiting_for": ({"waiting_for": []}, "waiting_for"),
    "paused": ({"paused": True}, "paused"),
}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(("settings", "field"), REFUSED.values(), ids=REFUSED)
def test_setting_that_is_not_allowed_is_refused_by_name(
    server: Server, name: str, method: str, settings: dict[str, object], field: str
) -> None:
    answer = call(server, method, f"/v1/queues/{name}", settings)

    assert problem(answer) == (422, "invalid-queue", [field])
    assert call(server, "GET", f"/v1/queues/{name}").status == 404


def test_pause_among_the_settings_is_refused_with_a_hint(server: Server, name: str) -> None:
    answer = call(server, "PATCH", f"/v1/queues/{name}", {"paused": True})

    assert "/pause and …/resume" in answer.json["detail"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad-json", [])),
        (b"{", (400, "bad-json", [])),
        (b'{"burst": 1}x', (400, "bad-json", [])),
        (b'{"base_url": "\xff"}', (400, "bad-json", [])),
        (b'{"base_url": "\\ud800"}', (400, "bad-json", [])),
        (b"[]", (422, "invalid-queue", [""])),
        (b"null", (422, "invalid-queue", [""])),
        (b" " * (2 * 2**20 + 1), (413, "too-large", [])),
    ],
    ids=["empty", "cut", "more", "not-utf-8", "surrogate", "array", "null", "long"],
)
def test_body_that_is_no_object_is_refused(
    server: Server, name: str, method: str, body: bytes, expected: tuple[int, str, list[str]]
) -> None:
    assert problem(server.request(method, f"/v1/queues/{name}", body)) == expected


@pytest.mark.parametrize("depth", [70, 100_000])
def test_deeply_nested_patch_is_refused(server: Server, name: str, depth: int) -> None:
    body = b'{"retry":' * depth + b"1" + b"}" * depth

    assert server.request("PATCH", f"/v1/queues/{name}", body).status in (400, 422)


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "9", "x" * 100])
def test_name_may_have_letters_digits_and_some_signs(server: Server, name: str) -> None:
    assert put(server, name)["name"] == name


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("name", ["-a", ".a", "a%20b", "%C3%A9", "a%0A", "x" * 101])
def test_other_names_are_refused(server: Server, method: str, name: str) -> None:
    answer = call(server, method, f"/v1/queues/{name}", {})

    assert problem(answer) == (422, "invalid-queue", ["name"])


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/purge"),
    ],
)
def test_unknown_queue_is_not_found(server: Server, name: str, method: str, action: str) -> None:
    answer = call(server, method, f"/v1/queues/{name}{action}")

    assert problem(answer) == (404, "queue-not-found", [])
    assert name in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/queues", "GET, HEAD"),
        ("POST", "/v1/queues/default", "DELETE, GET, HEAD, PATCH, PUT"),
        ("GET", "/v1/queues/default/pause", "POST"),
        ("GET", "/v1/pause", "POST"),
    ],
)
def test_other_methods_are_not_allowed(
    server: Server, method: str, path: str, allowed: str
) -> None:
    answer = call(server, method, path)

    assert problem(answer) == (405, "method-not-allowed", [])
    assert answer.headers["allow"] == allowed


def test_paused_queue_holds_its_tasks_until_it_is_resumed(
    server: Server, receiver: Receiver, name: str
) -> None:
    put(server, name, burst=2)
    paused = call(server, "POST", f"/v1/queues/{name}/pause")
    push(server, name, f"{receiver.url}/{name}")
    deliver(server)
    held = show(server, name)

    resumed = call(server, "POST", f"/v1/queues/{name}/resume")
    deliver(server)

    assert (paused.status, paused.json["paused"], paused.json["burst"]) == (200, True, 2)
    assert [reason["reason"] for reason in held["waiting_for"]] == ["paused"]
    assert held["counts"]["waiting"] == 1
    assert (resumed.status, resumed.json["paused"]) == (200, False)
    assert [delivery.path for delivery in receiver.deliveries].count(f"/{name}") == 1


@pytest.mark.parametrize(("action", "paused"), [("pause", True), ("resume", False)])
def test_pause_and_resume_may_be_repeated(
    server: Server, name: str, action: str, paused: bool
) -> None:
    put(server, name)
    call(server, "POST", f"/v1/queues/{name}/{action}")

    answer = call(server, "POST", f"/v1/queues/{name}/{action}")

    assert (answer.status, answer.json["paused"]) == (200, paused)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_settings_leave_the_pause_alone(server: Server, name: str, method: str) -> None:
    put(server, name)
    call(server, "POST", f"/v1/queues/{name}/pause")

    answer = call(server, method, f"/v1/queues/{name}", {"burst": 2})

    assert (answer.status, answer.json["paused"]) == (200, True)


def test_pause_of_the_server_leaves_the_queues_own_alone(server: Server, name: str) -> None:
    put(server, name)
    paused = call(server, "POST", "/v1/pause")
    state, queue = call(server, "GET", "/").json, show(server, name)

    resumed = call(server, "POST", "/v1/resume")

    assert (paused.status, paused.json) == (200, {"paused": True})
    assert state["paused"]
    assert not queue["paused"]
    assert [reason["reason"] for reason in queue["waiting_for"]] == ["server_paused"]
    assert (resumed.status, resumed.json) == (200, {"paused": False})
    assert not call(server, "GET", "/").json["paused"]


def test_purge_deletes_waiting_tasks_alone(server: Server, receiver: Receiver, name: str) -> None:
    done = push(server, name, f"{receiver.url}/done")
    deliver(server)
    for _ in range(3):
        push(server, name, delay=60)
    other = push(server, f"{name}-other", delay=60)

    answer = call(server, "POST", f"/v1/queues/{name}/purge")

    assert (answer.status, answer.json) == (200, {"count": 3})
    assert show(server, name)["counts"] == {**COUNTS, "succeeded": 1}
    assert call(server, "GET", f"/v1/tasks/{done}").status == 200
    assert call(server, "GET", f"/v1/tasks/{other}").status == 200


def test_deleted_queue_is_gone(server: Server, name: str) -> None:
    put(server, name, burst=2)

    answer = call(server, "DELETE", f"/v1/queues/{name}")

    assert (answer.status, answer.body) == (204, b"")
    assert call(server, "GET", f"/v1/queues/{name}").status == 404
    assert put(server, name)["burst"] == 1


def test_deleted_queue_takes_its_ended_tasks_along(
    server: Server, receiver: Receiver, name: str
) -> None:
    ended = [
        push(server, name, f"{receiver.url}/done"),
        push(server, name, f"{receiver.url}/fail", retry={"max_attempts": 1}),
    ]
    deliver(server)

    answer = call(server, "DELETE", f"/v1/queues/{name}")

    assert answer.status == 204
    assert [call(server, "GET", f"/v1/tasks/{task}").status for task in ended] == [404, 404]


def test_queue_with_waiting_tasks_is_not_deleted(
    server: Server, receiver: Receiver, name: str
) -> None:
    done = push(server, name, f"{receiver.url}/done")
    deliver(server)
    push(server, name, delay=60)

    answer = call(server, "DELETE", f"/v1/queues/{name}")

    assert problem(answer) == (409, "queue-in-use", [])
    assert "1 waiting and 0 running" in answer.json["detail"]
    assert call(server, "GET", f"/v1/tasks/{done}").status == 200


def test_default_queue_is_never_deleted(server: Server) -> None:
    assert problem(call(server, "DELETE", "/v1/queues/default")) == (409, "queue-in-use", [])
