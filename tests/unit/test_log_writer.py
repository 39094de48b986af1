"""Log lines are written by a thread, however slow their reader is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from poussetaches.logs.writer import LineWriter

LINE = b"x" * 99 + b"\n"
REPORT = b"lines were dropped: "
PATIENCE = 120.0  # seconds; only a failing test waits this long


class Pipe:
    """A pipe with room for 4 KiB."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, 4096)
        self.writer = LineWriter(self.into, report=report, most=20_000)

    def read_until(self, end: bytes) -> bytes:
        """Return what was written, up to and including the line that contains ``end``."""
        text = b""
        while end not in text or not text.endswith(b"\n"):
            text += os.read(self.out, 65_536)
        return text

    def close(self) -> None:
        """End the writer's thread, even if it is blocked."""
        os.close(self.out)
        self.writer.flush()
        self.writer.close()
        os.close(self.into)


def report(count: int) -> bytes:
    return b"%b%d\n" % (REPORT, count)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_dropped_lines_are_counted_and_reported_once_there_is_a_reader(pipe: Pipe) -> None:
    for _ in range(1000):
        pipe.writer.write(LINE)
    dropped = pipe.writer.dropped_count

    text = pipe.read_until(REPORT)
    assert pipe.writer.flush(PATIENCE)  # until then, there may be no room for another line
    pipe.writer.write(b"after\n")

    assert 700 < dropped < 1000
    assert text == LINE * (1000 - dropped) + report(dropped)
    assert pipe.read_until(b"after") == b"after\n"


def test_flush_waits_for_its_limit_at_most(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.write(LINE)

    was_written = pipe.writer.flush(0)
    pipe.writer.write(b"end\n")
    pipe.read_until(b"end")

    assert not was_written
    assert pipe.writer.flush()


def test_lines_are_dropped_when_the_reader_is_gone(pipe: Pipe) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.out)

    for _ in range(3):
        pipe.writer.write(LINE)
        pipe.writer.flush()

    assert pipe.writer.dropped_count == 3


def test_all_lines_are_written_to_a_non_blocking_pipe(pipe: Pipe) -> None:
    """Another process that shares the pipe may have set it so; writes fail while it is full."""
    os.set_blocking(pipe.into, False)
    for _ in range(100):
        pipe.writer.write(LINE)
    pipe.writer.write(b"end\n")

    assert pipe.read_until(b"end") == LINE * 100 + b"end\n"
    assert pipe.writer.dropped_count == 0


def test_close_does_not_wait_for_a_reader(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.write(LINE)

    pipe.writer.close()
    pipe.writer.write(b"too late\n")

    assert pipe.writer.dropped_count == 1
