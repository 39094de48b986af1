"""A process that has imported poussetaches, and forks for every start; see ``warm_start``."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from poussetaches import cli
from poussetaches.__main__ import main

MAX_REQUEST = 1024 * 1024  # bytes
STANDARD_FILES = 3
# Imported when they are needed: by commands, by uvicorn, and by the standard library.
LATE_IMPORTS = (
    *(module.name for module in pkgutil.walk_packages(cli.__path__, f"{cli.__name__}.")),
    "poussetaches.api.metrics",
    "poussetaches.client.async_connections",
    "poussetaches.client.blocking_connections",
    "poussetaches.server",
    "rich.progress",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)


class Start(NamedTuple):
    """The arguments, the environment and the files of a process to start."""

    words: list[str]
    env: dict[str, str]
    cwd: str
    files: list[int]


def start_requested(requests: socket.socket) -> Start | None:
    """Fork for each request; return its content in the new process, None at the end."""
    while True:
        content, files, _, _ = socket.recv_fds(requests, MAX_REQUEST, STANDARD_FILES)
        if not content:
            return None
        request: dict[str, Any] = json.loads(content)
        if "pid" in request:
            _, status = os.waitpid(request["pid"], 0)
            requests.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            return Start(**request, files=files)
        for file in files:
            os.close(file)
        requests.send(b"%d" % pid)


def become(start: Start) -> None:
    """Change what a new interpreter would have had from its beginning."""
    for number, file in enumerate(start.files):
        os.dup2(file, number)
    os.closerange(STANDARD_FILES, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(start.env)
    time.tzset()
    os.chdir(start.cwd)
    sys.path[0] = start.cwd
    sys.argv[1:] = start.words
    # As an interpreter opens them: lines at once on a terminal and on the standard error.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run() -> int:
    """Serve requests; in the processes started, run the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests end it by closing the socket
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # the processes share the memory of what is imported
    requests = socket.socket(fileno=int(sys.argv[1]))
    start = start_requested(requests)
    requests.detach() if start else requests.close()
    if start is None:
        return 0
    become(start)
    return main()


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    sys.exit(run())
