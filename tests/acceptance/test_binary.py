"""The executable of ``make binary``, without Python on the PATH; run by ``make test-binary``."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    CLOSED_PORT,
    PATIENCE,
    Server,
    free_port,
    holding,
    receiving,
    serving,
    wait_until,
)

BINARY = Path(os.environ["BINARY"]).resolve()
FIRST_ANSWER = 1.0  # seconds; of one start at least
STARTS = 3
OLD = 3600.0  # seconds


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that contains only the executable and belongs to the user that runs it."""
    made = Path(tempfile.mkdtemp())
    shutil.copy(BINARY, made)
    (made / "tmp").mkdir()
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (made, *made.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    yield made
    shutil.rmtree(made)


def program(folder: Path, *variables: str) -> list[str]:
    """Return the command that starts the executable as another user with an empty environment."""
    words = ["/usr/bin/env", "-i", f"--chdir={folder}", f"TMPDIR={folder / 'tmp'}", *variables]
    if os.getuid() == 0:
        group = str(pwd.getpwnam("nobody").pw_gid)
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "setpriv is missing: sudo apt install util-linux"
        words = [setpriv, "--reuid=nobody", f"--regid={group}", "--clear-groups", *words]
    return [*words, str(folder / BINARY.name)]


def children(process_id: int) -> list[int]:
    path = Path(f"/proc/{process_id}/task/{process_id}/children")
    return [int(word) for word in path.read_text().split()]


def processor_time(process_id: int) -> float:
    """Return the CPU time of a process in seconds, user and system."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/exe").exists()  # which zombies do not have


def unpacked(folder: Path) -> list[Path]:
    return list((folder / "tmp").glob("_MEI*"))


def test_task_is_delivered_although_the_server_was_killed(folder: Path) -> None:
    with (
        receiving() as receiver,
        serving(folder / "data", "--start-paused", program=program(folder)) as server,
    ):
        task_id = server.push(receiver.url)
        [child] = children(server.pid)
        server.kill()
        wait_until(lambda: is_there(child), lambda there: not there, "the program to end, too")
        assert receiver.deliveries == []

        server.start()
        server.request("POST", "/resume")
        wait_until(lambda: receiver.deliveries, bool, "the task to be delivered")

        assert [each.task_id for each in receiver.deliveries] == [task_id]
        assert server.stop() == 0
    assert {path.name for path in folder.iterdir()} == {BINARY.name, "data", "data.log", "tmp"}


def test_first_answer_comes_within_a_second_of_processor_time(folder: Path) -> None:
    # Loader and program never run at the same time, so this is the time on an idle machine.
    times = []
    for number in range(STARTS):
        with serving(folder / f"data{number}", program=program(folder)) as server:
            times.append(sum(map(processor_time, [server.pid, *children(server.pid)])))

    assert min(times) < FIRST_ANSWER, times


def test_files_of_a_killed_program_are_removed_at_the_next_start(folder: Path) -> None:
    with serving(folder / "data", program=program(folder)) as server:
        server.kill()
        [left] = unpacked(folder)
        os.utime(left, (time.time() - OLD,) * 2)
        with serving(folder / "other", program=program(folder)):
            [held] = set(unpacked(folder)) - {left}
            os.utime(held, (time.time() - OLD,) * 2)

            server.start()

            assert held in unpacked(folder)
            assert left not in unpacked(folder)
            assert server.stop() == 0


def test_signal_to_loader_and_program_is_one_request_to_stop(folder: Path) -> None:
    with (
        holding() as (receiver, release),
        serving(folder / "data", program=program(folder)) as server,
    ):
        server.push(f"{receiver.url}/held")
        wait_until(lambda: receiver.deliveries, bool, "the task to be delivered")
        [child] = children(server.pid)

        # As systemd does it with all processes of a service.
        os.kill(child, signal.SIGTERM)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.logged(" stopping "), bool, "the server to hear it")
        release.set()

        assert server.status() == 0
        assert unpacked(folder) == []
        server.start()
        assert len(server.listing("success")) == 1  # the attempt was not cut off


def test_time_zones_are_known(folder: Path) -> None:
    with serving(folder / "data", program=program(folder)) as server:
        for zone, status in {"Europe/Paris": 201, "Asia/Kolkata": 201, "Mars/Base": 422}.items():
            schedule = {"cron": "0 6 * * *", "timezone": zone, "task": {"url": CLOSED_PORT}}
            path = f"/v1/schedules/{zone.partition('/')[0].lower()}"
            answer = server.request("PUT", path, json.dumps(schedule).encode())

            assert answer.status == status, answer


APPLICATION = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        json.dump(dict(os.environ), open(sys.argv[2] + ".new", "w"))
        os.rename(sys.argv[2] + ".new", sys.argv[2])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_application_gets_the_environment_of_the_executable(folder: Path) -> None:
    port, server = free_port(), Server(folder / "data")  # for its requests alone
    script, written = folder / "app.py", folder / "environment"
    script.write_text(APPLICATION)
    # The folder is the application's: its user cannot read the tests' Python, but the system's.
    python = "/usr/bin/python3"
    assert Path(python).exists(), "install Debian's python3: this test runs an application with it"
    given = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(folder)}
    with (folder / "run.log").open("wb") as log:
        run = subprocess.Popen(
            [
                *program(folder, *(f"{name}={value}" for name, value in given.items())),
                *("run", "--port", str(server.port), "--base-url", f"http://127.0.0.1:{port}"),
                *("--", "python3", str(script), str(port), str(written)),
            ],
            stderr=log,
        )
    try:
        wait_until(server.listens, bool, "it to listen")
        server.push(f"http://127.0.0.1:{port}/hello")
        wait_until(written.exists, bool, "the task to be delivered")
        environment = json.loads(written.read_text())
        run.terminate()

        assert run.wait(PATIENCE) == 0
        ours = {name for name in environment if name.startswith("POUSSETACHES_")}
        others = {name: environment[name] for name in environment.keys() - ours - {"LC_CTYPE"}}
        assert others == {**given, "TMPDIR": str(folder / "tmp")}
    finally:
        run.kill()
        run.wait()


def test_crash_test_runs_its_own_servers(folder: Path) -> None:
    ran = subprocess.run(
        [*program(folder), "verify", "--crash-test", "--kills", "2", "--seconds", "3"],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("command", ["check", "verify", "backup", "export", "import"])
def test_other_commands_start(folder: Path, command: str) -> None:
    ran = subprocess.run(
        [*program(folder), command, "--no-such-option"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert ran.returncode == 2
    assert ran.stderr.startswith("poussetaches: no such option: --no-such-option")
