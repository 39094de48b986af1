"""Profiles the sidecar: its CPU time by part, and its system calls."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, servers
from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import BATCH, push_of, pushes
from benchmarks.measuring import as_part, in_us, scaled
from benchmarks.rounds import Round, batch_round, drain_round, push_round
from benchmarks.sidecar import Sidecar, fresh
from benchmarks.stacks import calls_of, shares
from benchmarks.target import Target

SINGLES = scaled(40_000, quick=4_000)
IN_BATCHES = scaled(200_000, quick=20_000)
TRACED = scaled(2_000, quick=500)  # few, since tracing slows down each system call
TRACED_IN_BATCHES = BATCH
LEAST_PART, LEAST_CALLS = 0.005, 0.02  # minimum for a row: share of the samples, calls per task

PY_SPY = Path(sys.executable).parent / "py-spy"
# A sample stops the sidecar for some milliseconds, so samples are rare.
STRACE = servers.found("strace")
SAMPLING = f"{PY_SPY} record --native --threads --rate 100 --format raw --duration 600"


@dataclass(frozen=True)
class Work:
    """An operation of the sidecar."""

    name: str
    run: Callable[[Sidecar, Target, int], Awaitable[Round]]
    count: int
    traced: int
    needs_tasks: bool = False


@dataclass(frozen=True)
class Profile:
    """The time of one task, by parts."""

    cpu: float  # seconds
    kernel: float  # seconds of it
    parts: Mapping[str, float]  # from 0 to 1
    calls: Mapping[str, float]  # system calls; empty if they could not be counted


async def pushing(sidecar: Sidecar, target: Target, count: int) -> Round:
    """Push one by one."""
    return await push_round(sidecar, pushes(target.url, count), count)


async def batching(sidecar: Sidecar, target: Target, count: int) -> Round:
    """Push in batches."""
    return await batch_round(sidecar, push_of(target.url), count, BATCH)


WORKS = (
    Work("push", pushing, SINGLES, TRACED),
    Work(f"batches of {BATCH:,}", batching, IN_BATCHES, TRACED_IN_BATCHES),
    Work("drain", drain_round, SINGLES, TRACED, needs_tasks=True),
)


async def profiled(work: Work) -> Profile:
    """Work undisturbed, then with sampling, then with counting of system calls."""
    async with Target().listening() as target, fresh("--start-paused") as sidecar:

        async def prepare(count: int) -> None:
            if work.needs_tasks:
                await sidecar.pause()
                await sidecar.push([push_of(target.url)], count)

        await prepare(work.count)
        kernel = machine.kernel_seconds(sidecar.process)
        found = await work.run(sidecar, target, work.count)
        kernel = machine.kernel_seconds(sidecar.process) - kernel

        async def watched_by(watcher: str, count: int) -> list[str]:
            await prepare(count)
            return await watched(watcher, lambda: work.run(sidecar, target, count))

        sampled = await watched_by(f"{SAMPLING} --pid {sidecar.process} --output", work.count)
        calls: dict[str, float] = {}
        if STRACE:
            table = await watched_by(f"{STRACE} -f -c -p {sidecar.process} -o", work.traced)
            calls = {name: count / work.traced for name, count in calls_of(table).items()}
    return Profile(found.cpu_each, kernel / work.count, shares(sampled), calls)


async def watched(watcher: str, run: Callable[[], Awaitable[object]]) -> list[str]:
    """Run under a tracing program; return the lines of its output file.

    Raises:
        RuntimeError: it wrote nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found"
        process = await asyncio.create_subprocess_exec(
            *watcher.split(), str(path),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        said = await process.stdout.readline()  # that it has started, or an error
        try:
            await run()
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            said += (await process.communicate())[0]
        lines = path.read_text().splitlines() if path.exists() else []
    if not lines:
        raise RuntimeError(f"{watcher}: {said.decode()}")
    return lines


async def answer() -> Answer:
    """Profile pushing, pushing in batches, and draining."""
    found = [await profiled(work) for work in WORKS]
    names = [work.name for work in WORKS]
    parts = _table([profile.parts for profile in found], LEAST_PART, as_part)
    parts += [
        ["CPU time, µs a task", *(in_us(profile.cpu) for profile in found)],
        ["of it in the kernel", *(as_part(profile.kernel / profile.cpu) for profile in found)],
    ]
    calls = _table([profile.calls for profile in found], LEAST_CALLS, "{:.2f}".format)
    return Answer(
        question="profile",
        tables=[
            Table("Where the time goes", ["part of the time", *names], parts, NOTE),
            Table("Calls of the kernel", ["calls a task", *names], calls, CALLS_NOTE),
        ],
    )


NOTE = (
    "The parts are shares of py-spy's samples of all threads, without those that waited for work, "
    "for each other or for the network. What the interpreter and libraries do counts for the part "
    "that called them, unless the library has a row. CPU time is that of a round before, which "
    "nobody watched."
)
CALLS_NOTE = (
    "Counted by strace, which slows each call: threads then wait for each other more often than "
    "they would, which is what `futex` is."
    if STRACE
    else "Not measured: strace is not installed (`apt-get install strace`)."
)


def _table(
    columns: Sequence[Mapping[str, float]], least: float, shown: Callable[[float], str]
) -> list[list[str]]:
    """Return a row for each name that reaches the minimum in any column, largest first."""
    most: dict[str, float] = {}
    for column in columns:
        for name, value in column.items():
            most[name] = max(value, most.get(name, 0.0))
    names = sorted((name for name in most if most[name] >= least), key=most.__getitem__)
    return [
        [name, *(shown(column.get(name, 0.0)) for column in columns)] for name in reversed(names)
    ]


if __name__ == "__main__":
    publish(answer())
