"""Delivery and retries over real HTTP on a virtual clock, by protocol.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from poussetaches import __version__
from tests.acceptance.harness import KEY, Delivery, Receiver, Reply, receiving, serving
from tests.integration.v1 import Client

DAY = 86_400
EXACT = {"jitter": 0}


class App:
    """An application with configured answers for each path, 200 by default."""

    def __init__(self) -> None:
        self.answers: dict[str, Reply] = {}
        self._paths = map("/path-{}".format, itertools.count())

    def answer(self, delivery: Delivery) -> Reply:
        """Answer a delivery."""
        return self.answers.get(delivery.path, 200)

    def path(self, reply: Reply = 200) -> str:
        """Return a new path that gives these answers."""
        path = next(self._paths)
        self.answers[path] = reply
        return path


@pytest.fixture(scope="module")
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def receiver(app: App) -> Iterator[Receiver]:
    with receiving(app.answer) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("delivery") / "data"
    flags = ("--test-mode", "--base-url", receiver.url, "--max-attempts", "7")
    with serving(folder, *flags) as server:
        yield Client(server)


@pytest.fixture
def client(running: Client, receiver: Receiver) -> Client:
    """Return an empty server, whose deliveries are counted from now on."""
    assert running.post("/v1/test/reset").status == 200
    receiver.deliveries.clear()
    return running


def run(client: Client) -> None:
    assert client.post("/v1/test/run-until-idle").status == 200


def advance(client: Client, seconds: float) -> None:
    assert client.post("/v1/test/advance", seconds=seconds).status == 200


def now(client: Client) -> datetime:
    return datetime.fromisoformat(client.post("/v1/test/run-until-idle").json["now"])


def put_queue(client: Client, name: str, body: bytes) -> None:
    assert client.send("PUT", f"/v1/queues/{name}", body).status in (200, 201)


def end_of(client: Client, task_id: str) -> tuple[str, str | None, int]:
    task = client.task(task_id)
    return task["state"], task["reason"], task["attempt_count"]


def waits_of(client: Client, task_id: str) -> list[float]:
    """Return the seconds between attempts, including the next planned one."""
    task = client.task(task_id)
    moments = [datetime.fromisoformat(attempt["started_at"]) for attempt in task["attempts"]]
    moments += [datetime.fromisoformat(task["run_at"])] if task["state"] == "waiting" else []
    return [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments)]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS"])
def test_method_headers_and_body_are_sent_as_they_were_pushed(
    client: Client, app: App, receiver: Receiver, method: str
) -> None:
    path = app.path() + "?a=b"

    task_id = client.push(url=path, method=method, headers={"X-A": "a b"}, text="caf\u00e9")
    run(client)

    assert end_of(client, task_id) == ("succeeded", None, 1)
    [delivery] = receiver.deliveries
    assert (delivery.method, delivery.path) == (method, path)
    assert (delivery.headers["x-a"], delivery.body) == ("a b", "caf\u00e9".encode())


def test_headers_of_ours_are_added(client: Client, app: App, receiver: Receiver) -> None:
    task_id = client.push(url=app.path(), queue="mail")
    run(client)

    [delivery] = receiver.deliveries
    [attempt] = client.task(task_id)["attempts"]
    assert {name: delivery.headers[name] for name in delivery.headers if "-" in name} == {
        "poussetaches-attempt-token": delivery.headers["poussetaches-attempt-token"],
        "poussetaches-task-id": task_id,
        "poussetaches-queue": "mail",
        "poussetaches-attempt": "1",
        "poussetaches-round": "1",
        "poussetaches-request-id": attempt["request_id"],
        "poussetaches-auth-key": KEY,
        "user-agent": f"poussetaches/{__version__}",
        "content-length": "0",
    } | ({"accept-encoding": "identity"} if "accept-encoding" in delivery.headers else {})


def test_each_attempt_has_a_number_in_its_round_and_a_request_id(
    client: Client, app: App, receiver: Receiver
) -> None:
    path = app.path(500)
    task_id = client.push(url=path, retry={"max_attempts": 2})
    advance(client, 10)
    app.answers[path] = 200
    client.post(f"/v1/tasks/{task_id}/requeue")
    run(client)

    found = [delivery.headers for delivery in receiver.deliveries]
    numbers = [(one["poussetaches-round"], one["poussetaches-attempt"]) for one in found]
    assert numbers == [("1", "1"), ("1", "2"), ("2", "1")]
    assert len({one["poussetaches-request-id"] for one in found}) == 3
    assert {one["poussetaches-task-id"] for one in found} == {task_id}


BODIES: list[tuple[dict[str, object], tuple[str | None, bytes]]] = [
    ({"json": {"a": [1, None]}}, ("application/json", b'{"a": [1, null]}')),
    ({"json": False}, ("application/json", b"false")),
    ({"text": "\u00e9"}, ("text/plain; charset=utf-8", "\u00e9".encode())),
    ({"body_base64": "AP8="}, ("application/octet-stream", b"\x00\xff")),
    ({}, (None, b"")),
]


@pytest.mark.parametrize(("body", "sent"), BODIES, ids=str)
def test_body_implies_its_content_type_unless_headers_say_otherwise(
    client: Client,
    app: App,
    receiver: Receiver,
    body: dict[str, object],
    sent: tuple[str | None, bytes],
) -> None:
    client.push(url=app.path(), **body)
    run(client)
    client.push(url=app.path(), headers={"content-TYPE": "text/x-own"}, **body)
    run(client)

    plain, own = receiver.deliveries
    assert (plain.headers.get("content-type"), plain.body) == sent
    assert (own.headers["content-type"], own.body) == ("text/x-own", sent[1])


def test_trace_of_the_push_reaches_the_application(
    client: Client, app: App, receiver: Receiver
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    push = b'{"url": "%s"}' % app.path().encode()
    client.send("POST", "/v1/tasks", push, {"traceparent": parent})
    run(client)

    assert receiver.deliveries[0].headers["traceparent"] == parent


def test_path_is_joined_to_the_base_url_at_delivery(
    client: Client, app: App, receiver: Receiver
) -> None:
    task_id = client.push(url=app.path(), queue="moved", delay=60)
    with receiving() as elsewhere:
        put_queue(client, "moved", b'{"base_url": "%s/new/"}' % elsewhere.url.encode())
        advance(client, 60)

        assert [one.path for one in elsewhere.deliveries] == ["/new" + client.task(task_id)["url"]]
    assert receiver.deliveries == []


@pytest.mark.parametrize(
    ("expected", "status", "state"),
    [
        ([200, 204], 204, "succeeded"),
        ([200, 204], 201, "waiting"),
        (["2xx"], 299, "succeeded"),
        (["4xx", 503], 404, "succeeded"),
        (["4xx", 503], 503, "succeeded"),
        (["4xx", 503], 200, "waiting"),
    ],
)
def test_expected_statuses_are_success_and_no_others(
    client: Client, app: App, expected: list[object], status: int, state: str
) -> None:
    task_id = client.push(url=app.path(status), expected=expected)
    run(client)

    assert client.task(task_id)["state"] == state


def test_receiver_may_forbid_another_attempt(client: Client, app: App) -> None:
    task_id = client.push(url=app.path((500, {"Poussetaches-Retry": "no"})))
    run(client)

    assert end_of(client, task_id) == ("dead", "refused", 1)


@pytest.mark.parametrize("rule", [410, "4xx"])
def test_statuses_of_dead_on_end_a_task_at_once(client: Client, app: App, rule: object) -> None:
    path = app.path(500)
    task_id = client.push(url=path, retry={"dead_on": [rule]})
    run(client)
    assert end_of(client, task_id) == ("waiting", None, 1)
    app.answers[path] = 410

    advance(client, 60)

    assert end_of(client, task_id) == ("dead", "refused", 2)


def test_task_older_than_max_age_is_not_tried_again(client: Client, app: App) -> None:
    retry = {"max_age": 20, "max_attempts": 100, **EXACT}

    task_id = client.push(url=app.path(500), delay=3600, retry=retry)
    advance(client, 3600 + DAY)

    # At 0, 1, 5 and 21 seconds after it was due.
    assert end_of(client, task_id) == ("dead", "too_old", 4)


def test_waits_are_those_of_the_policy(client: Client, app: App) -> None:
    task_id = client.push(url=app.path(500), retry={"max_attempts": 12, **EXACT})
    advance(client, 2 * DAY)

    waits = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 21_600, 21_600, 21_600]
    assert waits_of(client, task_id) == waits
    assert end_of(client, task_id) == ("dead", "exhausted", 12)


def test_waits_are_spread_by_the_jitter(client: Client, app: App) -> None:
    ids = [client.push(url=app.path(500), retry={"min_backoff": 100}) for _ in range(30)]
    run(client)

    waits = [wait for task_id in ids for wait in waits_of(client, task_id)]
    assert all(70 <= wait <= 130 for wait in waits)
    assert len({round(wait) for wait in waits}) > 10


def test_policy_is_the_task_s_then_the_queue_s_then_the_server_s(client: Client, app: App) -> None:
    put_queue(client, "slow", b'{"retry": {"min_backoff": 10, "multiplier": 2, "jitter": 0}}')

    task_id = client.push(url=app.path(500), queue="slow", retry={"multiplier": 3})
    advance(client, 10 * DAY)

    assert client.task(task_id)["retry"] == {"multiplier": 3.0}
    assert waits_of(client, task_id) == [10, 30, 90, 270, 810, 2430]
    assert end_of(client, task_id) == ("dead", "exhausted", 7)


def test_policy_of_the_queue_is_read_at_each_attempt(client: Client, app: App) -> None:
    task_id = client.push(url=app.path(500), queue="changing", retry=EXACT)
    run(client)
    put_queue(client, "changing", b'{"retry": {"min_backoff": 50}}')
    advance(client, 1)
    put_queue(client, "changing", b'{"retry": {"max_attempts": 3}}')
    advance(client, DAY)

    assert waits_of(client, task_id) == [1, 200]
    assert end_of(client, task_id) == ("dead", "exhausted", 3)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_sets_the_earliest_attempt(
    client: Client, app: App, status: int
) -> None:
    task_id = client.push(url=app.path((status, {"Retry-After": "90"})), retry=EXACT)
    run(client)

    assert waits_of(client, task_id) == [90]


def test_retry_after_may_be_a_date(client: Client, app: App) -> None:
    date = now(client).replace(microsecond=0) + timedelta(minutes=5)
    headers = {"Retry-After": format_datetime(date, usegmt=True)}

    task_id = client.push(url=app.path((503, headers)), retry=EXACT)
    run(client)

    assert datetime.fromisoformat(client.task(task_id)["run_at"]) == date


@pytest.mark.parametrize(
    ("retry_after", "wait"), [("0", 1), ("tomorrow", 1), ("-5", 1), ("7200", 3600)]
)
def test_retry_after_is_neither_less_than_the_backoff_nor_more_than_the_policy_allows(
    client: Client, app: App, retry_after: str, wait: float
) -> None:
    task_id = client.push(url=app.path((503, {"Retry-After": retry_after})), retry=EXACT)
    run(client)

    assert waits_of(client, task_id) == [wait]


def test_max_retry_after_is_the_policy_s(client: Client, app: App) -> None:
    answer = (503, {"Retry-After": "7200"})
    task_id = client.push(url=app.path(answer), retry={"max_retry_after": 30, **EXACT})
    run(client)

    assert waits_of(client, task_id) == [30]


def test_429_makes_the_lane_wait_and_no_other_queue(client: Client, app: App) -> None:
    put_queue(client, "busy", b'{"concurrency": 1}')
    first = client.push(url=app.path((429, {"Retry-After": "60"})), queue="busy")
    second = client.push(url=app.path(), queue="busy")
    other = client.push(url=app.path(), queue="idle")
    run(client)

    [reason] = client.task(second)["waiting_for"]
    assert reason["reason"] == "asked_to_wait"
    assert datetime.fromisoformat(reason["until"]) == now(client) + timedelta(seconds=60)
    assert [end_of(client, one)[0] for one in (first, other)] == ["waiting", "succeeded"]
    advance(client, 59.9)
    assert client.task(second)["state"] == "waiting"
    advance(client, 0.2)
    assert client.task(second)["state"] == "succeeded"


def test_no_attempt_starts_after_expires_at(client: Client, app: App) -> None:
    expires_at = (now(client) + timedelta(seconds=3)).isoformat()
    task_id = client.push(url=app.path(500), expires_at=expires_at, retry=EXACT)
    advance(client, 60)

    assert end_of(client, task_id) == ("dead", "expired", 2)


def test_task_cancelled_while_it_runs_is_not_tried_again(client: Client) -> None:
    def answer(delivery: Delivery) -> int:
        assert client.post(f"/v1/tasks/{delivery.task_id}/cancel").json["state"] == "running"
        return 500

    with receiving(answer) as handler:
        task_id = client.push(url=handler.url)
        advance(client, DAY)

    assert end_of(client, task_id) == ("dead", "cancelled", 1)
    assert client.task(task_id)["last_status"] == 500


def test_requeued_task_counts_its_attempts_and_its_age_from_zero(client: Client, app: App) -> None:
    path = app.path()
    task_id = client.push(url=path, retry={"max_age": 10, **EXACT})
    advance(client, 3600)
    assert end_of(client, task_id) == ("succeeded", None, 1)
    app.answers[path] = 500

    assert client.post(f"/v1/tasks/{task_id}/requeue").json["attempt_count"] == 0
    advance(client, 3600)

    # At 0, 1, 5 and 21 seconds after it was requeued.
    assert end_of(client, task_id) == ("dead", "too_old", 4)
    rounds = [(one["round"], one["number"]) for one in client.task(task_id)["attempts"]]
    assert rounds == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]


def test_run_makes_a_task_due_past_its_backoff(client: Client, app: App) -> None:
    path = app.path(500)
    task_id = client.push(url=path, retry={"min_backoff": 3600})
    run(client)
    app.answers[path] = 200

    client.post(f"/v1/tasks/{task_id}/run")
    run(client)

    assert end_of(client, task_id) == ("succeeded", None, 2)


def test_of_a_hundred_attempts_the_first_and_the_last_fifty_are_kept(
    client: Client, app: App
) -> None:
    retry = {"max_attempts": 130, "min_backoff": 0}
    task_id = client.push(url=app.path(500), retry=retry)
    run(client)

    attempts: list[Any] = client.task(task_id)["attempts"]
    assert end_of(client, task_id) == ("dead", "exhausted", 130)
    assert [one["number"] for one in attempts] == [*range(1, 51), *range(81, 131)]


@pytest.mark.parametrize(("size", "truncated"), [(65_536, False), (65_537, True)])
def test_of_the_last_answer_64_kib_are_kept_and_of_earlier_ones_2(
    client: Client, app: App, size: int, truncated: bool
) -> None:
    task_id = client.push(url=app.path((500, {}, b"a" * size)), retry={"max_attempts": 2})
    run(client)
    [only] = client.task(task_id)["attempts"]
    advance(client, 10)

    earlier, last = client.task(task_id)["attempts"]

    kept = (len(only["response_body"]), only["response_truncated"])
    assert kept == (65_536, truncated)
    assert (len(last["response_body"]), last["response_truncated"]) == kept
    assert (len(earlier["response_body"]), earlier["response_truncated"]) == (2048, True)


def test_answer_that_is_no_text_is_shown_with_replacements(client: Client, app: App) -> None:
    task_id = client.push(url=app.path((500, {}, b"a\xffb\x00")))
    run(client)

    task = client.task(task_id)
    assert task["attempts"][0]["response_body"] == "a\ufffdb\x00"
    assert task["last_status"] == 500


def test_key_of_a_pruned_task_is_in_use_until_it_expires(client: Client, app: App) -> None:
    put_queue(client, "short", b'{"keep_succeeded": {"count": 0}}')
    push = {"url": app.path(), "queue": "short", "key": "once", "key_ttl": 600}
    task_id = client.push(**push)
    advance(client, 300)
    assert client.get(f"/v1/tasks/{task_id}").status == 404

    again = client.post("/v1/tasks", **push)
    advance(client, 301)
    anew = client.post("/v1/tasks", **push)

    assert (again.status, again.json) == (200, {"id": task_id, "state": "pruned"})
    assert anew.status == 201
    assert anew.json["id"] != task_id


def test_key_is_in_use_for_a_day_by_default(client: Client, app: App) -> None:
    push = {"url": app.path(), "key": "day"}
    task_id = client.push(**push)
    advance(client, DAY - 1)

    known = client.post("/v1/tasks", **push)
    advance(client, 2)

    assert (known.status, known.json["id"]) == (200, task_id)
    assert client.post("/v1/tasks", **push).status == 201


def test_task_that_ended_does_not_stand_in_the_way_of_a_unique_one(
    client: Client, app: App
) -> None:
    push = {"url": app.path(), "unique": "one"}
    first = client.push(**push)
    run(client)

    assert client.push(**push) != first


def test_task_that_runs_does_not_stand_in_the_way_of_a_unique_one(
    client: Client,
) -> None:
    pushed: list[str] = []

    def answer(delivery: Delivery) -> int:
        if delivery.path == "/first":
            pushed.append(client.push(url=f"{handler.url}/second", unique="self"))
        return 200

    with receiving(answer) as handler:
        first = client.push(url=f"{handler.url}/first", unique="self")
        run(client)

    assert [client.task(one)["state"] for one in (first, *pushed)] == ["succeeded"] * 2
    assert pushed != [first]


def test_burst_is_what_an_idle_queue_saves_up(client: Client, app: App) -> None:
    put_queue(client, "bursts", b'{"rate": 0.1, "burst": 3}')
    ids = [client.push(url=app.path(), queue="bursts") for _ in range(6)]

    def done() -> int:
        return [client.task(task_id)["state"] for task_id in ids].count("succeeded")

    run(client)
    at_once = done()
    advance(client, 10)
    after_a_token = done()
    [reason] = client.task(ids[-1])["waiting_for"][:1]
    assert (at_once, after_a_token, reason["reason"]) == (3, 4, "rate")
    assert datetime.fromisoformat(reason["until"]) == now(client) + timedelta(seconds=10)


def test_queue_without_settings_is_deleted_after_a_day_without_tasks(
    client: Client, app: App
) -> None:
    put_queue(client, "configured", b"{}")
    task_id = client.push(url=app.path(), queue="made", delay=60)
    client.send("DELETE", f"/v1/tasks/{task_id}")
    advance(client, DAY - 120)

    def names() -> set[str]:
        return {queue["name"] for queue in client.get("/v1/queues").json["queues"]}

    before = names()
    advance(client, 7200)  # when it was last used is known to the hour

    assert before == {"default", "configured", "made"}
    assert names() == {"default", "configured"}
    assert client.push(url=app.path(), queue="made")
