"""The process that listens at an address, with real processes and sockets."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from poussetaches.core.errors import AddressTaken
from poussetaches.server import address_wait
from poussetaches.server.address_wait import wait_until_free
from poussetaches.server.app_readiness import Listener, application_answers
from poussetaches.server.port_owner import (
    is_taken,
    is_to_itself,
    listener_of,
    may_listen,
    name_of,
    process_tree,
)
from poussetaches.settings import load_settings
from tests.acceptance.harness import clean_environment, free_port, receiving

if TYPE_CHECKING:
    from psutil._ntuples import pconn

LISTEN = (
    "import socket, sys;"
    "listener = socket.create_server(('127.0.0.1', 0));"
    "print(listener.getsockname()[1], flush=True);"
    "sys.stdin.read()"
)
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
SESSION = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
APPLICATION = Listener(is_application=True)
STRANGER = Listener(is_application=False, name="stranger (process 7)")


@contextmanager
def listening(*words: str, server_url: str | None = None) -> Iterator[tuple[int, int]]:
    """Run Python code in a session of its own; yield its process id and the port it prints."""
    environ = {**clean_environment(), **({"POUSSETACHES_URL": server_url} if server_url else {})}
    process = subprocess.Popen(
        [sys.executable, "-c", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=environ,
    )
    with process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def test_connection_of_a_socket_to_itself_is_no_listener() -> None:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        _, port = connection.getsockname()
        connection.connect(("127.0.0.1", port))

        assert is_to_itself(connection, port)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((LISTEN,), id="process-itself"),
        pytest.param((CHILD, LISTEN), id="child"),
        pytest.param((SESSION, LISTEN), id="member-of-its-session-whose-parent-ended"),
    ],
)
def test_application_is_known_by_its_process_tree(words: tuple[str, ...]) -> None:
    with listening(*words) as (process_id, port):
        assert is_taken("127.0.0.1", port)
        assert may_listen(process_tree(process_id), "127.0.0.1", port)
        assert not may_listen(process_tree(process_id), "127.0.0.1", port + 1)


def test_other_program_is_distinguished_from_the_application_and_named() -> None:
    with listening(LISTEN) as (process_id, port), listening(LISTEN) as (other_id, _):
        assert not may_listen(process_tree(other_id), "127.0.0.1", port)
        assert name_of(listener_of("127.0.0.1", port)).endswith(f"(process {process_id})")


def test_process_whose_sockets_cannot_be_read_may_be_the_listener() -> None:
    class Hidden(psutil.Process):
        def net_connections(self, kind: str = "inet") -> list[pconn]:
            raise psutil.AccessDenied(self.pid)

    assert may_listen([Hidden(os.getpid())], "127.0.0.1", 7991)


OURS = "http://127.0.0.1:7991"  # the address of this server


@pytest.mark.parametrize(
    ("server_url", "said"),
    [
        pytest.param(OURS, "an earlier `poussetaches run` that was killed", id="same-address"),
        pytest.param(
            f"http://127.0.0.1:{free_port()}", "an earlier `poussetaches run`", id="server-is-gone"
        ),
        pytest.param("unix:/nonexistent", "an earlier `poussetaches run`", id="socket-is-gone"),
        pytest.param(None, "where the application is to listen", id="another-program"),
        pytest.param("nowhere", "where the application is to listen", id="strange-address"),
    ],
)
@pytest.mark.parametrize("words", [(LISTEN,), (CHILD, LISTEN)], ids=["itself", "child"])
async def test_address_that_stays_taken_is_refused_with_the_program(
    words: tuple[str, ...], server_url: str | None, said: str
) -> None:
    with listening(*words, server_url=server_url) as (_, port):
        url = f"http://127.0.0.1:{port}"

        with pytest.raises(AddressTaken) as caught:
            await wait_until_free(url, OURS, limit=0, ending_limit=0)

    assert said in str(caught.value)
    assert f"listens at {url}" in str(caught.value)


async def test_application_whose_server_still_runs_is_not_waited_for() -> None:
    with (
        receiving() as server,
        listening(LISTEN, server_url=server.url) as (_, port),
        pytest.raises(AddressTaken, match="where the application is to listen"),
    ):
        await wait_until_free(f"http://127.0.0.1:{port}", OURS, limit=0)


class EndsProcess(logging.Handler):
    """Ends a process as soon as something is logged."""

    def __init__(self, process_id: int) -> None:
        super().__init__()
        self._process_id = process_id
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        os.kill(self._process_id, signal.SIGTERM)


async def test_application_of_a_killed_run_is_waited_for() -> None:
    with listening(LISTEN, server_url=OURS) as (process_id, port):
        handler = EndsProcess(process_id)
        address_wait.log.addHandler(handler)
        try:
            await wait_until_free(f"http://127.0.0.1:{port}", OURS, limit=0)
        finally:
            address_wait.log.removeHandler(handler)

    assert handler.messages == ["waiting for the application of an earlier run to end"]


async def test_nothing_is_sent_before_the_application_listens() -> None:
    """A new listener may be another program, which only the next check can show."""
    with receiving() as receiver:
        sent_before: list[int] = []
        answers = iter([None, STRANGER, None, APPLICATION])

        def find_listener() -> Listener | None:
            sent_before.append(len(receiver.deliveries))
            return next(answers)

        settings = load_settings({"base_url": receiver.url}, {}, None)
        await application_answers(settings, find_listener)

        assert sent_before == [0, 0, 0, 0]
        assert [each.path for each in receiver.deliveries] == ["/_poussetaches/_check"]


async def test_port_of_the_server_itself_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        url = f"http://127.0.0.1:{own.getsockname()[1]}"

        with pytest.raises(AddressTaken, match="this server listens at"):
            await wait_until_free(url, url, limit=3600)
