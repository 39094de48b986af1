from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from poussetaches.core.errors import (
    KeyConflict,
    PousseTachesError,
    StoreBusy,
    StoreClosed,
    StoreUnavailable,
)
from poussetaches.store.group_commit import (
    BRIEF_ROWS,
    BRIEF_SIZE,
    BUSY_COMMIT,
    MAX_PENDING_SIZE,
    QUIET_TURNS,
    GroupCommit,
)
from poussetaches.store.runner import InlineRunner, Runner
from tests.fakes import Panic, let_run

P = TypeVar("P")
R = TypeVar("R")


class Refused(Exception):
    """An item that cannot be written."""


class DiskOff(Exception):
    """The store's own trouble."""


class Notebook:
    """Stores fake transactions: ``pages`` has the writes of each commit."""

    def __init__(self) -> None:
        self.pages: list[list[str]] = []
        self.torn_out = 0
        self.announced: list[list[str]] = []
        self.applied: list[list[str]] = []
        self.begun: list[int] = []  # kinds of writes at each begin; 0 at an end
        self.is_broken = False
        self.is_locked = False
        self.announces = True

    def begin(self, *, isolates_rows: bool, waits: bool) -> Page:
        """Begin a transaction."""
        if self.is_locked and not waits:
            raise Refused
        return Page(self, isolates_rows=isolates_rows)

    def trouble_of(self, exc: Exception) -> StoreUnavailable | None:
        """Return whether an error is an error of the whole store."""
        return StoreUnavailable("disk off") if isinstance(exc, DiskOff) else None

    def announce(self, page: Page) -> None:
        """Note what was announced, or break down."""
        if not self.announces:
            raise ZeroDivisionError
        self.announced.append(page.lines)


class Page:
    """A fake transaction."""

    def __init__(self, notebook: Notebook, *, isolates_rows: bool) -> None:
        self.lines: list[str] = []
        self.isolates_rows = isolates_rows
        self._notebook = notebook

    def commit(self) -> None:
        """Keep the page."""
        if self._notebook.is_broken:
            raise DiskOff
        self._notebook.pages.append(self.lines)

    def apply(self) -> None:
        """Note what was applied."""
        self._notebook.applied.append(self.lines)

    def rollback(self) -> None:
        """Tear the page out."""
        self._notebook.torn_out += 1


def note(page: Page, items: Sequence[str]) -> Sequence[str]:
    """Write items and answer each in upper case; one with a question mark is refused."""
    for item in items:
        if "?" in item:
            raise Refused(item)
        page.lines.append(item)
    return [item.upper() for item in items]


def scribble(page: Page, items: Sequence[str]) -> Sequence[int]:
    """Write items in another way, and answer with how many came together."""
    page.lines.extend(f"~{item}" for item in items)
    return [len(items)] * len(items)


def note_unless_taken(page: Page, items: Sequence[str]) -> Sequence[str | PousseTachesError]:
    """Write items, and refuse an item that is already on the page."""
    results: list[str | PousseTachesError] = []
    for item in items:
        if item in page.lines:
            results.append(KeyConflict(item))
        else:
            page.lines.append(item)
            results.append(item)
    return results


def note_if_isolated(page: Page, items: Sequence[str]) -> Sequence[int]:
    """Write items if rows are isolated, and answer with how many came together."""
    if not page.isolates_rows:
        raise Refused
    return [len(items)] * len(items)


def group_on(
    notebook: Notebook, runner: Runner | None = None, *, window: float = 0.0
) -> GroupCommit[Page]:
    return GroupCommit(
        runner or InlineRunner(),
        notebook.begin,
        trouble_of=notebook.trouble_of,
        announce_begin=lambda writes: notebook.begun.append(len(writes)),
        announce_end=lambda: notebook.begun.append(0),
        announce_failure=lambda: None,
        announce=notebook.announce,
        window=window,
    )


class GatedRunner(InlineRunner):
    """Runs each piece of work once its gate is open, and counts the pieces."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.count = 0

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Wait for the gate and run."""
        self.count += 1
        self.begun.set()
        await self.gate.wait()
        return work()


class StagedRunner(InlineRunner):
    """Keeps the results of prepared functions."""

    def __init__(self) -> None:
        self.prepared: list[object] = []

    async def run_commit(
        self,
        commit: Callable[[P | None], R],
        *,
        prepare: Callable[[], P] | None,
        settle: Callable[[R], None],
        is_lone: bool,
    ) -> R:
        """Prepare, if possible, then commit."""
        prepared = None
        if prepare is not None:
            prepared = prepare()
            self.prepared.append(prepared)
        result = commit(prepared)
        settle(result)
        return result


class ClosedRunner(InlineRunner):
    """Takes no more work."""

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Refuse."""
        raise StoreClosed


async def test_writes_given_together_share_one_commit() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    await asyncio.gather(*(group.write(note, item) for item in ("a", "b", "c")))

    assert notebook.pages == [["a", "b", "c"]]


async def test_results_come_to_their_callers() -> None:
    group = group_on(Notebook())

    results = await asyncio.gather(*(group.write(note, item) for item in ("a", "b", "c")))

    assert results == ["A", "B", "C"]


async def test_calls_of_the_same_write_are_handed_over_as_one_list() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    results = await asyncio.gather(
        group.write(note, "a"),
        group.write(scribble, "b"),
        group.write(note, "c"),
        group.write(scribble, "d"),
    )

    assert tuple(results) == ("A", 2, "C", 2)
    assert notebook.pages == [["a", "c", "~b", "~d"]]


async def test_refused_item_fails_alone() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    results = await asyncio.gather(
        *(group.write(note, item) for item in ("a", "b?", "c", "d?")), return_exceptions=True
    )

    assert [str(result) for result in results] == ["A", "b?", "C", "d?"]
    assert [type(result) for result in results] == [str, Refused, str, Refused]
    assert notebook.pages == [["a"], ["c"]]


async def test_error_as_a_result_refuses_its_item_without_another_commit() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    results = await asyncio.gather(
        *(group.write(note_unless_taken, item) for item in ("a", "b", "a")), return_exceptions=True
    )

    assert [type(result) for result in results] == [str, str, KeyConflict]
    assert notebook.pages == [["a", "b"]]


async def test_trouble_of_the_store_is_everybodys() -> None:
    notebook = Notebook()
    notebook.is_broken = True
    group = group_on(notebook)

    results = await asyncio.gather(
        *(group.write(note, item) for item in ("a", "b?", "c")), return_exceptions=True
    )

    assert [type(result) for result in results] == [StoreUnavailable, Refused, StoreUnavailable]
    assert notebook.pages == []


async def test_trouble_undoes_the_transaction_once_for_all() -> None:
    notebook = Notebook()
    notebook.is_broken = True
    group = group_on(notebook)

    results = await asyncio.gather(
        *(group.write(note, item) for item in ("a", "b", "c")), return_exceptions=True
    )

    assert [str(result) for result in results] == ["disk off"] * 3
    assert notebook.torn_out == 1


async def test_writes_go_on_after_trouble() -> None:
    notebook = Notebook()
    notebook.is_broken = True
    group = group_on(notebook)
    with pytest.raises(StoreUnavailable):
        await group.write(note, "a")

    notebook.is_broken = False
    await group.write(note, "b")

    assert notebook.pages == [["b"]]


async def test_lone_write_waits_for_nobody() -> None:
    notebook = Notebook()
    group = group_on(notebook, window=3600.0)

    result = await group.write(note, "a")

    assert result == "A"


async def test_write_after_a_crowd_waits_while_company_comes() -> None:
    notebook = Notebook()
    group = group_on(notebook, window=3600.0)
    await asyncio.gather(*(group.write(note, str(n)) for n in range(BUSY_COMMIT)))

    writes = []
    for n in range(3):
        writes.append(group.write(note, str(n)))
        await let_run(QUIET_TURNS // 2 - 1)
    await asyncio.gather(*writes)

    assert [len(page) for page in notebook.pages] == [BUSY_COMMIT, 3]


async def test_write_after_a_crowd_does_not_wait_when_nobody_comes() -> None:
    notebook = Notebook()
    group = group_on(notebook, window=3600.0)
    await asyncio.gather(*(group.write(note, str(n)) for n in range(BUSY_COMMIT)))

    late = group.write(note, "late")
    await let_run(QUIET_TURNS // 2 - 1)
    waited = not late.done()
    await let_run()

    assert waited
    assert late.done()
    assert [len(page) for page in notebook.pages] == [BUSY_COMMIT, 1]


async def test_company_is_waited_for_no_longer_than_the_window() -> None:
    notebook = Notebook()
    group = group_on(notebook, window=1e-9)
    await asyncio.gather(*(group.write(note, str(n)) for n in range(BUSY_COMMIT)))

    writes = []
    for n in range(2):
        writes.append(group.write(note, str(n)))
        await let_run(QUIET_TURNS // 2 - 1)

    assert [len(page) for page in notebook.pages] == [BUSY_COMMIT, 1, 1]


async def test_write_after_fewer_than_a_crowd_waits_for_nobody() -> None:
    notebook = Notebook()
    group = group_on(notebook, window=3600.0)
    await asyncio.gather(*(group.write(note, str(n)) for n in range(BUSY_COMMIT - 1)))

    await group.write(note, "late")

    assert [len(page) for page in notebook.pages] == [BUSY_COMMIT - 1, 1]


async def test_writes_given_while_committing_go_in_the_next_commit() -> None:
    notebook, runner = Notebook(), GatedRunner()
    group = group_on(notebook, runner)
    first = group.write(note, "a")
    await runner.begun.wait()

    others = asyncio.gather(group.write(note, "b"), group.write(note, "c"))
    runner.gate.set()
    await asyncio.gather(first, others)

    assert notebook.pages == [["a"], ["b", "c"]]
    assert runner.count == 2


async def test_write_of_a_caller_that_went_away_is_still_committed() -> None:
    notebook, runner = Notebook(), GatedRunner()
    group = group_on(notebook, runner)
    gone = group.write(note, "a")
    stays = group.write(note, "b")
    await runner.begun.wait()

    gone.cancel()
    runner.gate.set()
    result = await stays
    await asyncio.wait([gone])

    assert gone.cancelled()
    assert result == "B"
    assert notebook.pages == [["a", "b"]]


async def test_commit_is_announced_before_its_callers_are_told() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    await group.write(note, "a")

    assert notebook.announced == [["a"]]


async def test_commit_is_applied_before_it_is_announced() -> None:
    notebook = Notebook()
    applied: list[int] = []
    notebook.announce = lambda page: applied.append(len(notebook.applied))  # type: ignore[method-assign]
    group = group_on(notebook)

    await asyncio.gather(group.write(note, "a"), group.write(note, "b"))

    assert (notebook.applied, applied) == ([["a", "b"]], [1])


async def test_failed_writes_are_applied_one_by_one() -> None:
    """A write must see the state in memory after the one before it."""
    notebook = Notebook()
    group = group_on(notebook)

    await asyncio.gather(
        *(group.write(note, item) for item in ("a", "b?", "c")), return_exceptions=True
    )

    assert notebook.applied == [["a"], ["c"]]


async def test_write_waits_for_a_lock_in_the_thread_only() -> None:
    notebook, runner = Notebook(), StagedRunner()
    notebook.is_locked = True
    group = group_on(notebook, runner)

    result = await group.write(note, "a", rows=1)

    assert result == "A"
    assert runner.prepared == [None]


@pytest.mark.parametrize(
    ("sizes", "is_prepared"),
    [
        ([(1, 0)], True),
        ([(BRIEF_ROWS, BRIEF_SIZE)], True),
        ([(BRIEF_ROWS, 0), (1, 0)], False),
        ([(1, BRIEF_SIZE), (1, 1)], False),
    ],
    ids=["one row", "most", "too many rows", "too large"],
)
async def test_only_brief_writes_are_prepared_on_the_event_loop(
    sizes: Sequence[tuple[int, int]], is_prepared: bool
) -> None:
    runner = StagedRunner()
    group = group_on(Notebook(), runner)

    await asyncio.gather(*(group.write(note, "a", rows=rows, size=size) for rows, size in sizes))

    assert [page is not None for page in runner.prepared] == [True] * is_prepared


async def test_write_of_unknown_length_is_not_prepared_on_the_event_loop() -> None:
    runner = StagedRunner()

    await group_on(Notebook(), runner).write(note, "a")

    assert runner.prepared == []


async def test_announcement_that_breaks_down_leaves_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notebook = Notebook()
    notebook.announces = False
    group = group_on(notebook)

    results = await asyncio.gather(group.write(note, "a"), group.write(note, "b"))

    assert list(results) == ["A", "B"]
    assert await group.write(note, "c") == "C"
    assert caplog.messages == ["listeners not told of a commit"] * 2
    assert group.defect_count == 2


@pytest.mark.parametrize(
    "error",
    [Panic(), StopIteration(), MemoryError(), RecursionError(), asyncio.CancelledError()],
    ids=repr,
)
async def test_write_that_raises_whatever_leaves_nobody_waiting(error: BaseException) -> None:
    def fail(page: Page, items: Sequence[str]) -> Sequence[str]:
        raise error

    notebook = Notebook()
    group = group_on(notebook)

    results = await asyncio.gather(
        group.write(note, "a"), group.write(fail, "b"), return_exceptions=True
    )

    assert isinstance(results[1], BaseException)
    assert results[0] == "A" or isinstance(results[0], BaseException)
    assert await group.write(note, "c") == "C"


async def test_writes_that_fail_are_tried_once_more_with_their_rows_isolated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notebook = Notebook()
    group = group_on(notebook)

    results = await asyncio.gather(*(group.write(note_if_isolated, item) for item in "ab"))

    assert results == [2, 2]
    assert (notebook.torn_out, len(notebook.pages)) == (1, 1)
    assert caplog.messages == ["commit failed, each row is written alone"]


async def test_what_was_undone_is_not_announced() -> None:
    notebook = Notebook()
    group = group_on(notebook)

    await asyncio.gather(
        *(group.write(note, item) for item in ("a", "b?")), return_exceptions=True
    )

    assert notebook.announced == [["a"]]


async def test_settle_waits_for_everything_given() -> None:
    notebook, runner = Notebook(), GatedRunner()
    group = group_on(notebook, runner)
    writing = group.write(note, "a")
    await runner.begun.wait()

    settling = asyncio.create_task(group.settle())
    later = group.write(note, "b")
    runner.gate.set()
    await settling

    assert notebook.pages == [["a"], ["b"]]
    assert (await writing, await later) == ("A", "B")


async def test_settle_returns_at_once_when_there_is_nothing() -> None:
    notebook = Notebook()

    await group_on(notebook).settle()

    assert notebook.pages == []


async def test_runner_that_takes_no_more_work_leaves_nobody_waiting() -> None:
    group = group_on(Notebook(), ClosedRunner())

    results = await asyncio.gather(
        group.write(note, "a"), group.write(note, "b"), return_exceptions=True
    )

    assert [type(result) for result in results] == [StoreClosed, StoreClosed]


async def test_write_is_refused_while_too_much_waits() -> None:
    runner = GatedRunner()
    group = group_on(Notebook(), runner)
    first = group.write(note, "a", size=MAX_PENDING_SIZE)

    with pytest.raises(StoreBusy):
        group.write(note, "b", size=1)
    without_size = group.write(note, "c")
    runner.gate.set()

    assert (await first, await without_size) == ("A", "C")
    assert await group.write(note, "b", size=1) == "B"


async def test_refused_write_leaves_its_room_to_others() -> None:
    group = group_on(Notebook())

    for _ in range(3):
        with pytest.raises(Refused):
            await group.write(note, "?", size=MAX_PENDING_SIZE)

    assert await group.write(note, "a", size=1) == "A"
