"""Parses the output of py-spy and strace: stacks by part, and system calls."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

# A frame is "function (file:line)", or "function (library)" where no file is known.
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)")

FILES = "kernel: SQLite's files, waits for fsync included"
OTHER_CALLS = "kernel: network, wake-ups"
SERVER = "HTTP server"
CLIENT = "HTTP client"
PARSER = "parsing HTTP: httptools"
LOOP = "event loop: uvloop, asyncio"
SQLITE = "SQLite"
GARBAGE = "garbage collection"
REST = "rest"

# The part of a file or library, by the beginning of its name. Others (the standard library,
# the interpreter, C libraries) belong to the part of their caller.
PARTS = {
    "starlette/": SERVER,
    "httptools/": PARSER,
    "parser.c": PARSER,  # of httptools
    "llhttp.c": PARSER,
    "loop.c": LOOP,
    "_asynciomodule.c": LOOP,
    "asyncio/": LOOP,
    "uvloop/": LOOP,
    "poussetaches/api/": "API",
    "poussetaches/core/": "core",
    "poussetaches/store/": "store, its Python",
    "poussetaches/engine/": "engine",
    "poussetaches/http_client/": CLIENT,
    "aiohappyeyeballs/": CLIENT,
    "poussetaches/server/": SERVER,
    "libsqlite3": SQLITE,
    "sqlite3": SQLITE,
    "_sqlite3": SQLITE,
    "cursor.c": SQLITE,  # of Python's module
    "msgspec/": "JSON: msgspec",
    "poussetaches/": LOOP,  # the code that runs the loop, at the bottom of every stack
}
CALLS = {
    "read", "readv", "write", "writev", "send", "sendto", "sendmsg", "recv", "recvfrom", "recvmsg",
    "getpid", "pread64", "pwrite64", "fsync", "fdatasync", "fcntl64", "ftruncate64", "epoll_ctl",
}  # fmt: skip
WAITS = {
    "PyThread_acquire_lock_timed", "pthread_cond_wait", "pthread_cond_timedwait", "sem_wait",
    "sem_clockwait", "epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "syscall",
}  # fmt: skip
NEAR = 3  # frames between a system call, or a wait, and its caller


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Return the share of each part in the samples that were not idle, from 0 to 1.

    A line is a stack, outermost frame first, parted by semicolons, and how often it was found.
    """
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, times = line.rpartition(" ")
        part = part_of(stack.split(";"))
        if part is not None:
            found[part] += int(times)
    return {part: times / found.total() for part, times in found.most_common()}


def part_of(stack: Sequence[str]) -> str | None:
    """Return the part of a stack, None if it was idle."""
    frames = [_split(frame) for frame in reversed(stack)]
    nearest = {function for function, file in frames[:NEAR] if not file.endswith(".py")}
    if nearest & WAITS:
        return None
    if nearest & CALLS:
        with_sqlite = any(_owner(file) == SQLITE for _, file in frames)
        return FILES if with_sqlite else OTHER_CALLS
    if any(function.startswith("gc_collect") for function, _ in frames):
        return GARBAGE
    owners = (_owner(file) for _, file in frames)
    return next((owner for owner in owners if owner is not None), REST)


def _split(frame: str) -> tuple[str, str]:
    match = _FRAME.fullmatch(frame)
    return (match["function"], match["file"]) if match else (frame, "")


def _owner(file: str) -> str | None:
    return next((part for start, part in PARTS.items() if file.startswith(start)), None)


def calls_of(lines: Iterable[str]) -> dict[str, int]:
    """Return the number of each system call, from the table of ``strace -c``."""
    found = {}
    for line in lines:
        fields = line.split()  # part, seconds, µs a call, calls, errors if any, name
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            found[fields[-1]] = int(fields[3])
    return found
