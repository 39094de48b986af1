"""Sends raw bytes to a server, and reads its responses."""

from __future__ import annotations

import json
import re
import socket
from typing import Any, NamedTuple

from tests.acceptance.harness import PATIENCE, Server

TASK = b'{"url":"http://app.test/x"}'
HOST = b"Host: 127.0.0.1\r\n"


class Responses(NamedTuple):
    """The responses on a connection: statuses in order, all bytes, and whether it was closed."""

    statuses: list[int]
    raw: bytes
    ended: bool

    @property
    def code(self) -> str:
        """The code of the last problem."""
        kind: str = self._problem["type"]
        return kind.removeprefix("urn:poussetaches:problem:")

    @property
    def detail(self) -> str:
        """The detail of the last problem."""
        detail: str = self._problem["detail"]
        return detail

    @property
    def _problem(self) -> Any:
        document = json.loads(self.raw.rpartition(b"\r\n\r\n")[2])
        assert document["status"] == self.statuses[-1]
        return document


def connect(server: Server) -> socket.socket:
    """Return a connection to a server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def say(server: Server, *pieces: bytes, answers: int = 1) -> Responses:
    """Send bytes on a new connection; read this many responses, or to the end."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return hear(connection, answers=answers)


def hear(connection: socket.socket, *, answers: int = 1) -> Responses:
    """Read this many complete responses, or until the connection ends."""
    raw = b""
    while True:
        found = _whole_answers(raw)
        if len(found) >= answers:
            return Responses(found, raw, ended=False)
        more = connection.recv(65_536)
        if not more:
            return Responses(found, raw, ended=True)
        raw += more


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side has disconnected; return False if it sends bytes instead."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def head(line: bytes, *headers: bytes) -> bytes:
    """Return the head of a request."""
    return b"\r\n".join([line, HOST.strip(), *headers, b"", b""])


def push(*headers: bytes, body: bytes = TASK) -> bytes:
    """Return a request that pushes a task; its headers define the framing of the body."""
    framing = headers or (b"Content-Length: %d" % len(body),)
    return head(b"POST /v1/tasks HTTP/1.1", *framing) + body


def _whole_answers(raw: bytes) -> list[int]:
    statuses = []
    while match := re.match(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", raw, re.DOTALL):
        length = re.search(rb"(?i)^content-length: (\d+)", match[2], re.MULTILINE)
        rest = raw[match.end() :]
        if length and len(rest) < int(length[1]):
            break
        statuses.append(int(match[1]))
        raw = rest[int(length[1]) if length else 0 :]
    return statuses
