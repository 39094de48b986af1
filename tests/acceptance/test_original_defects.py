"""The eleven defects of the original: at least one test for each shows that it is fixed."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    PATIENCE,
    Delivery,
    Receiver,
    Server,
    receiving,
    serving,
    wait_until,
)

QUICK = {
    "POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "2",
    "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.02",
    "POUSSETACHES_ORIGINAL_JITTER": "0",
}
ONCE = {"POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "1"}


def delivered(receiver: Receiver, count: int) -> list[Delivery]:
    """Wait for a number of deliveries."""
    return wait_until(
        lambda: list(receiver.deliveries),
        lambda found: len(found) >= count,
        f"{count} deliveries",
    )


def ended(server: Server, listing: str, task_id: str) -> dict[str, Any]:
    """Wait until a task is in a listing and return it."""
    tasks = wait_until(
        lambda: server.listing(listing),
        lambda tasks: task_id in {task["id"] for task in tasks},
        f"{task_id} in {listing}",
    )
    return next(task for task in tasks if task["id"] == task_id)


def test_defect_1_schedule_continues_when_a_run_dies_and_can_be_pushed_again(
    tmp_path: Path,
) -> None:
    with receiving(lambda _: 500) as receiver, serving(tmp_path / "data", env=ONCE) as server:
        schedule = server.push(receiver.url, schedule="@every 1s")
        first = delivered(receiver, 1)[0]
        ended(server, "dead", first.task_id)

        assert server.push(receiver.url, schedule="@every 1s") == schedule
        runs = delivered(receiver, 2)
        assert runs[1].task_id != first.task_id

        server.request("DELETE", "/cron")
        count = len(receiver.deliveries)
        assert server.push(receiver.url, schedule="@every 1s") == schedule
        delivered(receiver, count + 1)
        assert server.ids("cron") == {schedule}


def test_defect_2_downtime_is_followed_by_one_run_instead_of_a_burst(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data") as server:
        server.push(receiver.url, schedule="@every 1s")
        delivered(receiver, 1)
        server.stop()
        before = len(receiver.deliveries)
        stopped_at = time.time()
        wait_until(time.time, lambda now: now > stopped_at + 2.5, "two occurrences to pass")

        started_at = time.time()
        server.start()
        delivered(receiver, before + 2)
        passed = time.time() - started_at

    runs = receiver.deliveries[before:]
    # The catch-up run, and one for each second since.
    assert len(runs) <= 1 + passed + 1
    occurrences = [
        datetime.fromisoformat(line.split("occurrence=")[1].split()[0]).timestamp()
        for line in server.logged("schedule fired")
        if runs[0].task_id in line or runs[1].task_id in line
    ]
    assert occurrences[0] > started_at - 1
    assert occurrences[1] >= occurrences[0] + 1


@pytest.mark.parametrize("status", [200, 500])
def test_defect_3_delete_cron_never_repeats_a_run_in_flight(tmp_path: Path, status: int) -> None:
    release = threading.Event()

    def answer(delivery: Delivery) -> int:
        if delivery.path == "/other":
            return 200
        release.wait(PATIENCE)
        return status

    with receiving(answer) as receiver, serving(tmp_path / "data", env=QUICK) as server:
        try:
            server.push(f"{receiver.url}/run", schedule="@every 1s")
            run = delivered(receiver, 1)[0]

            assert server.request("DELETE", "/cron").status == 200
        finally:
            release.set()
        wait_until(lambda: server.listing("waiting"), lambda tasks: tasks == [], "the run to end")
        ended(server, "success", server.push(f"{receiver.url}/other"))

    assert [found.task_id for found in receiver.deliveries if found.path == "/run"] == [
        run.task_id
    ]


def test_defect_4_broken_files_do_not_prevent_the_start(tmp_path: Path) -> None:
    waiting = tmp_path / "data" / "waiting"
    waiting.mkdir(parents=True)
    with receiving() as receiver:
        task = {"id": "a1" * 16, "url": receiver.url, "payload": "e30=", "expected": 200}
        (waiting / ("a1" * 16)).write_text(json.dumps(task))
        (waiting / "corrupt").write_bytes(b'{"id": "b2')
        (waiting / "empty").write_bytes(b"")
        (waiting / "nonsense").write_bytes(bytes(range(256)))

        with serving(tmp_path / "data") as server:
            assert delivered(receiver, 1)[0].payload == b"{}"
            ended(server, "success", "a1" * 16)

    for name in ("corrupt", "empty", "nonsense"):
        assert len(server.logged(f"broken file .*waiting/{name}")) == 1


def test_defect_5_truncated_answer_is_a_failed_attempt_and_retried(
    tmp_path: Path,
) -> None:
    answers = iter([(200, {"Content-Length": "10", "Connection": "close"})])

    with (
        receiving(lambda _: next(answers, 200)) as receiver,
        serving(tmp_path / "data", env=QUICK) as server,
    ):
        task = ended(server, "success", server.push(receiver.url))

    assert task["tries"] == 2
    assert task["last_error_status_code"] == -1
    assert [json.loads(found.body)["tries"] for found in receiver.deliveries] == [1, 2]


def test_defect_6_handlers_that_hang_do_not_stop_other_origins(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(_: Delivery) -> int:
        release.wait(PATIENCE)
        return 200

    with (
        receiving(hang) as hanging,
        receiving() as other,
        serving(tmp_path / "data", "--concurrency", "4") as server,
    ):
        try:
            hung = {server.push(hanging.url) for _ in range(2)}
            delivered(hanging, 2)

            pushed = {server.push(other.url) for _ in range(20)}

            wait_until(lambda: server.ids("success"), lambda ids: ids == pushed, "the others")
            assert server.ids("waiting") == hung
        finally:
            release.set()
        wait_until(lambda: server.ids("waiting"), lambda ids: not ids, "those that hung")


def test_defect_6_hanging_handler_times_out_and_its_task_is_retried(
    tmp_path: Path,
) -> None:
    release = threading.Event()

    def answer(delivery: Delivery) -> int:
        if json.loads(delivery.body)["tries"] == 1:
            release.wait(PATIENCE)
        return 200

    with (
        receiving(answer) as receiver,
        # Long enough for a slow machine to make the second attempt in.
        serving(tmp_path / "data", "--timeout", "2", env=QUICK) as server,
    ):
        try:
            task = ended(server, "success", server.push(receiver.url))
        finally:
            release.set()

    assert task["tries"] == 2
    assert task["last_error_status_code"] == -1
    assert base64.b64decode(task["last_error_body"]) == b"no answer within 2 s"


def test_defect_6_redirect_is_an_answer_and_not_followed(tmp_path: Path) -> None:
    statuses = (301, 302, 303, 307, 308)
    with (
        receiving(lambda found: (int(found.path[1:]), {"Location": "/200"})) as receiver,
        serving(tmp_path / "data", env=ONCE) as server,
    ):
        for status in statuses:
            failed = ended(server, "dead", server.push(f"{receiver.url}/{status}"))
            ended(server, "success", server.push(f"{receiver.url}/{status}", expected=status))

            assert failed["last_error_status_code"] == status

    assert [found.path for found in receiver.deliveries] == [
        f"/{status}" for status in statuses for _ in range(2)
    ]


def test_defect_7_bad_input_is_answered_and_the_connection_stays_open(tmp_path: Path) -> None:
    url = "http://app/"
    with serving(tmp_path / "data") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.connect()
        connection.auto_open = 0  # a connection that was dropped fails the test
        statuses = []
        for body in (
            b'{"url": ',
            json.dumps({"url": url, "schedule": "every now and then"}).encode(),
            json.dumps({"url": url, "payload": "?"}).encode(),
        ):
            connection.request("POST", "/", body)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

        assert statuses == [400, 422, 422]
        assert server.listing("waiting") == []


def test_defect_8_schedule_that_never_matches_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        for schedule in ("0 0 30 2 *", "0 0 0 30 2 *", "0 0 31 4,6,9,11 *"):
            push = json.dumps({"url": "http://app/", "schedule": schedule}).encode()

            answer = server.request("POST", "/", push)

            assert answer.status == 422
            assert [error["field"] for error in answer.json["errors"]] == ["schedule"]

        assert server.listing("cron") == []
        assert server.logged("schedule fired") == []


def test_defect_9_slow_reader_of_a_listing_delays_nothing(tmp_path: Path) -> None:
    large = b"x" * 2**20
    with receiving() as receiver, serving(tmp_path / "data") as server:
        delayed = {server.push(receiver.url, large, delay=5) for _ in range(16)}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/waiting")
        response = connection.getresponse()
        begun = response.read(1000)

        # The rest of the answer is larger than the sockets' buffers.
        task_id = server.push(receiver.url)
        ended(server, "success", task_id)

        tasks = json.loads(begun + response.read())["tasks"]
        connection.close()
    assert {task["id"] for task in tasks} == delayed


def test_defect_10_number_of_concurrent_deliveries_is_a_setting(tmp_path: Path) -> None:
    together = threading.Barrier(16)

    def answer(_: Delivery) -> int:
        # Answers only once 16 are in flight: with fewer, no answer is ever given.
        together.wait(PATIENCE)
        return 200

    with (
        receiving(answer) as receiver,
        serving(tmp_path / "data", "--concurrency", "16", "--start-paused", env=ONCE) as server,
    ):
        pushed = {server.push(receiver.url) for _ in range(64)}
        server.request("POST", "/resume")

        wait_until(lambda: server.ids("success"), lambda ids: ids == pushed, "all to succeed")

    assert len(receiver.deliveries) == 64


def test_defect_11_every_acknowledged_task_survives_a_kill(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data", "--start-paused") as server:
        plain = {server.push(receiver.url, f"{number}".encode()) for number in range(30)}
        delayed = server.push(receiver.url, delay=5)
        schedule = server.push(receiver.url, schedule="@every 24h")
        before = server.listing("waiting")

        server.kill()
        server.start()

        assert server.listing("waiting") == before
        server.request("POST", "/resume")
        wait_until(lambda: server.ids("success"), lambda ids: ids == plain, "all to succeed")
        assert server.ids("waiting") == {delayed, schedule}

        server.kill()
        server.start()

        assert server.ids("success") == plain
        assert server.ids("cron") == {schedule}
    assert sorted(int(found.payload) for found in receiver.deliveries) == list(range(30))


def test_defect_11_task_in_flight_at_a_kill_is_delivered_again(tmp_path: Path) -> None:
    release = threading.Event()

    def answer(_: Delivery) -> int:
        release.wait(PATIENCE)
        return 200

    with receiving(answer) as receiver, serving(tmp_path / "data") as server:
        try:
            task_id = server.push(receiver.url)
            delivered(receiver, 1)
            server.kill()
        finally:
            release.set()
        server.start()
        task = ended(server, "success", task_id)

    assert task["tries"] == 1
    assert [found.task_id for found in receiver.deliveries] == [task_id, task_id]
