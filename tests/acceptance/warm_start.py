"""Starts of poussetaches without the time to import it.

Each process of tests has a template process that has imported everything, and forks for each
start: 80 ms of CPU time instead of 330 for a server. ``COLD_START=1`` starts new interpreters,
as a user does; so do tests of the start itself.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

PROGRAM = (sys.executable, "-m", "poussetaches")
ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).with_name("start_template.py")
MAX_ANSWER = 64  # bytes
IS_WARM = os.environ.get("COLD_START") != "1"


class Process(Protocol):
    """The part of ``subprocess.Popen`` that tests use."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return its exit status."""

    def send_signal(self, sig: int) -> None:
        """Send a signal unless it has ended."""

    def kill(self) -> None:
        """Kill it."""


class Template:
    """The process that forks for each start. It ends with the process of tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(TEMPLATE), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        atexit.register(self._close)

    def ask(self, request: Mapping[str, object], files: Sequence[int] = ()) -> int:
        """Send a request and return its result."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            return int(self._socket.recv(MAX_ANSWER))

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def template() -> Template:
    """Return the template process, which is started by the first call."""
    return Template()


class WarmProcess:
    """A process that the template started; it has the interface of ``Popen``."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        files: Sequence[int] = (0, 1, 2),
    ) -> None:
        """``files`` are the standard input, output and error."""
        request = {"words": words, "env": dict(env), "cwd": str(cwd or Path.cwd())}
        self.pid = template().ask(request, files)
        self._returncode: int | None = None
        self._pidfd = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return its exit status."""
        if self._returncode is None:
            if not select.select([self._pidfd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("poussetaches", timeout or 0)
            self._returncode = template().ask({"pid": self.pid})
            os.close(self._pidfd)
        return self._returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, sig)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def start(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    files: Sequence[int] = (0, 1, 2),
) -> Process:
    """Start poussetaches. ``files`` are its standard input, output and error."""
    if IS_WARM:
        return WarmProcess(words, env=env, cwd=cwd, files=files)
    stdin, stdout, stderr = files
    return subprocess.Popen(
        [*PROGRAM, *words], env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr
    )


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    given: str = "",
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` does."""
    given_out, given_in = os.pipe()
    outputs = [os.pipe(), os.pipe()]
    theirs = [given_out, *(into for _, into in outputs)]
    process = start(words, env=env, cwd=cwd, files=theirs)
    for file in theirs:
        os.close(file)
    readers = [_Reader(os.fdopen(out, encoding="utf-8")) for out, _ in outputs]
    with suppress(BrokenPipeError), os.fdopen(given_in, "w") as into:
        into.write(given)  # unless it ends without reading
    try:
        status = process.wait(timeout)
    finally:
        process.kill()
    stdout, stderr = (reader.text() for reader in readers)
    return subprocess.CompletedProcess([*PROGRAM, *words], status, stdout, stderr)


class _Reader:
    """Reads a file to its end in a thread."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._file as file:
            self._text = file.read()

    def text(self) -> str:
        """Return everything that was written, also by processes that it started."""
        self._thread.join()
        return self._text
