"""The tasks of /v1 one by one, over real HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from tests.acceptance.harness import PATIENCE, Delivery, Receiver, serving, wait_until
from tests.integration.v1 import URL, Client, problem

MIB = 1024 * 1024
FIELDS = {
    *("id", "queue", "state", "reason", "url", "method", "headers", "priority", "expected"),
    *("timeout", "retry", "key", "unique", "labels", "on_success", "on_dead", "schedule"),
    *("created_at", "run_at"),
    *("expires_at", "ended_at", "round", "attempt_count", "last_status", "last_error"),
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNKNOWN = "0" * 32


class App:
    """An application that answers by path; /hang waits until it is released."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.receiver = Receiver(self._answer)
        self.url = self.receiver.url

    def _answer(self, delivery: Delivery) -> int:
        if delivery.path == "/hang":
            self.go_on.wait(PATIENCE)
        return 500 if delivery.path == "/fail" else 200


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    app = App()
    yield app
    app.go_on.set()
    app.receiver.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that delivers."""
    folder = tmp_path_factory.mktemp("live") / "data"
    with serving(folder, "--concurrency", "50", env={"POUSSETACHES_BASE_URL": ""}) as server:
        yield Client(server)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A paused server, on which pushed tasks stay unchanged."""
    folder = tmp_path_factory.mktemp("paused") / "data"
    with serving(folder, "--start-paused", "--secret-header", "X-Api-Key") as server:
        yield Client(server)


def test_push_answers_the_task_and_where_it_is(client: Client) -> None:
    answer = client.post("/v1/tasks", url=URL, json={"n": 1})

    task = answer.json
    assert answer.status == 201
    assert set(task) == FIELDS | {"json"}
    assert task["json"] == {"n": 1}
    assert task["state"] == "waiting"
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert answer.headers["poussetaches-task-id"] == task["id"]
    assert "poussetaches-existing" not in answer.headers
    shown = client.get(answer.headers["location"]).json
    assert {name: shown[name] for name in task} == task


def test_push_stores_every_field(client: Client) -> None:
    said = {
        "url": URL + "?a=b",
        "method": "PUT",
        "headers": {"X-A": "a"},
        "text": "caf\u00e9",
        "queue": "mail",
        "run_at": "2030-01-01T00:00:00.000000Z",
        "priority": -5,
        "expected": [204, "3xx"],
        "timeout": 9.5,
        "retry": {"max_attempts": 3, "dead_on": [404]},
        "key": "everything",
        "unique": "everything",
        "expires_at": "2031-01-01T00:00:00.000000Z",
        "labels": {"tenant": "a"},
        "on_success": "http://app.test/done",
        "on_dead": "",
    }

    task = client.post("/v1/tasks", **said).json

    assert {name: task[name] for name in said} == said


def test_delay_counts_from_the_push(client: Client) -> None:
    task = client.task(client.push(delay=90.5))

    created, due = (datetime.fromisoformat(task[name]) for name in ("created_at", "run_at"))
    assert (due - created).total_seconds() == 90.5


def test_body_is_read_as_json_regardless_of_its_content_type(client: Client) -> None:
    body = json.dumps({"url": URL}).encode()
    types = ["application/x-www-form-urlencoded", "text/plain", "image/png"]

    answers = [client.send("POST", "/v1/tasks", body, {"Content-Type": one}) for one in types]

    assert [answer.status for answer in answers] == [201, 201, 201]


def test_trace_of_the_push_is_passed_on(client: Client) -> None:
    body = json.dumps({"url": URL, "headers": {"X-A": "a"}}).encode()

    answer = client.send("POST", "/v1/tasks", body, {"traceparent": PARENT, "tracestate": "a=1"})

    assert answer.json["headers"] == {"X-A": "a", "traceparent": PARENT, "tracestate": "a=1"}


def test_secret_headers_are_hidden_and_survive_a_patch(app: App, live: Client) -> None:
    headers = {"Authorization": "Bearer secret", "X-A": "a"}
    task = live.post("/v1/tasks", url=app.url + "/secret", headers=headers, delay=600).json
    path = f"/v1/tasks/{task['id']}"

    patched = live.patch(path, headers={**task["headers"], "X-A": "b"})
    live.post(path + "/run")

    assert task["headers"]["Authorization"] == "***"
    assert patched.json["headers"] == {"Authorization": "***", "X-A": "b"}
    live.task(task["id"], "?wait=30")
    [delivery] = [one for one in app.receiver.deliveries if one.path == "/secret"]
    assert (delivery.headers["authorization"], delivery.headers["x-a"]) == ("Bearer secret", "b")


def test_headers_of_the_setting_secret_header_are_hidden(client: Client) -> None:
    task = client.task(client.push(headers={"x-api-key": "secret", "Cookie": "secret"}))

    assert task["headers"] == {"x-api-key": "***", "Cookie": "***"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad-json", [])),
        (b"{", (400, "bad-json", [])),
        (b'{"url": "http://a", "text": "\\ud800"}', (400, "bad-json", [])),
        (b'{"url": "http://a", "json": "\xff"}', (400, "bad-json", [])),
        (b'{"url": "http://a", "json": ' + b"[" * 5000, (400, "bad-json", [])),
        (b"[]", (422, "invalid-task", [""])),
        (b"{}", (422, "invalid-task", ["url"])),
        (b'{"url": "http://a", "color": "red"}', (422, "invalid-task", ["color"])),
        (b'{"url": "http://a", "timeout": 0}', (422, "invalid-task", ["timeout"])),
        (
            b'{"url": "http://a", "headers": {"Host": "b"}}',
            (422, "invalid-task", ["headers.Host"]),
        ),
        (b'{"url": "/path"}', (422, "invalid-task", ["url"])),
        (b'{"url": "http://a", "on_dead": "/path"}', (422, "invalid-task", ["on_dead"])),
        (b'{"url": "http://a", "text": "%s"}' % (b"a" * (MIB + 1)), (413, "too-large", ["text"])),
        (b'{"url": "http://a", "text": "%s"}' % (b"a" * 2 * MIB), (413, "too-large", [])),
    ],
    ids=lambda value: str(value)[:50],
)
def test_push_that_is_not_allowed_says_what_is_wrong(
    client: Client, body: bytes, expected: tuple[int, str, list[str]]
) -> None:
    answer = client.send("POST", "/v1/tasks", body)

    status, code, fields = problem(answer)
    assert (status, code, [field for field in fields if field]) == (
        *expected[:2],
        [field for field in expected[2] if field],
    )


def test_body_of_a_mebibyte_is_taken(client: Client) -> None:
    payload = base64.b64encode(bytes(MIB)).decode()

    assert client.post("/v1/tasks", url=URL, body_base64=payload).status == 201


def test_key_makes_one_task_of_many_pushes(client: Client) -> None:
    first = client.post("/v1/tasks", url=URL, key="one", json=1)

    again = client.post("/v1/tasks", url=URL, key="one", json=1, priority=5)

    assert again.status == 200
    assert again.headers["poussetaches-existing"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json == first.json


@pytest.mark.parametrize("other", [{"json": 2}, {"method": "PUT"}, {"url": URL + "/b"}], ids=str)
def test_key_of_another_push_is_a_conflict(client: Client, other: dict[str, object]) -> None:
    client.post("/v1/tasks", url=URL, key="two", json=1)

    answer = client.post("/v1/tasks", **{"url": URL, "key": "two", "json": 1, **other})

    assert problem(answer)[:2] == (409, "key-conflict")


def test_deleting_a_task_frees_its_key(client: Client) -> None:
    task_id = client.push(key="three", json=1)
    client.send("DELETE", f"/v1/tasks/{task_id}")

    again = client.post("/v1/tasks", url=URL, key="three", json=2)

    assert again.status == 201
    assert "poussetaches-existing" not in again.headers


def test_unique_keeps_or_replaces_the_task_that_waits(client: Client) -> None:
    first = client.push(unique="one", json="first")

    kept = client.post("/v1/tasks", url=URL, unique="one", json="second")
    replaced = client.post(
        "/v1/tasks", url=URL, unique="one", json="third", delay=60, on_conflict="replace"
    )

    assert (kept.status, kept.json["id"], kept.json["json"]) == (200, first, "first")
    assert (replaced.status, replaced.json["id"], replaced.json["json"]) == (200, first, "third")
    assert replaced.json["run_at"] > kept.json["run_at"]


def test_task_shows_its_attempts(app: App, live: Client) -> None:
    task_id = live.push(url=app.url + "/fail", retry={"max_attempts": 1})

    task = live.task(task_id, "?wait=30")

    assert set(task) == FIELDS | {"attempts"}
    assert (task["state"], task["reason"], task["last_status"]) == ("dead", "exhausted", 500)
    [attempt] = task["attempts"]
    assert set(attempt) == {
        *("round", "number", "request_id", "started_at", "duration", "status", "error"),
        *("cause", "response_body", "response_truncated", "auth_key", "progress", "node"),
    }
    assert (attempt["round"], attempt["number"], attempt["status"]) == (1, 1, 500)
    assert (attempt["auth_key"], attempt["node"]) == ("sent", None)


def test_wait_answers_when_the_task_has_ended(app: App, live: Client) -> None:
    task_id = live.push(url=app.url + "/ok", delay=0.5)

    assert live.task(task_id)["state"] == "waiting"
    assert live.task(task_id, "?wait=30")["state"] == "succeeded"


def test_wait_of_a_task_that_is_deleted_meanwhile_finds_nothing(client: Client) -> None:
    task_id = client.push()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.get, f"/v1/tasks/{task_id}?wait=60")
        client.get(f"/v1/tasks/{task_id}?wait=0.2")  # by now the other waits

        client.send("DELETE", f"/v1/tasks/{task_id}")

        assert problem(waiting.result())[:2] == (404, "task-not-found")


def test_wait_ends_after_its_time(client: Client) -> None:
    task_id = client.push()
    begun = time.monotonic()

    task = client.task(task_id, "?wait=0.3")

    assert task["state"] == "waiting"
    assert time.monotonic() - begun >= 0.3


def test_wait_holds_up_neither_the_server_s_stop_nor_others(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused") as server, ThreadPoolExecutor() as threads:
        client = Client(server)
        task_id = client.push()
        waiting = threads.submit(client.task, task_id, "?wait=60")
        client.task(task_id, "?wait=0.2")  # by now the other waits
        begun = time.monotonic()

        assert server.stop() == 0

        assert waiting.result()["state"] == "waiting"
        assert time.monotonic() - begun < 4


def test_client_that_hangs_up_while_it_waits_is_forgotten(client: Client) -> None:
    task_id = client.push()
    with socket.create_connection(("127.0.0.1", client.server.port)) as connection:
        request = f"GET /v1/tasks/{task_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request.encode())

    assert client.task(task_id)["state"] == "waiting"


@pytest.mark.parametrize(
    "query", ["wait=61", "wait=-1", "wait=long", "wait=1&wait=2", "color=red"]
)
def test_query_that_is_not_known_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/v1/tasks/{client.push()}?{query}")

    assert problem(answer) == (422, "invalid-query", [query.partition("=")[0]])


def test_task_says_what_it_waits_for(client: Client) -> None:
    due, delayed = client.push(queue="reasons"), client.push(queue="reasons", delay=60)
    behind = client.push(queue="reasons", priority=-1)

    def reasons(task_id: str) -> list[str]:
        return [one["reason"] for one in client.task(task_id)["waiting_for"]]

    assert reasons(due) == ["server_paused"]
    assert "not_due" in reasons(delayed)
    assert "behind" not in reasons(delayed)
    assert reasons(behind) == ["server_paused", "behind"]
    [last] = client.task(behind)["waiting_for"][-1:]
    assert (last["count"], last["until"]) == (1, None)


def test_patch_changes_what_it_names(client: Client) -> None:
    task_id = client.push(json={"a": 1, "b": 2}, headers={"X-A": "a"}, labels={"a": "1"})
    path = f"/v1/tasks/{task_id}"

    answer = client.patch(
        path, json={"a": None, "c": 3}, labels={"b": "2"}, retry={"max_attempts": 2}, priority=9
    )

    assert answer.status == 200
    task = answer.json
    assert (task["json"], task["labels"]) == ({"b": 2, "c": 3}, {"a": "1", "b": "2"})
    assert (task["retry"], task["priority"]) == ({"max_attempts": 2}, 9)
    assert {name: client.task(task_id)[name] for name in task} == task


def test_patch_of_a_dead_task_leaves_it_dead(client: Client) -> None:
    task_id = client.cancelled()

    answer = client.patch(f"/v1/tasks/{task_id}", url=URL + "/fixed")

    assert (answer.status, answer.json["state"]) == (200, "dead")
    assert answer.json["url"] == URL + "/fixed"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (b"", (400, "bad-json", [])),
        (b"{", (400, "bad-json", [])),
        (b"[]", (422, "invalid-task", [])),
        (b'{"queue": "mail"}', (422, "invalid-task", ["queue"])),
        (b'{"color": "red"}', (422, "invalid-task", ["color"])),
        (b'{"color": null}', (422, "invalid-task", ["color"])),
        (b'{"retry": {"patience": null}}', (422, "invalid-task", ["retry.patience"])),
        (b'{"url": null}', (422, "invalid-task", ["url"])),
        (b'{"url": "/path"}', (422, "invalid-task", ["url"])),
        (b'{"run_at": "2099-01-01T00:00:00Z"}', (422, "invalid-task", ["run_at"])),
        (b'{"text": "%s"}' % (b"a" * (MIB + 1)), (413, "too-large", ["text"])),
    ],
    ids=lambda value: str(value)[:50],
)
def test_patch_that_is_not_allowed_changes_nothing(
    client: Client, patch: bytes, expected: tuple[int, str, list[str]]
) -> None:
    task_id = client.push()
    before = client.task(task_id)

    answer = client.send("PATCH", f"/v1/tasks/{task_id}", patch)

    status, code, fields = problem(answer)
    assert (status, code, [field for field in fields if field]) == expected
    assert client.task(task_id) == before


def test_delete_takes_a_task_in_any_state(client: Client, live: Client, app: App) -> None:
    waiting, dead = client.push(), client.cancelled()
    succeeded = live.push(url=app.url + "/ok")
    live.task(succeeded, "?wait=30")
    running = live.push(url=app.url + "/hang")
    wait_until(lambda: live.task(running)["state"], lambda state: state == "running", "its start")

    for one, task_id in ((client, waiting), (client, dead), (live, succeeded), (live, running)):
        answer = one.send("DELETE", f"/v1/tasks/{task_id}")

        assert (answer.status, answer.body) == (204, b"")
        assert problem(one.get(f"/v1/tasks/{task_id}"))[:2] == (404, "task-not-found")
        assert one.send("DELETE", f"/v1/tasks/{task_id}").status == 404


def test_run_sends_a_task_past_its_delay_and_the_queue_s_pause(app: App, live: Client) -> None:
    live.push(url=app.url + "/ok", queue="stopped")
    assert live.post("/v1/queues/stopped/pause").status == 200
    task_id = live.push(url=app.url + "/ok", queue="stopped", delay=3600)

    answer = live.post(f"/v1/tasks/{task_id}/run")

    assert answer.status == 200
    assert live.task(task_id, "?wait=30")["state"] == "succeeded"


def test_run_may_carry_a_patch(app: App, live: Client) -> None:
    task_id = live.push(url=app.url + "/fail", delay=3600)

    answer = live.post(f"/v1/tasks/{task_id}/run", url=app.url + "/ok")

    assert answer.json["url"] == app.url + "/ok"
    assert live.task(task_id, "?wait=30")["state"] == "succeeded"


def test_requeue_fixes_and_sends_again_in_one_call(app: App, live: Client) -> None:
    task_id = live.push(url=app.url + "/fail", retry={"max_attempts": 1})
    live.task(task_id, "?wait=30")

    answer = live.post(f"/v1/tasks/{task_id}/requeue", url=app.url + "/ok")

    assert (answer.status, answer.json["round"], answer.json["attempt_count"]) == (200, 2, 0)
    task = live.task(task_id, "?wait=30")
    assert task["state"] == "succeeded"
    assert [(one["round"], one["number"], one["status"]) for one in task["attempts"]] == [
        (1, 1, 500),
        (2, 1, 200),
    ]


def test_requeue_is_due_now_unless_its_patch_has_a_time(client: Client) -> None:
    task_id = client.cancelled(delay=3600, expires_at="2031-01-01T00:00:00Z")
    before = client.task(task_id)

    task = client.post(f"/v1/tasks/{task_id}/requeue").json

    assert (task["state"], task["reason"], task["ended_at"]) == ("waiting", None, None)
    assert task["expires_at"] is None
    assert task["run_at"] < before["run_at"]
    client.post(f"/v1/tasks/{task_id}/cancel")
    later = client.post(f"/v1/tasks/{task_id}/requeue", run_at="2030-01-01T00:00:00Z").json
    assert (later["run_at"], later["round"]) == ("2030-01-01T00:00:00.000000Z", 3)


def test_cancel_ends_a_task_that_waits(client: Client) -> None:
    answer = client.post(f"/v1/tasks/{client.push()}/cancel")

    task = answer.json
    assert (answer.status, task["state"], task["reason"]) == (200, "dead", "cancelled")
    assert task["ended_at"] is not None


@pytest.mark.parametrize(
    ("action", "state"),
    [("run", "dead"), ("requeue", "waiting"), ("cancel", "dead")],
)
def test_state_that_does_not_allow_it_is_a_conflict(
    client: Client, action: str, state: str
) -> None:
    task_id = client.push() if state == "waiting" else client.cancelled()

    answer = client.post(f"/v1/tasks/{task_id}/{action}")

    assert problem(answer)[:2] == (409, "wrong-state")
    assert state in answer.json["detail"]


def test_running_task_can_be_cancelled_and_not_changed(app: App, live: Client) -> None:
    task_id = live.push(url=app.url + "/hang")
    path = f"/v1/tasks/{task_id}"
    wait_until(lambda: live.task(task_id)["state"], lambda state: state == "running", "its start")

    assert problem(live.patch(path, priority=1))[:2] == (409, "wrong-state")
    assert problem(live.post(path + "/run"))[:2] == (409, "wrong-state")
    cancelled = live.post(path + "/cancel")

    assert (cancelled.status, cancelled.json["state"]) == (200, "running")
    app.go_on.set()
    assert live.task(task_id, "?wait=30")["state"] == "succeeded"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/run"),
        ("POST", "/requeue"),
        ("POST", "/cancel"),
    ],
)
def test_task_that_there_is_not_is_not_found(client: Client, method: str, path: str) -> None:
    body = None if method in ("GET", "DELETE") else b"{}"

    answer = client.send(method, f"/v1/tasks/{UNKNOWN}{path}", body)

    assert problem(answer)[:2] == (404, "task-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/tasks", "GET, HEAD, POST"),
        ("POST", f"/v1/tasks/{UNKNOWN}", "DELETE, GET, HEAD, PATCH"),
        ("GET", f"/v1/tasks/{UNKNOWN}/run", "POST"),
        ("POST", "/v1/failures", "GET, HEAD"),
    ],
)
def test_method_that_a_path_has_not_is_answered_with_those_it_has(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = client.send(method, path, b"{}")

    assert problem(answer)[:2] == (405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_odd_ids_are_not_found(client: Client) -> None:
    for task_id in ("%ff", "a%00b", "%F0%9F%92%A9", "a" * 3000):
        assert client.get(f"/v1/tasks/{task_id}").status == 404


def test_path_is_joined_to_the_base_url_of_its_queue(app: App, live: Client) -> None:
    settings = json.dumps({"base_url": app.url + "/based"}).encode()
    assert live.send("PUT", "/v1/queues/based", settings).status == 201

    task_id = live.push(url="/here?a=b", queue="based")

    assert live.task(task_id, "?wait=30")["url"] == "/here?a=b"
    assert "/based/here?a=b" in [delivery.path for delivery in app.receiver.deliveries]


def test_payload_of_the_original_s_route_is_shown_in_base64(client: Client) -> None:
    task_id = client.server.push(URL, payload=b'{"a":1}')

    task = client.task(task_id)

    assert task["body_base64"] == base64.b64encode(b'{"a":1}').decode()
    assert "json" not in task


def test_push_is_refused_where_only_declared_queues_take_tasks(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused", "--queues", "declared") as server:
        client = Client(server)
        assert client.send("PUT", "/v1/queues/mail", b"{}").status == 201

        refused = client.post("/v1/tasks", url=URL, queue="post")
        batch = client.post("/v1/tasks/batch", tasks=[{"url": URL, "queue": "post"}])
        run = {"cron": "@daily", "task": {"url": URL, "queue": "post"}}
        schedule = client.send("PUT", "/v1/schedules/daily", json.dumps(run).encode())

        assert problem(refused) == (422, "invalid-task", ["queue"])
        assert problem(batch) == (422, "invalid-task", ["tasks[0].queue"])
        assert problem(schedule) == (422, "invalid-schedule", ["task.queue"])
        assert client.post("/v1/tasks", url=URL, queue="mail").status == 201


def test_connection_survives_refusals(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=PATIENCE)
    connection.connect()
    connection.auto_open = 0
    statuses = []
    for body in (b"{", b"{}", b"a" * (3 * MIB), json.dumps({"url": URL}).encode()):
        connection.request("POST", "/v1/tasks", body)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()

    assert statuses == [400, 422, 413, 201]


def test_moment_outside_the_calendar_is_shown_at_its_edge(client: Client) -> None:
    task_id = client.push(expires_at="0001-01-01T00:00:00+23:59")

    assert client.task(task_id)["expires_at"] == "0001-01-01T00:00:00.000000Z"
    [listed] = client.get(f"/v1/tasks?ids={task_id}").json["tasks"]
    assert listed["expires_at"] == "0001-01-01T00:00:00.000000Z"
