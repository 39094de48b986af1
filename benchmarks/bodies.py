"""The bodies and requests that the benchmarks send."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import repeat

from benchmarks.load import request_of

BODY = b'{"user": 42, "text": "' + b"x" * 170 + b'"}'  # nearly 200 bytes, as many tasks have
BATCH = 10_000


def push_of(url: str, body: bytes = BODY, **fields: object) -> bytes:
    """Return a task with a JSON body, as it is pushed."""
    start = json.dumps({"url": url, **fields}).encode()
    return start[:-1] + b', "json": ' + body + b"}"


def pushes(url: str, count: int) -> Iterator[bytes]:
    """Return requests that push the same task."""
    return repeat(request_of(push_of(url)), count)


def batches(tasks: Sequence[bytes], count: int, size: int = BATCH) -> Iterator[bytes]:
    """Return the bodies of batches with this many tasks in all, which repeat the given ones."""
    lines = [task + b"\n" for task in tasks]
    for start in range(0, count, size):
        many = min(size, count - start)
        if len(lines) == 1:
            yield lines[0] * many
        else:
            yield b"".join(lines[(start + n) % len(lines)] for n in range(many))
