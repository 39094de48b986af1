"""Data folders that cannot be written to, are missing, or were replaced, with real files."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.disks import mounted, read_only, unable_to_write
from tests.acceptance.harness import (
    CLOSED_PORT,
    Answer,
    Delivery,
    Server,
    ended,
    receiving,
    wait_until,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    yield server
    server.close()


def push(server: Server, url: str = CLOSED_PORT, **fields: object) -> Answer:
    return server.request("POST", "/v1/tasks", json.dumps({"url": url, **fields}).encode())


def pushed(server: Server, url: str = CLOSED_PORT, **fields: object) -> str:
    answer = push(server, url, **fields)
    assert answer.status == 201, answer
    id: str = answer.json["id"]
    return id


def wait_for_recovery(server: Server) -> str:
    """Wait until a push is accepted; return its id."""
    answer = wait_until(
        lambda: push(server, delay=3600), lambda answer: answer.status == 201, "recovery"
    )
    id: str = answer.json["id"]
    return id


def is_unavailable(answer: Answer) -> bool:
    code: str = answer.json["type"]
    return (answer.status, code) == (503, "urn:poussetaches:problem:store-unavailable")


def test_failing_device_stops_pushes_and_attempts_and_loses_nothing(
    server: Server,
) -> None:
    opened = threading.Event()

    def answer(delivery: Delivery) -> int:
        opened.wait()
        return 200

    with receiving(answer) as receiver:
        server.start()
        held = pushed(server, receiver.url)
        known = pushed(server, receiver.url, delay=1)
        wait_until(lambda: len(receiver.deliveries), bool, "an attempt to be on the wire")
        with unable_to_write(server):
            refused = push(server)
            opened.set()
            path = f"/v1/tasks/{known}"
            wait_until(
                lambda: server.request("GET", path),
                lambda answer: answer.status == 503 or "store" in str(answer.json["waiting_for"]),
                "the second task to be due",
            )
            again = push(server)
            ready = server.request("GET", "/readyz").status
            while_broken = len(receiver.deliveries)

        later = wait_for_recovery(server)
        for id in (held, known):
            wait_until(
                lambda id=id: server.request("GET", f"/v1/tasks/{id}").json["state"],  # type: ignore[misc]
                "succeeded".__eq__,
                "the outcome to be kept",
            )
        server.kill()
        server.start()

    assert is_unavailable(refused)
    assert is_unavailable(again)
    assert (ready, while_broken) == (503, 1)
    assert {held, known, later} <= server.task_ids()
    assert Counter(each.task_id for each in receiver.deliveries) == {held: 1, known: 1}


def test_server_does_not_recover_on_a_file_system_that_became_read_only(server: Server) -> None:
    with receiving() as receiver:
        server.start()
        known = pushed(server, receiver.url, delay=1)
        due_at = time.time() + 1
        with read_only(server.data_dir):
            with unable_to_write(server):
                assert is_unavailable(push(server))
            # The server can open its files again, but only for reading.
            wait_until(time.time, (due_at + 1.5).__lt__, "some tries to recover")
            refusal = push(server)
            while_read_only = list(receiver.deliveries)
        later = wait_for_recovery(server)
        wait_until(lambda: [each.task_id for each in receiver.deliveries], bool, "the delivery")

    assert is_unavailable(refusal)
    assert while_read_only == []
    assert {known, later} <= server.task_ids()
    assert [each.task_id for each in receiver.deliveries] == [known]


def test_read_only_folder_is_refused_at_the_start(server: Server) -> None:
    server.data_dir.mkdir()

    with (
        read_only(server.data_dir),
        pytest.raises(AssertionError, match=r"cannot be written to: .*/lock: Read-only file"),
    ):
        server.start()

    assert list(server.data_dir.iterdir()) == []


def test_folder_that_is_moved_away_and_back_needs_no_restart(
    server: Server, tmp_path: Path
) -> None:
    server.start()
    known = pushed(server, delay=3600)

    server.data_dir.rename(tmp_path / "away")
    refusals = [push(server, delay=3600) for _ in range(5)]
    ready = server.request("GET", "/readyz").status
    made = server.data_dir.exists()
    (tmp_path / "away").rename(server.data_dir)
    later = wait_for_recovery(server)
    server.kill()
    server.start()

    assert all(is_unavailable(refusal) for refusal in refusals)
    assert (ready, made) == (503, False)
    assert {known, later} <= server.task_ids()


@pytest.mark.parametrize("path", ["/v1/tasks", "/"])
def test_push_that_is_refused_while_the_folder_is_away_can_be_repeated(
    server: Server, tmp_path: Path, path: str
) -> None:
    """Only pushes that may have been stored are answered without ``Retry-After``."""
    server.start()
    task = {"url": CLOSED_PORT, "delay": 60} | ({"payload": "e30="} if path == "/" else {})
    body = json.dumps(task).encode()

    server.data_dir.rename(tmp_path / "away")
    refusals = [server.request("POST", path, body) for _ in range(3)]
    (tmp_path / "away").rename(server.data_dir)
    wait_until(
        lambda: server.request("POST", path, body).status, (201).__eq__, "the push to be taken"
    )

    assert [refusal.headers.get("retry-after") for refusal in refusals] == ["1"] * 3
    assert len(server.task_ids()) == 1


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_log_is_noticed_before_a_push_is_acknowledged(
    server: Server, share: float
) -> None:
    server.start()
    for _ in range(5):
        pushed(server, delay=3600)
    log = server.data_dir / "tasks.db-wal"
    os.truncate(log, int(log.stat().st_size * share))

    refusal = push(server, delay=3600)
    later = {wait_for_recovery(server)} | {pushed(server, delay=3600) for _ in range(5)}
    server.kill()
    server.start()

    assert is_unavailable(refusal)
    assert server.logged(r"error .*store cannot be written .*tasks\.db-wal was cut short")
    assert later <= server.task_ids()
    server.stop()
    assert "no problems found" in ended("verify", server.data_dir).stdout


@pytest.mark.parametrize("kind", ["a copy", "an empty one"])
def test_replaced_folder_is_not_used(server: Server, tmp_path: Path, kind: str) -> None:
    server.start()
    known = pushed(server, delay=3600)

    server.data_dir.rename(tmp_path / "away")
    if kind == "a copy":
        shutil.copytree(tmp_path / "away", server.data_dir)
    else:
        server.data_dir.mkdir()
    before = {file.name for file in server.data_dir.iterdir()}
    refusals = [push(server, delay=3600)]
    refusals += [push(server, delay=3600) for _ in range(5)]
    wait_until(lambda: server.logged("store cannot be written"), bool, "it to be logged")
    after = {file.name for file in server.data_dir.iterdir()}
    server.data_dir.rename(tmp_path / "other")
    (tmp_path / "away").rename(server.data_dir)
    later = wait_for_recovery(server)

    assert all(is_unavailable(refusal) for refusal in refusals)
    assert after == before
    assert {known, later} <= server.task_ids()


def test_deleted_folder_is_not_created_again(server: Server) -> None:
    server.start()
    pushed(server, delay=3600)

    shutil.rmtree(server.data_dir)
    refusals = [push(server, delay=3600) for _ in range(5)]
    status = server.stop()

    assert all(is_unavailable(refusal) for refusal in refusals)
    assert status == 0
    assert not server.data_dir.exists()


def test_folder_that_another_file_system_covers_is_waited_for(server: Server) -> None:
    """A volume that is not mounted leaves an empty folder in its place."""
    server.data_dir.mkdir()
    server.start()
    known = pushed(server, delay=3600)

    with mounted(server.data_dir):
        refusals = [push(server, delay=3600) for _ in range(5)]
        made = list(server.data_dir.iterdir())
    later = wait_for_recovery(server)

    assert all(is_unavailable(refusal) for refusal in refusals)
    assert made == []
    assert {known, later} <= server.task_ids()


def test_torn_end_of_the_log_loses_no_acknowledged_task(server: Server) -> None:
    """A power cut may leave part of a page that was never synced."""
    server.start()
    known = {pushed(server, delay=3600) for _ in range(20)}
    server.kill()
    with (server.data_dir / "tasks.db-wal").open("r+b") as log:
        frame = log.read(32 + 24 + 4096)[32:]
        log.seek(0, 2)
        log.write(frame[:3000])

    server.start()

    assert server.task_ids() == known
