"""Clients of servers that are unreachable, frozen, slow or broken."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
import requests

from poussetaches.client import (
    AsyncClient,
    Client,
    ClientError,
    NoAnswer,
    NotUnderstood,
    PousseTaches,
    PushFailed,
    Refused,
)
from tests.acceptance.harness import PATIENCE, Server, free_port, receiving, serving

SHORT = 0.3  # seconds that a push may take here
TARGET = "http://app.test/run"

FORKED = """
import os, sys
from poussetaches import Client
client = Client(sys.argv[1])
client.push("http://app.test/parent", delay=60)
child = os.fork()
if child == 0:
    client.push("http://app.test/child", delay=60)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.push("http://app.test/parent-again", delay=60)
"""
FORKED_ASYNC = """
import asyncio, os, sys
from poussetaches import AsyncClient
client = AsyncClient(sys.argv[1])
asyncio.run(client.stats())
child = os.fork()
if child == 0:
    asyncio.run(client.stats())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(client.stats())
"""


@contextmanager
def listening(
    talk: Callable[[socket.socket], None], listener: socket.socket | None = None
) -> Iterator[str]:
    """Run a server that handles each connection in its own thread."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    listener.listen()
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            talk(connection)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            if stopped.is_set():
                connection.close()
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    name = listener.getsockname()
    try:
        yield f"http://127.0.0.1:{name[1]}"
    finally:
        stopped.set()
        with socket.socket(listener.family) as last:
            last.connect(name)
        accepting.join()
        listener.close()


def silence(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def dripping(head: bytes) -> Callable[[socket.socket], None]:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head)
        pause = threading.Event()
        while True:
            connection.sendall(b"x")
            pause.wait(0.02)

    return drip


def garbage(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"what?\r\n\r\n")


def ssh(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def endless(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 99999999999\r\n\r\n{}")


DRIPPED_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
TROUBLES = {
    "frozen": silence,
    "dripping head": dripping(b"HTTP/1.1 200 OK\r\nX: "),
    "dripping body": dripping(DRIPPED_BODY),
    "garbage": garbage,
    "hanging up": lambda connection: None,
    "endless length": endless,
    "SSH": ssh,
}
FOREIGN: Mapping[object, type[ClientError]] = {garbage: NotUnderstood, ssh: NotUnderstood}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("trouble") / "data", "--test-mode") as server:
        yield server


@pytest.mark.parametrize("talk", TROUBLES.values(), ids=TROUBLES)
def test_push_ends_whatever_the_server_does(talk: Callable[[socket.socket], None]) -> None:
    with listening(talk) as url, Client(url, push_timeout=SHORT) as client:
        with pytest.raises(PushFailed) as failed:
            client.push(TARGET, json=1)

        assert failed.value.task.url == TARGET
        assert type(failed.value.__cause__) is FOREIGN.get(talk, NoAnswer)


@pytest.mark.parametrize("talk", TROUBLES.values(), ids=TROUBLES)
async def test_awaited_push_ends_whatever_the_server_does(
    talk: Callable[[socket.socket], None],
) -> None:
    with listening(talk) as url:
        async with AsyncClient(url, push_timeout=SHORT) as client:
            with pytest.raises(PushFailed) as failed:
                await client.push(TARGET, json=1)

            assert type(failed.value.__cause__) is FOREIGN.get(talk, NoAnswer)


async def test_refused_connection_says_what_to_do(server: Server) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    message = (
        rf"^the task was not pushed: no answer from {url}: .*Connection refused; start the server,"
        " or set POUSSETACHES_URL to its address$"
    )

    with Client(url, push_timeout=SHORT) as client, pytest.raises(PushFailed, match=message):
        client.push(TARGET)
    async with AsyncClient(url, push_timeout=SHORT) as awaited:
        with pytest.raises(PushFailed, match=message):
            await awaited.push(TARGET)


async def test_late_answer_is_told_with_the_time() -> None:
    message = r"no complete answer from http://.* within 0\.3 s$"
    with listening(silence) as url:
        with Client(url, timeout=SHORT) as client, pytest.raises(NoAnswer, match=message):
            client.stats()
        async with AsyncClient(url, timeout=SHORT) as awaited:
            with pytest.raises(NoAnswer, match=message):
                await awaited.stats()


async def test_server_without_tls_is_recognised(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    message = (
        "no secure connection: the port does not answer in TLS; if the server has no TLS, use"
    )

    with Client(url) as client, pytest.raises(NoAnswer, match=message):
        client.stats()
    async with AsyncClient(url) as awaited:
        with pytest.raises(NoAnswer, match=message):
            await awaited.stats()


@pytest.mark.parametrize("status", [500, 503, 507])
def test_push_is_repeated_while_the_server_is_in_trouble(status: int) -> None:
    answers = iter([status, status])
    body = json.dumps({"id": "1", "state": "pruned"}).encode()

    with receiving(lambda _: (next(answers, 200), {}, body)) as receiver:
        assert Client(receiver.url, push_timeout=PATIENCE).push(TARGET).id == "1"

    assert len(receiver.deliveries) == 3
    assert len({delivery.body for delivery in receiver.deliveries}) == 1


@pytest.mark.parametrize("status", [500, 503, 507])
def test_push_gives_up_when_the_trouble_stays(status: int) -> None:
    with receiving(lambda _: status) as receiver, pytest.raises(PushFailed) as failed:
        Client(receiver.url, push_timeout=SHORT).push(TARGET)

    assert isinstance(failed.value.__cause__, Refused)
    assert failed.value.__cause__.status == status


@pytest.mark.parametrize("status", [200, 401, 404, 422])
async def test_push_to_another_program_fails_and_names_its_url(status: int) -> None:
    with receiving(lambda _: (status, {}, b"other")) as receiver:
        with Client(receiver.url) as client, pytest.raises(PushFailed, match=receiver.url):
            client.push(TARGET)
        async with AsyncClient(receiver.url) as awaited:
            with pytest.raises(PushFailed, match=receiver.url):
                await awaited.push(TARGET)


@pytest.mark.parametrize("status", [200, 404])
async def test_events_of_another_program_are_refused(status: int) -> None:
    with receiving(lambda _: (status, {}, b"other")) as receiver:
        with Client(receiver.url) as client, pytest.raises(NotUnderstood, match=receiver.url):
            next(client.events())
        async with AsyncClient(receiver.url) as awaited:
            with pytest.raises(NotUnderstood, match=receiver.url):
                await anext(awaited.events())


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.push({}, "/x"),
        lambda client: client.get_waiting(),
        lambda client: client.get_dead(),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_call_of_the_original_client_to_another_program_fails(
    call: Callable[[PousseTaches], object], status: int
) -> None:
    with (
        receiving(lambda _: (status, {}, b"other")) as receiver,
        pytest.raises(NotUnderstood, match=receiver.url) as caught,
    ):
        call(PousseTaches(receiver.url, "http://app.test"))

    assert isinstance(caught.value, requests.HTTPError)
    assert caught.value.response.status_code == status


def forgetful(server: Server) -> Callable[[socket.socket], None]:
    """Return a proxy that forwards the first request, and disconnects before its answer."""
    lost = threading.Lock()

    def talk(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as behind:
            behind.sendall(received(connection))
            answer = behind.recv(65536)
            if not lost.acquire(blocking=False):
                connection.sendall(answer)

    return talk


def received(connection: socket.socket) -> bytes:
    """Return a whole request."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, _, body = request.partition(b"\r\n\r\n")
    [length] = [
        int(line.partition(b":")[2])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length")
    ]
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def test_lost_answer_makes_one_task_only(server: Server) -> None:
    with listening(forgetful(server)) as url:
        pushed = Client(url, push_timeout=PATIENCE).push(TARGET, queue="once", delay=60)

    found = list(Client(server.url).list({"queue": "once"}))
    assert [task.id for task in found] == [pushed.id]
    assert not pushed.existing


async def test_lost_answer_makes_one_task_only_when_awaited(server: Server) -> None:
    with listening(forgetful(server)) as url:
        async with AsyncClient(url, push_timeout=PATIENCE) as client:
            pushed = await client.push(TARGET, queue="once-awaited", delay=60)

    found = list(Client(server.url).list({"queue": "once-awaited"}))
    assert [task.id for task in found] == [pushed.id]


@pytest.mark.parametrize("program", [FORKED, FORKED_ASYNC], ids=["Client", "AsyncClient"])
def test_client_works_on_both_sides_of_a_fork(server: Server, program: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, server.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")


def paused(connection: socket.socket) -> None:
    received(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"paused":true}')


def test_client_reaches_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("u") / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    with listening(paused, listener), Client(f"unix:{path}") as client:
        assert client.pause()


def test_many_threads_share_one_client_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads = 40
    together = threading.Barrier(threads)

    def answer(connection: socket.socket) -> None:
        while connection.recv(65536):
            together.wait()
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with (
        listening(answer) as url,
        Client(url) as client,
        ThreadPoolExecutor(threads) as pool,
    ):
        list(pool.map(client.delete, ["id"] * threads))

    assert caplog.records == []
