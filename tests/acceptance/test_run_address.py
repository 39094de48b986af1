"""The addresses of ``poussetaches run``: the server's own, and the application's."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poussetaches.server.port_owner import is_taken
from tests.acceptance.harness import free_port, receiving, serving, wait_until
from tests.acceptance.test_run import Run, state_of

SHOP = "from flask import Flask\napp = Flask(__name__)\napp.post('/welcome')(lambda: 'welcome')\n"


def flask_command(folder: Path, port: int) -> list[str]:
    """Return a command whose address can be read from its arguments."""
    shop = folder / "shop.py"
    shop.write_text(SHOP)
    return [sys.executable, "-m", "flask", "--app", str(shop), "run", "-p", str(port)]


class AnyPortRun(Run):
    """A ``poussetaches run`` without ``--port``, whose address is read from its file."""

    @property
    def words(self) -> list[str]:
        words = super().words
        place = words.index("--port")
        return words[:place] + words[place + 2 :]

    def find(self) -> str:
        """Wait for the file with the address, and use that from now on."""
        file = self.data_dir / "address"
        address = wait_until(
            lambda: file.read_text().strip() if file.exists() else "", bool, "the file address"
        )
        self.port = int(address.rpartition(":")[2])
        return address


@contextlib.contextmanager
def default_port_in_use() -> Iterator[None]:
    """Listen on 7991, unless another process does already."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", 7991))
            other.listen()
        yield


def test_run_listens_on_a_free_port_when_the_default_one_is_in_use(tmp_path: Path) -> None:
    run = AnyPortRun(tmp_path / "data", flask_command(tmp_path, free_port()))
    try:
        with default_port_in_use():
            run.start_process()
            address = run.find()
            task_id = run.push_path("/welcome")
            wait_until(lambda: state_of(run, task_id), "succeeded".__eq__, "it to succeed")

        assert not address.endswith(":7991")
        assert run.logged(f"info .*listening .*address={address}")
        assert run.logged(
            "info .*tasks are delivered to the application .*base_url=http://127.0.0.1:.*"
            "allow_target=all key_target=127.0.0.1"
        )
        file = re.escape(f"POUSSETACHES_URL=$(cat {run.data_dir}/address)")
        assert run.logged(
            f" warning .*port is in use .* port=7991 address={address} advice=.*{file}"
        )
        run.stop()
        assert not (run.data_dir / "address").exists()
    finally:
        run.close()


def test_server_writes_its_address_into_the_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "data" / "address"
    with serving(tmp_path / "data") as server:
        assert file.read_text() == f"{server.url}\n"
        assert file.stat().st_mode & 0o777 == 0o600
        server.stop()

    assert not file.exists()


def test_run_refuses_to_start_where_another_program_listens(tmp_path: Path) -> None:
    with receiving() as stranger:
        port = int(stranger.url.rpartition(":")[2])
        run = Run(tmp_path / "data", flask_command(tmp_path, port))

        status, said = run.refused()

    assert status == 1
    assert f"already listens at http://127.0.0.1:{port}" in said.splitlines()[-1]
    assert stranger.deliveries == []


def test_other_program_at_the_applications_address_gets_nothing(
    tmp_path: Path,
) -> None:
    port = free_port()
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gunicorn"  # a known name; this one waits forever
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    run = Run(tmp_path / "data", [str(program), "-b", f"127.0.0.1:{port}", "app:app"])
    try:
        run.start()
        run.wait_for_line("application started")  # before that, run itself refuses the address
        with receiving(port=port) as stranger:
            run.push_path("/welcome")
            run.wait_for_line("another program listens in place of the application")
            assert stranger.deliveries == []
        run.stop()
    finally:
        run.close()


# Listens at the address behind -b, and ends some time after SIGTERM: once a file is there.
SLOW_TO_END = """#!{python}
import signal, socket, sys, threading
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
host, _, port = sys.argv[sys.argv.index("-b") + 1].partition(":")
listener = socket.create_server((host, int(port)))
signal.sigwait({{signal.SIGTERM}})
while not Path({release!r}).exists():
    threading.Event().wait(0.02)
"""


def slow_to_end(folder: Path, port: int, release: Path) -> list[str]:
    """Return the command of an application that ends once ``release`` exists."""
    program = folder / "gunicorn"
    program.write_text(SLOW_TO_END.format(python=sys.executable, release=str(release)))
    program.chmod(0o755)
    return [str(program), "-b", f"127.0.0.1:{port}", "app:app"]


@contextmanager
def run_after_a_kill(folder: Path) -> Iterator[tuple[Run, Path]]:
    """Start ``run`` again after a kill; yield it and the file that ends the first application."""
    port, release = free_port(), folder / "release"
    run = Run(folder / "data", slow_to_end(folder, port, release))
    try:
        run.start()
        wait_until(lambda: is_taken("127.0.0.1", port), bool, "the application to listen")
        run.kill()
        run.start()
        run.wait_for_line("waiting for the application of an earlier run to end .*limit=45")
        yield run, release
    finally:
        release.touch()
        run.close()


def test_run_waits_for_the_application_of_a_killed_run_to_end(tmp_path: Path) -> None:
    with run_after_a_kill(tmp_path) as (run, release):
        release.touch()
        starts = wait_until(
            lambda: run.logged("application started"),
            lambda lines: len(lines) == 2,
            "the application to be started again",
        )

        assert starts[1] > run.logged("waiting for")[0]
        assert run.stop() == 0


def test_run_that_waits_for_an_earlier_application_can_be_stopped(tmp_path: Path) -> None:
    with run_after_a_kill(tmp_path) as (run, _):
        assert run.stop() == 0
        assert len(run.logged("application started")) == 1


def test_command_that_listens_at_another_port_than_the_base_url_is_warned_about(
    tmp_path: Path,
) -> None:
    port, other = free_port(), free_port()
    url = f"http://127.0.0.1:{other}"
    run = Run(tmp_path / "data", flask_command(tmp_path, port), "--base-url", url)
    try:
        run.start()
        run.wait_for_line(
            " warning .*the command listens at another port than base_url"
            f" url=http://127.0.0.1:{port} base_url={url} advice="
        )
        run.stop()
    finally:
        run.close()


def test_other_name_of_the_same_address_causes_no_warning(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://localhost:{port}"
    run = Run(tmp_path / "data", flask_command(tmp_path, port), "--base-url", url)
    try:
        run.start()
        run.wait_for_line("application answers")

        assert not run.logged("than base_url")
        run.stop()
    finally:
        run.close()


def test_base_url_of_a_proxy_is_used_with_a_warning(tmp_path: Path) -> None:
    with receiving() as proxy:
        url = proxy.url.replace("//", "//user:password@")
        run = Run(tmp_path / "data", ["sleep", "1000"], "--base-url", url)
        try:
            run.start()
            run.push_path("/welcome")
            wait_until(
                lambda: [each.path for each in proxy.deliveries],
                lambda paths: "/welcome" in paths,
                "the delivery",
            )
            assert run.logged("base URL is in use before the application was started")
            assert "password" not in run.log.read_text()
            run.stop()
        finally:
            run.close()
