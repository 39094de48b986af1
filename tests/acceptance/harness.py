"""Real processes for acceptance tests: a server, and a receiver that records deliveries."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from tests.acceptance import warm_start
from tests.acceptance.warm_start import PROGRAM, Process

V = TypeVar("V")

PATIENCE = 120.0  # seconds; only a failing test waits this long
KEY = "a shared key"
CLOSED_PORT = "http://127.0.0.1:9/"  # no process listens there


def wait_until(look: Callable[[], V], is_right: Callable[[V], bool], what: str) -> V:
    """Return the first value that is accepted; fail with the last one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = look()
        if is_right(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: last seen {value!r}")
        threading.Event().wait(0.02)


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    """A response of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Delivery:
    """A request to the receiver; ``at`` is wall-clock seconds."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    method: str = "POST"

    @property
    def payload(self) -> bytes:
        """The pushed payload."""
        return base64.b64decode(json.loads(self.body)["payload"])

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.headers["poussetaches-task-id"]


class QuietServer(ThreadingHTTPServer):
    """Ignores connections that end early, as those of a killed server do."""

    daemon_threads = True
    request_queue_size = 128  # with more, a connection would wait for a second

    def handle_error(self, request: object, client_address: object) -> None:
        """Report any error except a lost connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on


# The answer of an application: a status, and optionally headers and a body.
Reply = int | tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]


class Receiver:
    """An application that gives configured answers and records every delivery."""

    def __init__(self, answer: Callable[[Delivery], Reply], port: int = 0) -> None:
        self.deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # The second segment of an answer would wait for the first one's acknowledgement.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                delivery = Delivery(self.path, headers, body, time.time(), self.command)
                receiver.deliveries.append(delivery)
                given = answer(delivery)
                status, extra, *bodies = given if isinstance(given, tuple) else (given, {})
                content = b"".join(bodies)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_PUT = do_PATCH = do_GET = do_DELETE = do_HEAD = do_OPTIONS = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = QuietServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiving(
    answer: Callable[[Delivery], Reply] = lambda _: 200,
    port: int = 0,
) -> Iterator[Receiver]:
    """Run a receiver; 0 is any free port."""
    receiver = Receiver(answer, port)
    try:
        yield receiver
    finally:
        receiver.close()


@contextmanager
def holding(
    afterwards: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Receiver, threading.Event]]:
    """Run a receiver that answers paths below ``/held`` only once the event is set."""
    release = threading.Event()

    def answer(delivery: Delivery) -> int:
        if delivery.path.startswith("/held"):
            release.wait(PATIENCE)
            afterwards()
        return 200

    with receiving(answer) as receiver:
        try:
            yield receiver, release
        finally:
            release.set()


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of poussetaches."""
    return {name: value for name, value in os.environ.items() if "POUSSETACHES" not in name}


def ended(
    *words: object,
    given: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return warm_start.run(
        [str(word) for word in words],
        env={**clean_environment(), **(env or {})},
        cwd=cwd,
        given=given,
        timeout=PATIENCE,
    )


class Server:
    """A ``poussetaches serve`` in its own process, with at most ``max_files`` open files.

    ``program`` is the command that starts poussetaches, if that matters to the test.
    """

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        max_files: int | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self._flags = flags
        self._program = program
        self._shell: list[str] = []
        if max_files is not None:
            self._shell = ["sh", "-c", f'ulimit -n {max_files}; exec "$0" "$@"']
        self._env = {
            **clean_environment(),
            "POUSSETACHES_AUTH_KEY": KEY,
            **(env or {}),
        }
        self.port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        begun = self.log.stat().st_size if self.log.exists() else 0
        words = ["serve", "--port", str(self.port), "--data-dir", str(self.data_dir), *self._flags]
        with self.log.open("ab") as log:
            if self._program is None and not self._shell:
                files = [0, 1, log.fileno()]
                self._process = warm_start.start(words, env=self._env, files=files)
            else:
                command = [*self._shell, *(self._program or PROGRAM), *words]
                self._process = subprocess.Popen(command, env=self._env, stderr=log)
        wait_until(self.listens, lambda yes: yes or self._process_ended(), "it to listen")
        assert not self._process_ended(), self.log.read_text()[begun:]

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Stop the server; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    def status(self) -> int:
        """Wait until the server ends, and return its exit status."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def memory(self) -> int:
        """Return the resident memory of its process, in bytes."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def file_count(self) -> int:
        """Return the number of its open files."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def listens(self) -> bool:
        """Return whether its ``/healthz`` answers 200."""
        try:
            return self.request("GET", "/healthz").status == 200
        except OSError:
            return False

    def close(self) -> None:
        """Kill the server if it runs."""
        if self._process is not None and not self._process_ended():
            self.kill()

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request and return its response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def push(self, url: str, payload: bytes = b"{}", **fields: object) -> str:
        """Push a task and return its id."""
        push = {"url": url, "payload": base64.b64encode(payload).decode(), **fields}
        answer = self.request("POST", "/", json.dumps(push).encode())
        assert answer.status == 201, answer
        return answer.headers["poussetaches-task-id"]

    def push_many(self, count: int, *, size: int) -> set[str]:
        """Push tasks with bodies of this many bytes, in one batch; return their ids."""
        tasks = [{"url": CLOSED_PORT, "delay": 3600, "text": "x" * size}] * count
        answer = self.request("POST", "/v1/tasks/batch", json.dumps({"tasks": tasks}).encode())
        assert answer.status == 201, answer
        return set(answer.json["ids"])

    def task_ids(self) -> set[str]:
        """Return the ids of all tasks, at most 1,000."""
        return {task["id"] for task in self.request("GET", "/v1/tasks?limit=1000").json["tasks"]}

    def listing(self, name: str) -> list[dict[str, Any]]:
        """Return the tasks of a listing."""
        tasks: list[dict[str, Any]] = self.request("GET", f"/{name}").json["tasks"]
        return tasks

    def ids(self, name: str) -> set[str]:
        """Return the ids in a listing."""
        return {task["id"] for task in self.listing(name)}

    def logged(self, event: str) -> list[str]:
        """Return the lines of its log that contain a text."""
        return [line for line in self.log.read_text().splitlines() if re.search(event, line)]

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


@contextmanager
def serving(
    data_dir: Path,
    *flags: str,
    env: Mapping[str, str] | None = None,
    max_files: int | None = None,
    program: Sequence[str] | None = None,
) -> Iterator[Server]:
    """Run a server."""
    server = Server(data_dir, *flags, env=env, max_files=max_files, program=program)
    try:
        server.start()
        yield server
    finally:
        server.close()
