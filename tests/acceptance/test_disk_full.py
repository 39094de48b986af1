"""A full disk: a small file system in memory, with a file that fills it."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from poussetaches.store.sqlite.reserve import RESERVE
from tests.acceptance.disks import MIB, SmallDisk, mounted
from tests.acceptance.harness import Answer, Delivery, Receiver, Server, receiving, wait_until

BODY = "x" * 20_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    with mounted(path) as disk:
        yield disk


@pytest.fixture
def server(disk: SmallDisk) -> Iterator[Server]:
    server = Server(disk.data_dir, "--concurrency", "20")
    server.log = disk.path.parent / "log"  # not on the disk that is to be full
    yield server
    server.close()


class Gate:
    """An application that answers once the gate is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def answer(self, delivery: Delivery) -> int:
        """Wait for the gate, then answer."""
        self.opened.wait()
        return 200


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def receiver(gate: Gate) -> Iterator[Receiver]:
    with receiving(gate.answer) as receiver:
        yield receiver
        gate.opened.set()


def push(server: Server, url: str, **fields: object) -> Answer:
    task = {"url": url, "text": BODY, **fields}
    return server.request("POST", "/v1/tasks", json.dumps(task).encode())


def task(server: Server, id: str) -> dict[str, object]:
    found: dict[str, object] = server.request("GET", f"/v1/tasks/{id}").json
    return found


def push_until_full(server: Server, url: str) -> list[str]:
    """Push until the store is full; return the ids of the acknowledged tasks."""
    acknowledged = []
    while (answer := push(server, url, delay=3600)).status == 201:
        acknowledged.append(answer.json["id"])
    assert (answer.status, answer.json["type"]) == (507, "urn:poussetaches:problem:store-full")
    return acknowledged


def wait_for_room(server: Server, url: str) -> str:
    """Wait until pushes are accepted again; return the id of the first."""
    answer = wait_until(
        lambda: push(server, url), lambda answer: answer.status == 201, "a push to be taken"
    )
    id: str = answer.json["id"]
    return id


def all_succeed(server: Server, ids: set[str]) -> None:
    wait_until(
        lambda: [task(server, id)["state"] for id in sorted(ids)],
        (["succeeded"] * len(ids)).__eq__,
        "the tasks to succeed",
    )


def v1_ids(server: Server) -> set[str]:
    found: set[str] = set()
    cursor = ""
    while True:
        page = server.request("GET", f"/v1/tasks?limit=500{cursor}").json
        found |= {each["id"] for each in page["tasks"]}
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_full_disk_stops_pushes_and_attempts_and_ends_by_itself(
    disk: SmallDisk, server: Server, receiver: Receiver, gate: Gate
) -> None:
    server.start()
    held = push(server, f"{receiver.url}/held").json["id"]
    known = [push(server, f"{receiver.url}/later", delay=3600).json["id"] for _ in "ab"]
    wait_until(lambda: len(receiver.deliveries), bool, "an attempt to be on the wire")
    disk.fill()
    acknowledged = [*known, *push_until_full(server, f"{receiver.url}/later")]
    kept_back = (disk.data_dir / "reserve").exists()

    gate.opened.set()
    wait_until(lambda: task(server, held)["state"], "succeeded".__eq__, "the outcome to be kept")
    server.request("POST", f"/v1/tasks/{acknowledged[0]}/run")
    waits = wait_until(lambda: task(server, acknowledged[0])["waiting_for"], bool, "it to wait")
    deleted = server.request("DELETE", f"/v1/tasks/{acknowledged[1]}").status
    refused = push(server, receiver.url).status
    ready = server.request("GET", "/readyz").status
    while_full = len(receiver.deliveries)

    disk.make_room()
    after = wait_for_room(server, f"{receiver.url}/after")
    wait_until(lambda: len(receiver.deliveries), (3).__eq__, "what waited for room")
    reserve = (disk.data_dir / "reserve").stat().st_size
    server.kill()
    server.start()

    assert (kept_back, deleted, refused, ready, while_full) == (False, 204, 507, 503, 1)
    assert "store_full" in json.dumps(waits)
    assert reserve == RESERVE
    assert {held, after, *acknowledged} - {acknowledged[1]} <= v1_ids(server)
    assert Counter(each.path for each in receiver.deliveries) == Counter(
        ["/held", "/later", "/after"]
    )


def test_outcomes_without_any_space_are_recorded_once_there_is_space(
    disk: SmallDisk, server: Server, receiver: Receiver, gate: Gate
) -> None:
    server.start()
    held = {push(server, receiver.url).json["id"] for _ in range(20)}
    wait_until(lambda: len(receiver.deliveries), (20).__eq__, "the attempts to be on the wire")
    disk.fill()
    push_until_full(server, receiver.url)
    disk.fill()  # the space of the reserve
    gate.opened.set()
    wait_until(lambda: server.request("GET", "/v1/stats").json["in_flight"], (0).__eq__, "answers")

    disk.make_room()
    wait_for_room(server, receiver.url)

    all_succeed(server, held)
    again = Counter(each.task_id for each in receiver.deliveries)
    assert set(again.values()) == {1}


def test_full_disk_recovers_when_tasks_are_deleted(
    disk: SmallDisk, server: Server, receiver: Receiver
) -> None:
    """No other file is deleted: the space comes from the server's own data."""
    server.start()
    push_until_full(server, receiver.url)

    purged = server.request("POST", "/v1/queues/default/purge").status

    assert purged == 200
    wait_for_room(server, receiver.url)


def test_server_starts_on_a_full_disk_with_all_its_tasks(
    disk: SmallDisk, server: Server, receiver: Receiver, gate: Gate
) -> None:
    gate.opened.set()
    server.start()
    known = push(server, receiver.url, delay=3600).json["id"]
    server.kill()
    disk.fill()

    server.start()
    refused = push(server, receiver.url).status
    deleted = server.request("DELETE", f"/v1/tasks/{known}").status
    disk.make_room()
    again = wait_for_room(server, receiver.url)

    assert (refused, deleted) == (507, 204)
    all_succeed(server, {again})


def test_server_on_a_full_disk_reports_free_and_required_space(
    disk: SmallDisk, server: Server, receiver: Receiver
) -> None:
    server.start()
    assert server.stop() == 0
    (disk.data_dir / "reserve").unlink()
    disk.fill(leaving=15 * MIB)

    server.start()
    details = [
        server.request("GET", "/readyz").json["detail"],
        push(server, receiver.url).json["detail"],
    ]

    room = r"the disk is full: 14\.\d MiB are free, and 20\.0 MiB must be free"
    assert [re.match(room, detail) is not None for detail in details] == [True, True], details
    assert server.logged(rf"store cannot be written .*{room}")


def test_server_without_space_to_start_is_refused_and_changes_nothing(
    disk: SmallDisk, server: Server, receiver: Receiver
) -> None:
    server.start()
    known = push(server, receiver.url, delay=3600).json["id"]
    assert server.stop() == 0
    (disk.data_dir / "reserve").unlink()
    disk.fill()
    before = (disk.data_dir / "tasks.db").read_bytes()

    with pytest.raises(AssertionError, match=r"the disk is full \(0\.\d MiB free.*free 20\.0 MiB"):
        server.start()

    assert (disk.data_dir / "tasks.db").read_bytes() == before
    disk.make_room()
    server.start()
    assert v1_ids(server) == {known}


def test_new_folder_on_a_full_disk_is_refused(disk: SmallDisk, server: Server) -> None:
    disk.fill()

    with pytest.raises(AssertionError, match="the disk is full"):
        server.start()

    disk.make_room()
    server.start()
