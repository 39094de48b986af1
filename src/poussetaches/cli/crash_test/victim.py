"""A server that is started and killed."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from poussetaches.client import Client
from poussetaches.client.errors import ClientError
from poussetaches.core.errors import PousseTachesError
from poussetaches.program import own_command, own_environment

START_LIMIT = 60.0  # seconds; a start after a crash reads what the log holds
LOOK = 0.02  # seconds between two looks


class CrashTestFailed(PousseTachesError):
    """The crash test could not be carried out."""


class VictimServer:
    """``poussetaches serve`` in a process of its own, on a port that stays the same."""

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
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and do not wait for it."""
        # Settings of the machine's own server are not for this one.
        env = {name: value for name, value in os.environ.items() if "POUSSETACHES" not in name}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                self._command, env=own_environment(env), stderr=log, stdout=log
            )

    def wait_until_it_listens(self) -> None:
        """Wait for its first answer.

        Raises:
            CrashTestFailed: it ended by itself, or takes too long.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None:
                raise CrashTestFailed(f"the server did not start: {self._log} says why")
            if time.monotonic() > deadline:
                raise CrashTestFailed(f"the server does not answer: see {self._log}")
            time.sleep(LOOK)

    def kill(self) -> None:
        """End it as a power cut would: kill -9. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def unfinished(self) -> int:
        """Return how many tasks are waiting or running."""
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
