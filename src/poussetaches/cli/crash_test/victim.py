"""The server that the crash test starts and kills."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from poussetaches.client import Client
from poussetaches.client.errors import ClientError
from poussetaches.core.errors import PousseTachesError
from poussetaches.relaunch import own_command, own_environment

START_LIMIT = 60.0  # seconds; after a crash, the start reads the database's log
POLL = 0.02  # seconds


class CrashTestFailed(PousseTachesError):
    """The crash test could not be carried out."""


class VictimServer:
    """``poussetaches serve`` in its own process, always on the same port."""

    def __init__(self, data_dir: Path, *, concurrency: int) -> None:
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        self._port = _free_port()
        self._command = [
            *own_command("serve", "--port", str(self._port), "--data-dir", str(data_dir)),
            *("--concurrency", str(concurrency), "--log-level", "warning"),
        ]
        self._client = Client(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server without waiting for it."""
        # Without the settings of the machine's own server.
        env = {name: value for name, value in os.environ.items() if "POUSSETACHES" not in name}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                self._command, env=own_environment(env), stderr=log, stdout=log
            )

    def wait_until_it_listens(self) -> None:
        """Wait for the first response.

        Raises:
            CrashTestFailed: the server ended, or takes too long.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None:
                raise CrashTestFailed(f"the server did not start; see {self._log}")
            if time.monotonic() > deadline:
                raise CrashTestFailed(f"the server does not respond; see {self._log}")
            time.sleep(POLL)

    def kill(self) -> None:
        """Kill the server with kill -9. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def unfinished(self) -> int:
        """Return the number of waiting and running tasks."""
        counts = self._client.queue("default").counts
        return counts.waiting + counts.running

    def _answers(self) -> bool:
        try:
            self._client.stats(minutes=1)
        except ClientError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
