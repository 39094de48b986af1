"""The stream of events over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from poussetaches.api.app import build_app
from poussetaches.api.event_hub import MAX_KEPT, MAX_TASK_EVENTS, EventHub
from poussetaches.api.event_routes import EventRoutes
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.queue import Queue
from poussetaches.engine.clock import SystemClock
from poussetaches.server.http_server import HttpServer
from poussetaches.store.base import News
from tests.acceptance.harness import PATIENCE, Receiver, Server, receiving, serving
from tests.factories import seeded
from tests.integration.v1 import URL, Client, problem

REQUEST = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MUCH = 1024 * 1024  # bytes; less than the events of the test about slow clients


class Told(NamedTuple):
    """An event as a client sees it."""

    id: str
    name: str
    data: Any


class Stream:
    """A client of ``/v1/events``."""

    def __init__(self, server: Server, query: str = "", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._connection.request("GET", f"/v1/events{query}", headers=headers)
        self.response = self._connection.getresponse()
        self.last_id = ""

    def next(self) -> Told:
        """Return the next event."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                self.last_id = fields["id"]
                return Told(fields["id"], fields["event"], json.loads(fields["data"]))
            else:
                self.last_id = fields.get("id", self.last_id)
                fields = {}

    def begin(self) -> None:
        """Read the id at which the stream begins."""
        while not self.last_id:
            line = self.response.readline().decode()
            if line.startswith("id: "):
                self.last_id = line[4:].strip()

    def until(self, is_last: Callable[[Told], bool]) -> list[Told]:
        """Return the events up to one."""
        found = [self.next()]
        while not is_last(found[-1]):
            found.append(self.next())
        return found

    def close(self) -> None:
        """Disconnect."""
        self.response.close()
        self._connection.close()


@contextmanager
def streaming(server: Server, query: str = "", **headers: str) -> Iterator[Stream]:
    stream = Stream(server, query, **headers)
    try:
        yield stream
    finally:
        stream.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("events") / "data") as server:
        yield Client(server)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Run a server that a test may stop."""
    with serving(tmp_path / "data") as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Paths of sockets are short: a test's own folder may be too deep.
    return tmp_path_factory.mktemp("s") / "p.sock"


@asynccontextmanager
async def serving_events(path: Path) -> AsyncIterator[EventHub]:
    """Serve only events, at a Unix socket, where the kernel buffers little for a client."""
    clock = SystemClock()
    hub = EventHub(now=clock.now, clock=clock, random=seeded())
    request_limits = RequestLimits(100)
    endpoints = EventRoutes(hub, request_limits).endpoints()
    app = build_app(endpoints, tokens=None, request_limits=request_limits)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        http_server = HttpServer(app, listener)
        await http_server.start()
        yield hub
        await hub.close()
        await http_server.stop()


def read_to_end(connection: socket.socket) -> int:
    """Return the number of bytes received until the server disconnected."""
    connection.settimeout(PATIENCE)
    length = 0
    with connection:
        while received := connection.recv(65536):
            length += len(received)
    return length


def push_later(client: Client, queues: list[str]) -> None:
    """Push delayed tasks, which are not delivered during the test, in one batch."""
    tasks = [{"url": URL, "delay": 3600, "queue": queue} for queue in queues]
    assert client.post("/v1/tasks/batch", tasks=tasks).status == 201


def test_events_show_the_life_of_a_task(client: Client, receiver: Receiver) -> None:
    with streaming(client.server) as stream:
        stream.begin()
        task_id = client.push(url=f"{receiver.url}/run", queue="mail")

        told = stream.until(lambda event: event.data.get("change") == "succeeded")

    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert [event.data["change"] for event in told if event.name == "task"] == [
        "pushed",
        "started",
        "succeeded",
    ]
    assert {event.data["id"] for event in told if event.name == "task"} == {task_id}
    assert [event.data["queue"] for event in told if event.name == "queue"] == ["mail"]
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9]+", event.id) for event in told)


def test_events_show_the_pause_of_the_server(client: Client) -> None:
    with streaming(client.server) as stream:
        stream.begin()
        client.post("/v1/pause")

        client.post("/v1/resume")

        told = [stream.next(), stream.next()]

    assert [(event.name, event.data["paused"]) for event in told] == [
        ("paused", True),
        ("paused", False),
    ]


def test_client_that_reconnects_gets_the_missed_events(client: Client) -> None:
    with streaming(client.server) as stream:
        stream.begin()
    push_later(client, ["default"] * 3)

    with streaming(client.server, **{"Last-Event-ID": stream.last_id}) as again:
        told = [again.next() for _ in range(3)]

    assert [event.data["change"] for event in told] == ["pushed"] * 3


def test_client_of_an_earlier_server_is_told_to_start_over(server: Server) -> None:
    with streaming(server) as stream:
        stream.begin()
    server.stop()
    server.start()

    with streaming(server, **{"Last-Event-ID": stream.last_id}) as again:
        assert again.next().name == "reset"


def test_events_of_one_queue_leave_the_others_out(client: Client) -> None:
    with streaming(client.server, "?queue=mail") as stream:
        stream.begin()
        push_later(client, ["default", "mail", "news"])

        told = stream.until(lambda event: event.name == "task")

    assert {event.data["queue"] for event in told} == {"mail"}


def test_large_batch_is_an_event_with_counts(client: Client) -> None:
    with streaming(client.server) as stream:
        stream.begin()
        push_later(client, ["default"] * 3 * MAX_TASK_EVENTS)

        told = stream.until(lambda event: event.name == "counts")

    told_count = [event.name for event in told].count("task")
    assert 0 < told_count <= MAX_TASK_EVENTS
    merged_count = 3 * MAX_TASK_EVENTS - told_count
    assert told[-1].data["changes"] == {"default": {"pushed": merged_count}}


async def test_client_that_does_not_read_is_dropped_and_others_are_not(
    socket_path: Path,
) -> None:
    async with serving_events(socket_path) as hub:
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(socket_path))
        silent.sendall(REQUEST)
        reader, writer = await asyncio.open_unix_connection(socket_path, limit=2 * MUCH)
        writer.write(REQUEST)
        await reader.readuntil(b"id: ")

        for round in range(3):
            names = [f"queue-{round}-{number}" for number in range(MAX_KEPT * 2 // 3)]
            hub.committed(News(queues={name: Queue(name=name) for name in names}))
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(names[-1].encode())

        assert await asyncio.to_thread(read_to_end, silent) < MUCH
        hub.committed(News(paused=True))
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"event: paused")
        writer.close()


def test_stop_ends_the_streams(server: Server) -> None:
    with streaming(server) as stream:
        stream.begin()

        assert server.stop() == 0
        assert stream.response.read().strip() == b""


@pytest.mark.parametrize("query", ["?queue=-", "?since=1"])
def test_events_are_refused_when_the_query_is_not_known(client: Client, query: str) -> None:
    assert problem(client.get(f"/v1/events{query}"))[:2] == (422, "invalid-query")
