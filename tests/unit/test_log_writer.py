"""Lines are written without waiting for whoever reads them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from poussetaches.logs.writer import LineWriter

LINE = b"x" * 99 + b"\n"
REPORT = b"lines were dropped: "


class Pipe:
    """A pipe with room for 4 KiB."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, 4096)
        self.writer = LineWriter(self.into, report=report, most=20_000)

    def read_until(self, end: bytes) -> bytes:
        """Return what was written, up to the line that begins so."""
        text = b""
        while end not in text or not text.endswith(b"\n"):
            text += os.read(self.out, 65_536)
        return text

    def close(self) -> None:
        """Let the writer's thread end, whatever it is at."""
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


def test_what_nobody_reads_is_dropped_and_its_number_told_when_somebody_does(pipe: Pipe) -> None:
    for _ in range(1000):
        pipe.writer.write(LINE)
    dropped = pipe.writer.dropped_count

    text = pipe.read_until(REPORT)
    pipe.writer.write(b"after\n")

    assert 700 < dropped < 1000
    assert text == LINE * (1000 - dropped) + report(dropped)
    assert pipe.read_until(b"after") == b"after\n"


def test_flush_waits_no_longer_than_it_is_told(pipe: Pipe) -> None:
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


def test_pipe_that_does_not_wait_is_waited_for(pipe: Pipe) -> None:
    """Others that share it may have set it so, and then a write fails when there is no room."""
    os.set_blocking(pipe.into, False)
    for _ in range(100):
        pipe.writer.write(LINE)
    pipe.writer.write(b"end\n")

    assert pipe.read_until(b"end") == LINE * 100 + b"end\n"
    assert pipe.writer.dropped_count == 0


def test_end_waits_for_nobody(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.write(LINE)

    pipe.writer.close()
    pipe.writer.write(b"too late\n")

    assert pipe.writer.dropped_count == 1
