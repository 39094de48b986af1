"""A log without a reader, or that cannot be written, blocks nothing."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    PATIENCE,
    Receiver,
    Server,
    clean_environment,
    receiving,
    wait_until,
)
from tests.acceptance.test_run import Application

TASKS = 200  # a line of 180 bytes each; the pipe holds 4 KiB
POUSSETACHES = [sys.executable, "-m", "poussetaches"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Return the server, which tests start themselves."""
    return Server(tmp_path / "data")


@contextmanager
def started(
    words: Sequence[str], server: Server, *, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, env=clean_environment(), stderr=stderr)
    try:
        wait_until(server.listens, bool, "it to listen")
        yield process
    finally:
        process.kill()
        process.communicate()


def deliver_many(server: Server, receiver: Receiver) -> None:
    body = json.dumps({"tasks": [{"url": f"{receiver.url}/run"}] * TASKS}).encode()
    assert server.request("POST", "/v1/tasks/batch", body).status == 201
    wait_until(lambda: len(receiver.deliveries), lambda count: count == TASKS, "deliveries")


def own_flags(server: Server) -> list[str]:
    return ["--port", str(server.port), "--data-dir", str(server.data_dir)]


def test_serve_continues_without_a_reader_of_its_log(server: Server, receiver: Receiver) -> None:
    words = [*POUSSETACHES, "serve", *own_flags(server)]
    with started(words, server, stderr=subprocess.PIPE) as process:
        check_continues(process, server, receiver)


def test_run_continues_without_a_reader_of_its_log(
    server: Server, receiver: Receiver, tmp_path: Path
) -> None:
    application = Application(tmp_path / "application")
    base = ["--base-url", application.url]
    words = [*POUSSETACHES, "run", *own_flags(server), *base, "--", *application.command]
    with started(words, server, stderr=subprocess.PIPE) as process:
        application.wait_for_event(event="asked")
        check_continues(process, server, receiver)


def check_continues(process: subprocess.Popen[bytes], server: Server, receiver: Receiver) -> None:
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)

    deliver_many(server, receiver)
    health = server.request("GET", "/healthz").status
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)

    assert health == 200
    assert process.returncode >= 0
    assert len(process.stderr.read()) < TASKS * 100


def test_server_with_closed_standard_error_does_not_reuse_its_descriptor(
    server: Server, receiver: Receiver
) -> None:
    words = [*POUSSETACHES, "serve", *own_flags(server)]
    with started(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], server) as process:
        deliver_many(server, receiver)
        in_its_place = Path(f"/proc/{process.pid}/fd/2").readlink()
        process.send_signal(signal.SIGTERM)
        status = process.wait(PATIENCE)

    assert (str(in_its_place), status) == ("/dev/null", 0)
