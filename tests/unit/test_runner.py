from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from threading import Event

import pytest

from poussetaches.core.errors import StoreClosed
from poussetaches.store.pace import WATCHED_COMMITS, Pace
from poussetaches.store.runner import ThreadRunner
from tests.fakes import Panic, let_run

NAME = "tested"


class GivenPace(Pace):
    """Allows what a test says."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.work = True
        self.commits = False

    @property
    def allows_work(self) -> bool:
        """Whether work may run on the event loop."""
        return self.work

    @property
    def allows_commits(self) -> bool:
        """Whether a commit may run on the event loop."""
        return self.commits


class Steps:
    """Functions that note where they ran."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []  # the name of the step, and whether in the thread

    def note(self, name: str) -> str:
        """Note a step."""
        self.seen.append((name, threading.current_thread().name == NAME))
        return name

    def step(self, name: str) -> Callable[[], str]:
        """Return a function that notes a step."""
        return lambda: self.note(name)

    async def commit(
        self,
        runner: ThreadRunner,
        name: str = "",
        *,
        is_brief: bool = True,
        is_lone: bool = False,
    ) -> str:
        """Run a commit."""

        def commit(prepared: str | None) -> str:
            return self.note(f"{name}commit of {prepared}")

        return await runner.run_commit(
            commit,
            prepare=self.step(f"{name}row") if is_brief else None,
            settle=lambda result: self.seen.append((f"{name}settle {result}", in_thread())),
            is_lone=is_lone,
        )


def in_thread() -> bool:
    """Return whether this is the runner's thread."""
    return threading.current_thread().name == NAME


@pytest.fixture
def pace() -> GivenPace:
    return GivenPace()


@pytest.fixture
async def runner(pace: GivenPace) -> AsyncIterator[ThreadRunner]:
    runner = ThreadRunner(NAME, pace)
    yield runner
    runner.close()


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def test_function_runs_in_the_thread(runner: ThreadRunner, steps: Steps) -> None:
    assert await runner.run(steps.step("a")) == "a"
    assert steps.seen == [("a", True)]


async def test_brief_function_runs_on_the_event_loop(runner: ThreadRunner, steps: Steps) -> None:
    assert await runner.run(steps.step("a"), is_brief=True) == "a"
    assert steps.seen == [("a", False)]


async def test_brief_function_runs_in_the_thread_if_the_pace_is_slow(
    runner: ThreadRunner, pace: GivenPace, steps: Steps
) -> None:
    pace.work = False

    await runner.run(steps.step("a"), is_brief=True)

    assert steps.seen == [("a", True)]


async def test_functions_run_in_the_order_of_the_calls(runner: ThreadRunner, steps: Steps) -> None:
    gate = Event()
    first = asyncio.create_task(runner.run(gate.wait))
    await let_run(1)
    others = [
        asyncio.create_task(runner.run(steps.step(str(n)), is_brief=n % 2 == 0)) for n in range(6)
    ]
    await let_run(1)
    before = list(steps.seen)
    gate.set()

    results = await asyncio.gather(*others)

    await first
    assert before == []
    assert results == ["0", "1", "2", "3", "4", "5"]
    assert steps.seen == [(str(n), n % 2 == 1) for n in range(6)]


async def test_rows_are_written_on_the_loop_and_committed_in_the_thread(
    runner: ThreadRunner, steps: Steps
) -> None:
    result = await steps.commit(runner)

    assert result == "commit of row"
    assert steps.seen == [
        ("row", False),
        ("commit of row", True),
        ("settle commit of row", False),
    ]


async def test_commit_that_is_not_brief_runs_in_the_thread_only(
    runner: ThreadRunner, steps: Steps
) -> None:
    await steps.commit(runner, is_brief=False)

    assert steps.seen == [("commit of None", True), ("settle commit of None", False)]


async def test_rows_are_written_in_the_thread_if_the_pace_is_slow(
    runner: ThreadRunner, pace: GivenPace, steps: Steps
) -> None:
    pace.work, pace.commits = False, True

    await steps.commit(runner, is_lone=True)

    assert steps.seen == [("row", True), ("commit of row", True), ("settle commit of row", False)]


@pytest.mark.parametrize(
    ("is_quick", "is_lone"), [(True, True), (True, False), (False, True)], ids=str
)
async def test_lone_commit_runs_on_the_event_loop_if_the_disk_is_quick(
    runner: ThreadRunner, pace: GivenPace, steps: Steps, is_quick: bool, is_lone: bool
) -> None:
    pace.commits = is_quick

    await steps.commit(runner, is_lone=is_lone)

    assert ("commit of row", not (is_quick and is_lone)) in steps.seen


async def test_nothing_runs_between_the_steps_of_a_commit(
    runner: ThreadRunner, steps: Steps
) -> None:
    writing = asyncio.create_task(steps.commit(runner, "1 "))
    await let_run(1)
    reading = asyncio.create_task(runner.run(steps.step("read"), is_brief=True))
    again = asyncio.create_task(steps.commit(runner, "2 "))

    await asyncio.gather(writing, reading, again)

    assert [name for name, _ in steps.seen] == [
        *("1 row", "1 commit of 1 row", "1 settle 1 commit of 1 row", "read"),
        *("2 row", "2 commit of 2 row", "2 settle 2 commit of 2 row"),
    ]


async def test_caller_gets_the_error_of_any_step(runner: ThreadRunner, pace: GivenPace) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    def ignore(*_: object) -> None:
        return None

    for is_brief in (True, False):
        with pytest.raises(ZeroDivisionError):
            await runner.run(fail, is_brief=is_brief)
    for pace.commits in (True, False):
        for failing in range(3):
            prepare, commit, settle = (fail if n == failing else ignore for n in range(3))
            with pytest.raises(ZeroDivisionError):
                await runner.run_commit(commit, prepare=prepare, settle=settle, is_lone=True)
    assert await runner.run(lambda: 1) == 1


@pytest.mark.parametrize("error", [Panic(), StopIteration(), asyncio.CancelledError()], ids=repr)
async def test_unusual_error_leaves_nobody_waiting(
    runner: ThreadRunner, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    results = await asyncio.gather(
        asyncio.create_task(runner.run(fail)),
        asyncio.create_task(runner.run(lambda: 1)),
        return_exceptions=True,
    )

    assert isinstance(results[0], BaseException)
    assert results[1] == 1


async def test_function_runs_to_its_end_if_its_caller_is_cancelled(
    runner: ThreadRunner, steps: Steps
) -> None:
    gate = Event()
    first = asyncio.create_task(runner.run(gate.wait))
    writing = asyncio.create_task(steps.commit(runner))
    await let_run(1)

    writing.cancel()
    await asyncio.wait([writing])
    gate.set()
    await first
    await runner.run(lambda: None)

    assert [name for name, _ in steps.seen] == ["row", "commit of row", "settle commit of row"]


async def test_closing_waits_for_pending_functions(runner: ThreadRunner, steps: Steps) -> None:
    gate = Event()
    pending = [
        asyncio.create_task(runner.run(gate.wait)),
        asyncio.create_task(runner.run(steps.step("a"))),
        asyncio.create_task(steps.commit(runner)),
    ]
    await let_run(1)
    gate.set()

    runner.close()

    assert [name for name, _ in steps.seen] == ["a", "row", "commit of row"]
    assert await asyncio.gather(*pending) == [True, "a", "commit of row"]


async def test_closed_runner_refuses_functions(runner: ThreadRunner) -> None:
    runner.close()

    for is_brief in (True, False):
        with pytest.raises(StoreClosed):
            await runner.run(lambda: None, is_brief=is_brief)


async def test_commits_are_timed_wherever_they_run(steps: Steps) -> None:
    pace = Pace(lambda: 0.0)
    runner = ThreadRunner(NAME, pace)

    for _ in range(3 * WATCHED_COMMITS):
        await steps.commit(runner, is_lone=True)
    runner.close()

    in_threads = [is_there for name, is_there in steps.seen if name == "commit of row"]
    assert in_threads[:WATCHED_COMMITS] == [True] * WATCHED_COMMITS
    assert len(in_threads) == 3 * WATCHED_COMMITS
