"""An application that records every delivery, and fails some."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

FAILING = "5"  # the end of the names of tasks whose first attempt fails
OK, FAILED = 200, 500


class Delivery(NamedTuple):
    """A request; ``at`` is its time in seconds since 1970."""

    name: str
    attempt: int
    at: float


class Receiver(ThreadingHTTPServer):
    """Responds on a free port."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.deliveries: list[Delivery] = []

    @property
    def url(self) -> str:
        """The target of the tasks."""
        return f"http://127.0.0.1:{self.server_port}/task"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a connection of a server that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    # An answer in two segments would wait for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        at = time.time()
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        attempt = int(self.headers["Poussetaches-Attempt"])
        self.server.deliveries.append(Delivery(name, attempt, at))
        self.send_response(FAILED if attempt == 1 and name.endswith(FAILING) else OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
