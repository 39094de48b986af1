"""Calls of a server's API by the command line: blocking, one connection each."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from poussetaches.core.errors import PousseTachesError
from poussetaches.core.target import without_credentials

TIMEOUT = 20.0  # seconds for one call


class BadAddress(PousseTachesError):
    """The server's address is neither http:// nor https:// nor unix:."""


class Answer(NamedTuple):
    """What came back; ``json`` is empty when it was no JSON object."""

    status: int
    json: dict[str, Any]


class ServerCalls:
    """Calls one server."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """Make a call.

        Raises:
            OSError: there is no answer.
            BadAddress: the address cannot be one.
        """
        connection, prefix = connect(self._url)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, prefix + path, content, self._headers)
            response = connection.getresponse()
            return Answer(response.status, json_object(response.read()))
        except http.client.HTTPException as exc:
            raise ConnectionError(f"what answers does not speak HTTP ({exc!r})") from exc
        finally:
            connection.close()


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection to a server, and what its paths begin with."""
    if url.startswith("unix:"):
        return UnixConnection(url.removeprefix("unix:")), ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadAddress from None
    if parts.scheme not in ("http", "https") or not host:
        shown = without_credentials(url)
        raise BadAddress(
            f"{shown!r} is no server's address; give one such as http://127.0.0.1:7991"
        )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=TIMEOUT), parts.path.rstrip("/")


def json_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object that a text is; an empty one when it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
