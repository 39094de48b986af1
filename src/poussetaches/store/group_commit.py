"""Group commit: all waiting writes share one transaction and its one fsync."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import PousseTachesError, StoreBusy, StoreUnavailable
from poussetaches.store.runner import Runner

BUSY_COMMIT = 8  # writes; after a commit of as many, the next one waits for more writes
# Iterations of the event loop without another write, after which the commit stops waiting: all
# callers may be waiting for this commit. A push takes three from its first byte to its write.
QUIET_TURNS = 8
# Size of the pending writes above which another write is refused.
MAX_PENDING_SIZE = 64 * 1024 * 1024  # bytes
# A commit of at most so many rows is written in about 5 ms, without its wait for the disk.
BRIEF_ROWS = 256
BRIEF_SIZE = 1024 * 1024  # bytes
MANY = BRIEF_ROWS + 1
LONE_COMMIT = 2  # writes; with more, others are likely to come while the disk syncs

log = logging.getLogger(__name__)


class Transaction(Protocol):
    """A transaction of the store."""

    def commit(self) -> None:
        """Make the writes durable."""

    def apply(self) -> None:
        """Update the state in memory after the commit."""

    def rollback(self) -> None:
        """Undo the writes. Never raises."""


T = TypeVar("T", bound=Transaction)
T_co = TypeVar("T_co", bound=Transaction, covariant=True)
I = TypeVar("I")  # noqa: E741 - an item of a write
R = TypeVar("R")

# Writes items, and returns one result for each, in order; an error refuses its item alone. It must
# change only the transaction, because it may be rolled back and called again.
Write = Callable[[T, Sequence[I]], Sequence[R | PousseTachesError]]


class Begin(Protocol[T_co]):
    """Begins transactions."""

    def __call__(self, *, isolates_rows: bool, waits: bool) -> T_co:
        """Begin a transaction; if it isolates rows, a failing row does not affect the others.

        It ``waits`` for another process that has locked the database, or fails at once.
        """


class _Waiting(Generic[T]):
    """A write that waits for its commit, and the future of its caller."""

    __slots__ = ("error", "future", "item", "result", "rows", "size", "write")

    def __init__(self, write: Write[T, Any, Any], item: object, size: int, rows: int) -> None:
        self.write = write
        self.item = item
        self.size = size
        self.rows = rows
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Record the error that the caller gets."""
        if isinstance(error, StopIteration | asyncio.CancelledError):
            # A future refuses a StopIteration, and a CancelledError would cancel it.
            stack = error.__traceback__
            error = RuntimeError(f"a write raised {type(error).__name__}").with_traceback(stack)
        self.error = error

    def tell(self) -> None:
        """Pass the result to the caller, unless the caller was cancelled."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        elif isinstance(self.result, PousseTachesError):
            self.future.set_exception(self.result)
        else:
            self.future.set_result(self.result)


class GroupCommit(Generic[T]):
    """Collects writes and commits them together.

    Calls of the same ``write`` are passed to it as one list. A write that fails does not fail the
    others: the transaction is rolled back, and all are retried in one that isolates rows. If a
    write as a whole still fails, each is retried alone. A failure of the store itself fails all.

    A single write is committed at once. Under load a commit waits for more writes while they
    arrive, for at most ``window`` seconds: fewer, larger commits cost less than many small ones.
    """

    def __init__(
        self,
        runner: Runner,
        begin: Begin[T],
        *,
        trouble_of: Callable[[Exception], StoreUnavailable | None],
        announce_begin: Callable[[Collection[Write[T, Any, Any]]], None],
        announce_end: Callable[[], None],
        announce: Callable[[T], None],
        announce_failure: Callable[[], None],
        window: float,
    ) -> None:
        self._runner = runner
        self._begin = begin
        self._trouble_of = trouble_of
        self._announce_begin = announce_begin
        self._announce_end = announce_end
        self._announce = announce
        self._announce_failure = announce_failure
        self._window = window
        self._waiting: list[_Waiting[T]] = []
        self._size = 0  # bytes, including the batch that is being written
        self._draining: asyncio.Task[None] | None = None
        self.defect_count = 0  # of commits that listeners were not told of

    def write(
        self, write: Write[T, I, R], item: I, *, size: int = 0, rows: int = MANY
    ) -> asyncio.Future[R]:
        """Write one item; the future gets the result once it is on disk.

        ``size`` is its share of ``MAX_PENDING_SIZE`` in bytes; an item of size 0 is never refused.
        ``rows`` is the number of rows that it changes, if that is known.

        Raises:
            StoreBusy: too much is pending.
        """
        if size and self._size >= MAX_PENDING_SIZE:
            raise StoreBusy
        self._size += size
        waiting = _Waiting(write, item, size, rows)
        self._waiting.append(waiting)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return waiting.future

    async def settle(self) -> None:
        """Wait until all pending writes are committed or refused."""
        # A task that was cancelled before it began is done without clearing the attribute.
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._run(batch)
                if self._window and len(batch) >= BUSY_COMMIT:
                    await self._gather()
        finally:
            self._draining = None
            for waiting in self._waiting:  # only when this task was cancelled
                waiting.future.cancel()

    async def _gather(self) -> None:
        """Wait while more writes arrive, at most for the window."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._window
        last_count, quiet = len(self._waiting), 0
        while quiet < QUIET_TURNS and loop.time() < ends_at:
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == last_count else 0
            last_count = len(self._waiting)

    async def _run(self, batch: Sequence[_Waiting[T]]) -> None:
        self._announce_begin({waiting.write for waiting in batch})
        try:
            committed = await self._runner.run_commit(
                partial(self._carry_out, batch),
                prepare=partial(self._prepared, batch) if _is_brief(batch) else None,
                settle=partial(self._settle, batch),
                is_lone=len(batch) <= LONE_COMMIT,
            )
        # The runner is closed, or there is a bug: no caller may wait forever.
        except BaseException as exc:
            own = asyncio.current_task()
            if isinstance(exc, KeyboardInterrupt | SystemExit) or (own and own.cancelling()):
                self._announce_end()
                for waiting in batch:
                    waiting.future.cancel()
                raise
            for waiting in batch:
                waiting.fail(exc)
            self._settle(batch, [])
            return
        if committed is None:
            for waiting in batch:
                await self._run([waiting])

    def _settle(self, batch: Sequence[_Waiting[T]], committed: Sequence[T] | None) -> None:
        """Update the state in memory, and tell listeners and callers."""
        for transaction in committed or ():
            transaction.apply()
        self._announce_end()
        if committed is None:
            return
        self._tell_others(committed)
        for waiting in batch:
            self._size -= waiting.size
            waiting.tell()

    def _tell_others(self, committed: Sequence[T]) -> None:
        for transaction in committed:
            try:
                self._announce(transaction)
            except Exception as exc:  # callers must still get the commit's result
                self.defect_count += 1
                log.error("listeners not told of a commit", extra=_described(exc))
        if not committed:
            self._announce_failure()

    def _prepared(self, batch: Sequence[_Waiting[T]]) -> T | Exception | None:
        """Write a batch in a transaction that is not committed yet; return it, or the error."""
        try:
            transaction = self._begin(isolates_rows=False, waits=False)
        except Exception:
            return None
        try:
            self._write_in(transaction, batch)
        except Exception as exc:
            transaction.rollback()
            return exc
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def _carry_out(
        self, batch: Sequence[_Waiting[T]], prepared: T | Exception | None = None
    ) -> list[T] | None:
        """Commit a batch in one transaction; return it, or None if each must be written alone."""
        for isolates_rows in (False, True):
            try:
                if isinstance(prepared, Exception):
                    raise prepared
                return [self._committed(batch, prepared, isolates_rows=isolates_rows)]
            except Exception as exc:
                prepared = None
                trouble = self._trouble_of(exc)
                is_last = isolates_rows and len(batch) == 1
                if trouble is not None or is_last:
                    for waiting in batch:
                        waiting.fail(trouble or exc)
                    return []
                if not isolates_rows:
                    log.warning("commit failed, each row is written alone", extra=_described(exc))
        return None

    def _committed(
        self, batch: Sequence[_Waiting[T]], prepared: T | None, *, isolates_rows: bool
    ) -> T:
        """Commit a transaction; without a prepared one, begin and write it before."""
        transaction = prepared or self._begin(isolates_rows=isolates_rows, waits=True)
        try:
            if prepared is None:
                self._write_in(transaction, batch)
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def _write_in(self, transaction: T, batch: Sequence[_Waiting[T]]) -> None:
        for write, group in _by_write(batch).items():
            results = write(transaction, [waiting.item for waiting in group])
            for waiting, result in zip(group, results, strict=True):
                waiting.result = result


def _is_brief(batch: Sequence[_Waiting[T]]) -> bool:
    rows = size = 0
    for waiting in batch:
        rows += waiting.rows
        size += waiting.size
    return rows <= BRIEF_ROWS and size <= BRIEF_SIZE


def _described(exc: Exception) -> dict[str, str]:
    return {"error": describe_defect(exc), "stack": stack_of(exc)}


def _by_write(batch: Sequence[_Waiting[T]]) -> dict[Write[T, Any, Any], list[_Waiting[T]]]:
    groups: dict[Write[T, Any, Any], list[_Waiting[T]]] = {}
    for waiting in batch:
        groups.setdefault(waiting.write, []).append(waiting)
    return groups
