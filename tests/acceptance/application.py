"""An application for `poussetaches run`: records signals and requests in a file.

``application.py PORT FOLDER``. Each event is a line of FOLDER/events. Files in FOLDER control it:
it answers while ``closed`` is missing, and ``/held`` once ``release`` exists. ``/exit/N`` ends it
with that status.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LOOK_INTERVAL = 0.02  # seconds
PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
SIGNALS = {
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
}
writing = threading.Lock()


def note(**event: object) -> None:
    with writing, (FOLDER / "events").open("a") as file:
        file.write(json.dumps(event) + "\n")


def wait_for(found: bool, name: str) -> None:
    while (FOLDER / name).exists() is not found:
        threading.Event().wait(LOOK_INTERVAL)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        note(
            event="asked",
            path=self.path,
            key=self.headers.get("Poussetaches-Auth-Key"),
            signed="webhook-signature" in self.headers,
        )
        if self.path == "/held":
            wait_for(True, "release")
        if self.path.startswith("/exit/"):
            os._exit(int(self.path.removeprefix("/exit/")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        note(event="answered", path=self.path)  # before the client can act on the answer
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def push_last() -> None:
    """Push a task while the application ends, as its last request may do."""
    address = urlsplit(os.environ["POUSSETACHES_URL"])
    connection = http.client.HTTPConnection(address.netloc)
    connection.request("POST", "/v1/tasks", json.dumps({"url": "/last"}))
    note(event="pushed", status=connection.getresponse().status)


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    ours = {name: value for name, value in os.environ.items() if name.startswith("POUSSETACHES")}
    note(event="started", pid=os.getpid(), environ=ours)
    wait_for(False, "closed")
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        number = signal.sigwait(SIGNALS)
        note(event="signal", name=signal.Signals(number).name)
        if number in (signal.SIGTERM, signal.SIGINT):
            break
    if (FOLDER / "push_last").exists():
        push_last()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still be held
