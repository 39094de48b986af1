"""Which process listens at an address, with real processes and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from poussetaches.server.answering import Listener, application_answers
from poussetaches.server.port_owner import (
    is_taken,
    is_to_itself,
    listener_name,
    may_listen,
    process_tree,
)
from poussetaches.settings import load_settings
from tests.acceptance.harness import receiving

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
def listening(*words: str) -> Iterator[tuple[int, int]]:
    """Run Python code in a session of its own; yield its process id and the port it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
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


def test_other_program_is_told_from_the_application_and_named() -> None:
    with listening(LISTEN) as (process_id, port), listening(LISTEN) as (other_id, _):
        assert not may_listen(process_tree(other_id), "127.0.0.1", port)
        assert listener_name("127.0.0.1", port).endswith(f"(process {process_id})")


def test_process_whose_sockets_cannot_be_read_may_be_the_listener() -> None:
    class Hidden(psutil.Process):
        def net_connections(self, kind: str = "inet") -> list[pconn]:
            raise psutil.AccessDenied(self.pid)

    assert may_listen([Hidden(os.getpid())], "127.0.0.1", 7991)


async def test_nothing_is_sent_before_the_application_listens() -> None:
    """What begins to listen after nobody did may be a stranger: the next check says who it is."""
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
