"""Progress reports of running attempts, by handlers that only have the attempt's token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.harness import Answer, Delivery, Receiver, Reply, receiving, serving
from tests.integration.test_v1_audit_log import changes
from tests.integration.test_v1_events import streaming
from tests.integration.v1 import Client, problem

API_TOKEN, READ_TOKEN = "may do everything", "may only read"
Handler = Callable[[Delivery], Reply]


class App:
    """An application with one handler, which a test puts in its place."""

    def __init__(self) -> None:
        self.handler: Handler = lambda _: 200

    def answer(self, delivery: Delivery) -> Reply:
        """Answer a delivery."""
        return self.handler(delivery)


class TokenClient(Client):
    """Shows the API token wherever a test shows no other."""

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> Answer:
        """Make a request with the API token."""
        if headers is None:
            headers = {"Authorization": f"Bearer {API_TOKEN}"}
        return super().send(method, path, body, headers)


@pytest.fixture(scope="module")
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def receiver(app: App) -> Iterator[Receiver]:
    with receiving(app.answer) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("progress") / "data"
    env = {"POUSSETACHES_API_TOKEN": API_TOKEN, "POUSSETACHES_READ_TOKEN": READ_TOKEN}
    flags = ("--test-mode", "--log-format", "json", "--base-url", receiver.url)
    with serving(folder, *flags, env=env) as server:
        yield TokenClient(server)


@pytest.fixture
def client(running: Client) -> Client:
    assert running.post("/v1/test/reset").status == 200
    return running


def run(client: Client) -> None:
    assert client.post("/v1/test/run-until-idle").status == 200


def report(client: Client, delivery: Delivery, **fields: object) -> Answer:
    """Report as a handler does."""
    path = f"/v1/tasks/{delivery.headers['poussetaches-task-id']}/progress"
    headers = {"Poussetaches-Attempt-Token": delivery.headers["poussetaches-attempt-token"]}
    return client.send("POST", path, json.dumps(fields).encode(), headers)


def test_progress_is_shown_while_the_attempt_runs_and_kept_with_it(
    client: Client, app: App
) -> None:
    seen = []

    def handler(delivery: Delivery) -> Reply:
        assert report(client, delivery, done=1, total=3).status == 204
        assert report(client, delivery, done=2.5, total=3, note="almost").status == 204
        seen.append(client.task(delivery.headers["poussetaches-task-id"]))
        return 500

    app.handler = handler
    task_id = client.push(url="/run", retry={"max_attempts": 2})
    run(client)

    [during] = seen
    assert during["state"] == "running"
    assert (during["progress"]["done"], during["progress"]["note"]) == (2.5, "almost")
    after = client.task(task_id)
    assert "progress" not in after
    assert [attempt["progress"]["total"] for attempt in after["attempts"]] == [3]
    assert after["attempts"][0]["progress"] == during["progress"]
    assert [path for _, path in changes(client) if path.endswith("/progress")] == []


def test_attempt_that_is_over_takes_no_progress(client: Client, app: App) -> None:
    deliveries = []

    def handler(delivery: Delivery) -> Reply:
        deliveries.append(delivery)
        if len(deliveries) == 2:  # of the next attempt, by the first one
            assert problem(report(client, deliveries[0], done=1))[:2] == (409, "attempt-over")
        return 500

    app.handler = handler
    task_id = client.push(url="/run", retry={"max_attempts": 2})
    run(client)
    assert client.post("/v1/test/advance", seconds=3600).status == 200

    assert len(deliveries) == 2
    assert problem(report(client, deliveries[1], done=1))[:2] == (409, "attempt-over")
    assert [attempt["progress"] for attempt in client.task(task_id)["attempts"]] == [None, None]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"Authorization": f"Bearer {API_TOKEN}"}, 401, "unauthorized"),
        ({"Poussetaches-Attempt-Token": ""}, 409, "attempt-over"),
        ({"Poussetaches-Attempt-Token": "caf\u00e9"}, 409, "attempt-over"),
        ({"Poussetaches-Attempt-Token": API_TOKEN}, 409, "attempt-over"),
    ],
)
def test_nothing_but_the_token_of_the_attempt_allows_a_report(
    client: Client, app: App, headers: dict[str, str], status: int, code: str
) -> None:
    answers = []

    def handler(delivery: Delivery) -> Reply:
        path = f"/v1/tasks/{delivery.headers['poussetaches-task-id']}/progress"
        answers.append(client.send("POST", path, b'{"done": 1}', headers))
        return 200

    app.handler = handler
    client.push(url="/run")
    run(client)

    assert [problem(answer)[:2] for answer in answers] == [(status, code)]


def test_token_of_an_attempt_allows_nothing_else(client: Client, app: App) -> None:
    answers = []

    def handler(delivery: Delivery) -> Reply:
        headers = {"Poussetaches-Attempt-Token": delivery.headers["poussetaches-attempt-token"]}
        path = f"/v1/tasks/{delivery.headers['poussetaches-task-id']}"
        answers.append(client.send("GET", path, headers=headers))
        answers.append(client.send("POST", f"{path}/cancel", headers=headers))
        return 200

    app.handler = handler
    client.push(url="/run")
    run(client)

    assert [answer.status for answer in answers] == [401, 401]


def test_wrong_token_beside_that_of_the_attempt_does_no_harm(client: Client, app: App) -> None:
    statuses = []

    def handler(delivery: Delivery) -> Reply:
        for token in (READ_TOKEN, "wrong"):
            path = f"/v1/tasks/{delivery.headers['poussetaches-task-id']}/progress"
            headers = {
                "Authorization": f"Bearer {token}",
                "Poussetaches-Attempt-Token": delivery.headers["poussetaches-attempt-token"],
            }
            statuses.append(client.send("POST", path, b'{"done": 1}', headers).status)
        return 200

    app.handler = handler
    client.push(url="/run")
    run(client)

    assert statuses == [204, 204]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "done"),
        ({"done": -1}, "done"),
        ({"done": None}, "done"),
        ({"done": "3"}, "done"),
        ({"done": 2**53 + 2}, "done"),
        ({"done": 1, "total": -0.5}, "total"),
        ({"done": 1, "note": "x" * 201}, "note"),
        ({"done": 1, "percent": 5}, "percent"),
    ],
)
def test_report_that_is_not_allowed_is_refused_by_its_field(
    client: Client, app: App, fields: dict[str, object], field: str
) -> None:
    answers = []

    def handler(delivery: Delivery) -> Reply:
        answers.append(report(client, delivery, **fields))
        return 200

    app.handler = handler
    client.push(url="/run")
    run(client)

    [answer] = answers
    status, _, fields_named = problem(answer)
    assert (status, fields_named) == (422, [field])


def test_progress_is_in_the_event_stream(client: Client, app: App) -> None:
    def handler(delivery: Delivery) -> Reply:
        report(client, delivery, done=1, total=2, note="half")
        return 200

    app.handler = handler
    with streaming(client.server, Authorization=f"Bearer {READ_TOKEN}") as stream:
        stream.begin()
        task_id = client.push(url="/run", queue="mail")
        run(client)
        told = stream.until(lambda event: event.name == "progress")[-1]

    data = told.data
    assert data.pop("at")
    assert data == {
        "id": task_id,
        "queue": "mail",
        "round": 1,
        "attempt": 1,
        "done": 1,
        "total": 2,
        "note": "half",
    }


def test_deleted_task_takes_no_progress(client: Client, app: App) -> None:
    answers = []

    def handler(delivery: Delivery) -> Reply:
        path = f"/v1/tasks/{delivery.headers['poussetaches-task-id']}"
        assert client.send("DELETE", path).status == 204
        answers.append(report(client, delivery, done=1))
        return 200

    app.handler = handler
    client.push(url="/run")
    run(client)

    assert [problem(answer)[:2] for answer in answers] == [(404, "task-not-found")]
