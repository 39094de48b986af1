"""Handlers that call ``sys.exit()`` and the like, under real servers of applications."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.harness import KEY, PATIENCE, clean_environment, free_port, wait_until

FLASK = """
import os, sys
from flask import Flask
from poussetaches.flask import Tasks

app = Flask(__name__)
tasks = Tasks(app)
"""
FASTAPI = """
import os, sys
from fastapi import FastAPI
from poussetaches.fastapi import Tasks

app = FastAPI()
tasks = Tasks(app)
"""
HANDLERS = """

@tasks.task(name="pid")
def pid() -> int:
    return os.getpid()


@tasks.task(name="exits")
def exits() -> None:
    sys.exit(3)


@tasks.task(name="stops")
def stops() -> None:
    raise StopIteration
"""
BIND = ("-b", "127.0.0.1:{port}", "app:app")
SERVERS = {
    "gunicorn": (FLASK, ["gunicorn", *BIND]),
    "gunicorn with threads": (FLASK, ["gunicorn", "--threads", "2", *BIND]),
    "flask run": (FLASK, ["flask", "--app", "app", "run", "-p", "{port}"]),
    "uvicorn": (FASTAPI, ["uvicorn", "--port", "{port}", "app:app"]),
}


def deliver(port: int, name: str) -> tuple[int, bytes]:
    """Deliver a task; return the answer's status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Poussetaches-Auth-Key": KEY, "Content-Type": "application/json"}
        connection.request("POST", f"/_poussetaches/{name}", b"{}", headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", SERVERS)
def test_handler_that_exits_leaves_its_server_running(tmp_path: Path, name: str) -> None:
    code, command = SERVERS[name]
    (tmp_path / "app.py").write_text(code + HANDLERS)
    port = free_port()
    words = [word.format(port=port) for word in command]
    environ = {**clean_environment(), "POUSSETACHES_AUTH_KEY": KEY}
    environ["POUSSETACHES_URL"] = "http://127.0.0.1:1"  # no server to declare anything at
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environ, stdout=log, stderr=log
        )
    try:

        def pid() -> int | None:
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                return int(deliver(port, "pid")[1])
            except (OSError, http.client.HTTPException):
                return None

        before = wait_until(pid, bool, "the server to answer")
        assert before is not None
        exits, stops = deliver(port, "exits"), deliver(port, "stops")
        after = pid()
    finally:
        server.terminate()
        server.wait(PATIENCE)

    assert (exits, stops) == ((500, b"SystemExit: 3\n"), (500, b"StopIteration: \n"))
    assert after == before != os.getpid()
    assert b"SystemExit: 3" in (tmp_path / "log").read_bytes()
