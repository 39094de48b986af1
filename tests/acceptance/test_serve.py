"""``poussetaches serve`` as a process: its start, its stop, and refusals to start."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from poussetaches.server.port_owner import name_of
from tests.acceptance import warm_start
from tests.acceptance.harness import (
    KEY,
    PATIENCE,
    Receiver,
    Server,
    clean_environment,
    ended,
    free_port,
    holding,
    receiving,
    serving,
    wait_until,
)
from tests.acceptance.warm_start import Process


def refused(data_dir: Path, *flags: str, status: int = 1) -> str:
    """Start a server that must refuse to start; return its one line of output."""
    done = ended("serve", "--data-dir", data_dir, *(flags or ("--port", free_port())))
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.startswith("poussetaches: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def succeeds(server: Server, task_id: str) -> None:
    wait_until(lambda: server.ids("success"), lambda ids: task_id in ids, "the task to succeed")


def tries_of(server: Server, listing: str, task_id: str) -> int:
    found: int = next(task["tries"] for task in server.listing(listing) if task["id"] == task_id)
    return found


def delivered(receiver: Receiver, count: int) -> None:
    wait_until(lambda: len(receiver.deliveries), lambda n: n >= count, f"{count} deliveries")


def connection_count(server: Server) -> int:
    """Return the number of open connections to a server."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    established, port = "01", f"{server.port:04X}"
    return sum(
        row.split()[3] == established and row.split()[1].endswith(f":{port}") for row in table
    )


@contextmanager
def stopping(server: Server) -> Iterator[Future[int]]:
    """Stop a server; the future is its exit status."""
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(server.stop)
        wait_until(lambda: server.logged(" stopping "), bool, "the server to hear it")
        yield status


@contextmanager
def process(data_dir: Path, *flags: str, env: Mapping[str, str] = {}) -> Iterator[Process]:
    """Run a server without the harness's port."""
    log = data_dir.parent / f"{data_dir.name}.log"
    inherited = {name: value for name, value in os.environ.items() if "POUSSETACHES" not in name}
    begun = len(log.read_text()) if log.exists() else 0
    with log.open("ab") as output:
        started = warm_start.start(
            ["serve", "--data-dir", str(data_dir), *flags],
            env={**inherited, "POUSSETACHES_AUTH_KEY": KEY, **QUICK, **env},
            files=[0, 1, output.fileno()],
        )
    try:
        said = wait_until(
            lambda: log.read_text()[begun:],
            lambda text: "listening" in text or started.poll() is not None,
            "the server to listen",
        )
        assert started.poll() is None, said
        yield started
    finally:
        started.kill()
        started.wait()


def end(started: Process) -> int:
    """Stop a server; return its exit status."""
    started.send_signal(signal.SIGTERM)
    return started.wait(PATIENCE)


QUICK = {
    "POUSSETACHES_ORIGINAL_MAX_ATTEMPTS": "2",
    "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.02",
}


def test_port_in_use_is_named_and_no_data_folder_is_made(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        said = refused(tmp_path / "data", "--port", port)

    assert said == (
        f"poussetaches: cannot listen on 127.0.0.1 port {port}: {name_of(psutil.Process())} "
        "already listens there; stop it, or choose another port with --port\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_address_that_others_reach_is_refused_without_a_token(tmp_path: Path, host: str) -> None:
    flags = ("--port", str(free_port()), "--host", host)

    said = refused(tmp_path / "data", *flags, status=2)

    assert said == (
        f"poussetaches: listening on {host} would allow every machine that can reach it to "
        "push tasks; set POUSSETACHES_API_TOKEN, or --allow-unauthenticated if this is intended\n"
    )
    assert not (tmp_path / "data").exists()


def test_address_that_others_reach_can_be_allowed_with_a_warning(tmp_path: Path) -> None:
    flags = ("--host", "0.0.0.0", "--allow-unauthenticated")
    with receiving() as receiver, serving(tmp_path / "data", *flags) as server:
        succeeds(server, server.push(receiver.url))

    assert server.logged("warning .*no API token is set")


def test_address_that_others_reach_is_listened_on_with_a_token(tmp_path: Path) -> None:
    env = {"POUSSETACHES_API_TOKEN": "a token"}
    with serving(tmp_path / "data", "--host", "0.0.0.0", env=env) as server:
        assert server.request("GET", "/").status == 401

    assert not server.logged("no API token is set")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_this_machines_own_address_needs_no_token(tmp_path: Path, host: str) -> None:
    with process(tmp_path / "data", "--port", "0", "--host", host) as started:
        assert end(started) == 0


def test_data_folder_of_another_server_is_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir) as server:
        said = refused(data_dir)

        assert server.request("GET", "/readyz").status == 200
    assert str(data_dir) in said
    assert "in use" in said


def test_data_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    said = refused(tmp_path / "file" / "data")

    assert str(tmp_path / "file" / "data") in said


def test_data_of_a_newer_version_is_refused_and_not_changed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir) as server:
        server.push("http://app/", delay=5)
        server.stop()
    database = data_dir / "tasks.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    before = database.read_bytes()

    said = refused(data_dir)

    assert "newer" in said
    assert str(database) in said
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database at all " * 500, b"SQLite format 3\0" + b"\xff" * 8176]
)
def test_damaged_database_is_named_and_not_changed(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "data" / "tasks.db"
    database.parent.mkdir()
    database.write_bytes(content)

    said = refused(tmp_path / "data")

    assert str(database) in said
    assert "damaged" in said
    assert database.read_bytes() == content


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host and port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


def status_over(path: Path) -> object:
    """Return the status of a request over the Unix socket."""
    with closing(UnixConnection(path)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        return json.loads(response.read())


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Paths of sockets are limited to 107 bytes: a test's own folder may be too deep.
    return tmp_path_factory.mktemp("s") / "p.sock"


def test_unix_socket_is_served_and_removed_at_the_end(tmp_path: Path, socket_path: Path) -> None:
    with process(tmp_path / "data", "--uds", str(socket_path)) as started:
        assert status_over(socket_path) == {"paused": False, "in_flight": 0}

        assert end(started) == 0
    assert not socket_path.exists()


@pytest.mark.parametrize("env", [{}, {"POUSSETACHES_API_TOKEN": "t"}], ids=["open", "guarded"])
@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({}, (201, 201)),
        ({"Origin": "http://evil.example"}, (403, 403)),
        ({"Sec-Fetch-Site": "cross-site"}, (403, 403)),
        ({"Host": "tasks.example"}, (421, 201)),
    ],
)
def test_unix_socket_refuses_web_pages(
    tmp_path: Path,
    socket_path: Path,
    env: dict[str, str],
    headers: dict[str, str],
    statuses: tuple[int, int],
) -> None:
    push = json.dumps({"url": "http://127.0.0.1:9/", "payload": ""})
    with (
        process(tmp_path / "data", "--uds", str(socket_path), env=env),
        closing(UnixConnection(socket_path)) as connection,
    ):
        connection.request("POST", "/", push, {"Authorization": "Bearer t", **headers})

        assert connection.getresponse().status == statuses["POUSSETACHES_API_TOKEN" in env]


def test_abandoned_unix_socket_is_replaced(tmp_path: Path, socket_path: Path) -> None:
    with process(tmp_path / "data", "--uds", str(socket_path)) as started:
        started.kill()
        started.wait()
    assert socket_path.exists()

    with process(tmp_path / "data", "--uds", str(socket_path)):
        assert status_over(socket_path) == {"paused": False, "in_flight": 0}


def test_unix_socket_of_another_server_is_not_replaced(tmp_path: Path, socket_path: Path) -> None:
    with process(tmp_path / "data", "--uds", str(socket_path)):
        said = refused(tmp_path / "other", "--uds", str(socket_path))

        assert str(socket_path) in said
        assert status_over(socket_path) == {"paused": False, "in_flight": 0}


def test_file_at_the_path_of_the_unix_socket_is_not_replaced(
    tmp_path: Path, socket_path: Path
) -> None:
    socket_path.write_text("precious")

    said = refused(tmp_path / "data", "--uds", str(socket_path))

    assert str(socket_path) in said
    assert socket_path.read_text() == "precious"
    assert not (tmp_path / "data").exists()


def test_stop_of_an_idle_server_is_clean(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert server.stop() == 0
    assert server.logged("(warning|error) ") == []


def test_attempt_in_flight_ends_and_is_recorded_while_the_server_stops(tmp_path: Path) -> None:
    with holding() as (receiver, release), serving(tmp_path / "data") as server:
        held = server.push(f"{receiver.url}/held")
        delivered(receiver, 1)
        with stopping(server) as status:
            release.set()
            assert status.result(PATIENCE) == 0

        server.start()

        assert server.ids("success") == {held}
        assert tries_of(server, "success", held) == 1
    assert len(receiver.deliveries) == 1


def test_handler_can_push_while_the_server_stops(tmp_path: Path) -> None:
    pushed: list[str] = []
    server = Server(tmp_path / "data")

    with holding(lambda: pushed.append(server.push(f"{receiver.url}/next"))) as (
        receiver,
        release,
    ):
        try:
            server.start()
            held = server.push(f"{receiver.url}/held")
            delivered(receiver, 1)
            with stopping(server) as status:
                release.set()
                assert status.result(PATIENCE) == 0
            assert [found.path for found in receiver.deliveries] == ["/held"]

            server.start()

            succeeds(server, pushed[0])
            assert server.ids("success") == {held, pushed[0]}
        finally:
            server.close()


def test_attempt_longer_than_the_drain_timeout_is_repeated(tmp_path: Path) -> None:
    with (
        holding() as (receiver, release),
        serving(tmp_path / "data", "--drain-timeout", "0.1") as server,
    ):
        held = server.push(f"{receiver.url}/held")
        delivered(receiver, 1)

        assert server.stop() == 0

        release.set()
        server.start()
        succeeds(server, held)
        assert tries_of(server, "success", held) == 1
    assert [json.loads(found.body)["tries"] for found in receiver.deliveries] == [1, 1]
    assert len({found.headers["poussetaches-request-id"] for found in receiver.deliveries}) == 2


def test_closed_terminal_stops_the_server_like_sigterm(tmp_path: Path) -> None:
    with holding() as (receiver, release), serving(tmp_path / "data") as server:
        held = server.push(f"{receiver.url}/held")
        delivered(receiver, 1)

        server.signal(signal.SIGHUP)
        wait_until(lambda: server.logged(" stopping "), bool, "the server to hear it")
        server.signal(signal.SIGHUP)
        release.set()

        assert server.status() == 0
        server.start()
        assert tries_of(server, "success", held) == 1
    assert len(receiver.deliveries) == 1


def test_closed_terminal_does_not_stop_a_server_under_nohup(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "poussetaches", "serve"]
    server = Server(tmp_path / "data")
    started = subprocess.Popen(
        [
            "/usr/bin/env",
            "nohup",
            *words,
            "--port",
            str(server.port),
            "--data-dir",
            str(server.data_dir),
        ],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(server.listens, bool, "it to listen")
        started.send_signal(signal.SIGHUP)

        assert server.request("GET", "/healthz").status == 200
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE) == 0
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_attempts_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with (
        holding() as (receiver, release),
        serving(tmp_path / "data", "--drain-timeout", "3600") as server,
    ):
        held = server.push(f"{receiver.url}/held")
        delivered(receiver, 1)
        server.signal(number)
        wait_until(lambda: server.logged(" stopping "), bool, "the server to hear it")

        assert server.stop() == 0

        release.set()
        server.start()
        succeeds(server, held)
        assert tries_of(server, "success", held) == 1


def test_waiting_requests_end_when_the_server_stops(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, ThreadPoolExecutor(1) as pool:
        pushed = json.dumps({"url": "http://127.0.0.1:9/", "delay": 3600}).encode()
        task_id = server.request("POST", "/v1/tasks", pushed).json["id"]
        waiting = pool.submit(server.request, "GET", f"/v1/tasks/{task_id}?wait=60")
        wait_until(lambda: connection_count(server), lambda count: count == 1, "the request")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", "/v1/events")
            events = connection.getresponse()
            began = time.monotonic()

            assert server.stop() == 0

            # The server would wait five seconds for them, and then cut them off.
            assert time.monotonic() - began < 4
            assert (waiting.result().status, waiting.result().json["state"]) == (200, "waiting")
            events.read()  # comes to its end


def test_start_paused_delivers_nothing_before_resume(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data", "--start-paused") as server:
        first = server.push(receiver.url)
        assert server.request("GET", "/").json == {"paused": True, "in_flight": 0}
        assert server.ids("waiting") == {first}
        assert receiver.deliveries == []

        server.request("POST", "/resume")

        succeeds(server, first)


def test_pause_survives_a_restart(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data") as server:
        server.request("POST", "/pause")
        task = server.push(receiver.url)
        assert server.stop() == 0

        server.start()

        assert server.request("GET", "/").json["paused"] is True
        assert server.ids("waiting") == {task}
        server.request("POST", "/resume")
        succeeds(server, task)
        assert server.stop() == 0
        server.start()
        assert server.request("GET", "/").json["paused"] is False


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_healthy_server_answers_200(tmp_path: Path, path: str) -> None:
    with serving(tmp_path / "data") as server:
        answer = server.request("GET", path)

    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_key_is_sent_to_the_application(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path / "data") as server:
        succeeds(server, server.push(receiver.url))

    assert receiver.deliveries[0].headers["poussetaches-auth-key"] == KEY


def test_json_log_is_json_in_every_line_and_has_no_payload_and_no_key(tmp_path: Path) -> None:
    payload = b"a private matter"
    server = Server(tmp_path / "data")
    flags = ("--port", str(server.port), "--log-format", "json", "--log-level", "debug")
    with (
        receiving(lambda found: 500 if found.path == "/fails" else 200) as receiver,
        process(server.data_dir, *flags) as started,
    ):
        good = server.push(receiver.url, payload)
        bad = server.push(f"{receiver.url}/fails", payload)
        server.push(f"http://127.0.0.1:{free_port()}/", payload)
        server.push(receiver.url, payload, schedule="@every 1s")
        server.request("POST", "/", b'{"url": "http://app/", "payload": "a private matter"}')
        succeeds(server, good)
        wait_until(lambda: server.ids("dead"), lambda ids: bad in ids, "the task to die")
        wait_until(lambda: server.logged("origin held"), bool, "the log of a held origin")
        wait_until(lambda: server.logged("schedule fired"), bool, "the log of a schedule")
        assert end(started) == 0

    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "event"} <= set(line) for line in lines)
    assert {"listening", "stopped"} <= {line["event"] for line in lines}
    encoded = json.loads(receiver.deliveries[0].body)["payload"]
    for secret in (payload.decode(), encoded, KEY):
        assert secret not in text
