"""The ledger: the promises to callers, the attempts that receivers got, and checks of both.

It uses none of the engine's rules. It calls ``fail`` as soon as a promise is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from poussetaches.core.cause import Cause
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.engine.restarts import MOST_FORGIVEN
from poussetaches.store.base import Change, News
from tests.simulation.loop import SimulatedClock
from tests.simulation.machine_time import MachineTime

KEPT_WITHIN = 60.0  # seconds until taken tokens are on disk
SLACK = 2.0  # seconds; smaller corrections of the clock are not noticed
GRACE = 0.001  # seconds; attempts that are starting when a promise is made may still be sent
ENDS = (Change.SUCCEEDED, Change.DIED)
ENDED = ("succeeded", "dead")
SERVER = "the server"  # in place of a queue's name in pauses


class Row(NamedTuple):
    """A task as it is on disk."""

    id: str
    queue: str
    state: str
    reason: str | None
    run_at: int
    forced: int
    round: int
    attempt_count: int
    ended_at: int | None


class Death(NamedTuple):
    """The time of a task's death: in its row, and in measured seconds."""

    ended_at: float
    at: float


class Key(NamedTuple):
    """The task of a key, and the earliest time at which the key may expire, in seconds."""

    task_id: str
    expires_at: float


class Backoff(NamedTuple):
    """A retry policy without jitter, so that waits are known to the microsecond."""

    shortest: float
    multiplier: float
    longest: float

    def after(self, attempt: int) -> float:
        """Return the microseconds to wait after a failed attempt."""
        wait = min(self.longest, self.shortest * self.multiplier ** (attempt - 1))
        return wait * SECOND


class FailedAttempt(NamedTuple):
    """A failed attempt and its time, by the wall clock and the monotonic clock."""

    round: int
    number: int
    wall: int
    at: float


@dataclass(slots=True)
class Entry:
    """A task in the ledger."""

    queue: str
    acknowledged: bool = False
    is_immediate: bool = False  # pushed without a delay
    ended: bool = False
    death: Death | None = None
    deleted_at: float | None = None  # monotonic
    changed_at: float = -1.0  # when a caller last began to change it
    backoff: Backoff | None = None
    failed: FailedAttempt | None = None
    name_was_unknown: bool = False
    last_sent: SentAttempt | None = None
    last_outcome: Outcome | None = None
    restarted: SentAttempt | None = None  # the last attempt that met a restart
    restart_count: int = 0  # restarts in a row that this attempt met

    def forgives(self, sent: SentAttempt) -> bool:
        """Count a restart; return whether it may be forgiven, as two for one attempt are."""
        last, self.restarted = self.restarted, sent
        is_same = last is not None and (last.round, last.number) == (sent.round, sent.number)
        self.restart_count = self.restart_count + 1 if is_same else 1
        return self.restart_count <= MOST_FORGIVEN


@dataclass(slots=True)
class SentAttempt:
    """An attempt that was sent."""

    task_id: str
    round: int
    number: int
    at: float
    outcome: Outcome | None = None  # one that counts
    costs_nothing: bool = False  # the machine had run out of descriptors or ports


@dataclass(eq=False)
class Deletion:
    """A request in flight that deletes tasks."""

    covers: Callable[[str, str], bool]  # by a task's id and queue


@dataclass
class Pauses:
    """The paused queues, or the server, with the time of the answer to the pause."""

    since: dict[str, float] = field(default_factory=dict)
    _resuming: Counter[str] = field(default_factory=Counter)
    _resumed: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def resumes(self, name: str) -> Iterator[None]:
        """Expect attempts from now on."""
        self._resumed[name] += 1
        self._resuming[name] += 1
        self.since.pop(name, None)
        yield
        self._resuming[name] -= 1

    def begin(self, name: str) -> int:
        """Return the value to pass to ``answered``."""
        return -1 if self._resuming[name] else self._resumed[name]

    def answered(self, name: str, begun: int, at: float) -> None:
        """Record an answered pause; it holds unless it was resumed meanwhile."""
        if begun == self._resumed[name]:
            self.since.setdefault(name, at)

    def restarted(self) -> None:
        """Forget the requests in flight: their answers never arrived."""
        self._resuming.clear()


class RatedQueue:
    """A queue with a constant rate, and its tokens. Times are seconds."""

    def __init__(self, name: str, *, rate: float, burst: int) -> None:
        self.name = name
        self.is_limited = False  # until the request for the rate is answered
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0
        self._tokens_while_suspended = 0.0
        self._taken_at: list[float] = []

    def take(self, now: float) -> bool:
        """Take a token for an attempt; return whether there was one."""
        grown = self._tokens + (now - self._at) * self._rate
        self._tokens, self._at = min(float(self._burst), grown) - 1, now
        self._taken_at.append(now)
        if self._tokens < 0:
            self._tokens, self._tokens_while_suspended = (
                self._tokens + self._tokens_while_suspended,
                0.0,
            )
        return self._tokens > -0.01 or not self.is_limited

    def suspended(self, seconds: float) -> None:
        """Save the tokens of a suspension: attempts admitted before it may be sent after it."""
        self._tokens_while_suspended = min(float(self._burst), seconds * self._rate)

    def crashed(self, now: float) -> None:
        """Return the tokens taken just before a crash: they may not be on disk."""
        lost = sum(taken_at > now - KEPT_WITHIN for taken_at in self._taken_at)
        self._tokens += lost

    def refill(self) -> None:
        """Fill the bucket, as after a restart of a machine with a wrong clock."""
        self._tokens = float(self._burst)


class Ledger:
    """The promises to callers and the attempts that receivers got, by task."""

    def __init__(
        self, *, seen: Counter[str], fail: Callable[[str], None], rated: RatedQueue
    ) -> None:
        self.seen = seen
        self.rated = rated
        self.time: MachineTime
        self.measured: Callable[[], float]  # seconds
        self.now: Callable[[], float]  # seconds of true time
        self.keep_dead: float | None = None  # seconds, if dead letters are pruned by age only
        self.entries: dict[str, Entry] = {}
        self.sent: dict[str, SentAttempt] = {}  # by request id
        self.in_flight: dict[str, SentAttempt] = {}  # of the present server
        self.deletions: set[Deletion] = set()  # in flight, or without an answer
        self.pauses = Pauses()
        self.changed_at = -1.0  # when a caller last began a bulk change
        self.repeats = 0
        self.refused: set[str] = set()  # labels of pushes that were answered as not stored
        self.unknown: set[str] = set()  # labels of pushes that may have been stored
        self.clock: SimulatedClock
        self.row: Callable[[str], Row | None]
        self.may_fail: Callable[[str], bool]
        self.failed_pruning: Callable[[str], bool]
        self.set_aside: Callable[[], set[str]]
        self.was_charged: Callable[[str, float], bool]
        self.is_alive = False
        self._fail = fail
        self._counted: dict[tuple[str, int], int] = {}  # attempts, by task and round
        self._began_at = 0.0  # monotonic, start of the present server
        self._pushes = 0
        self._pruned = 0  # tasks that were found missing since the start
        self._recorded: dict[
            tuple[str, int], int
        ] = {}  # attempts known to be on disk, by task and round
        self._keys: dict[tuple[str, str], Key] = {}

    def acknowledged(
        self, task_id: str, queue: str, backoff: Backoff | None, *, is_immediate: bool
    ) -> None:
        """Record that a new task was answered with 201."""
        entry = self.entries.setdefault(task_id, Entry(queue))
        entry.acknowledged = True
        entry.backoff = backoff
        entry.is_immediate = is_immediate

    def key_accepted(
        self, name: tuple[str, str], task_id: str, *, begun: Moment, ttl: float
    ) -> None:
        """Record a push with a key that was answered with 201; fail if its key was in use."""
        at, key = self.measured(), self._keys.get(name)
        if key is not None:
            latest = self.time.latest_confirmed(since=0.0, at=at)
            if latest < key.expires_at - SLACK:
                self._fail(f"key {name} was forgotten {key.expires_at - latest:.0f} s early")
        # Keys that were pushed while the clock was ahead also expire by a clock that is set back.
        pushed_at = min(begun / SECOND, self.clock.now() / SECOND, self.time.confirmed(at))
        self._keys[name] = Key(task_id, pushed_at + ttl)
        entry = self.entries[task_id]
        if entry.deleted_at is not None or self._is_deleted(task_id, entry):
            del self._keys[name]

    def deletion_requested(self, deletion: Deletion) -> None:
        """Record a request that deletes tasks, which may free their keys."""
        self.deletions.add(deletion)
        for name, key in list(self._keys.items()):
            if deletion.covers(key.task_id, name[0]):
                del self._keys[name]

    def next_push(self) -> str:
        """Return a unique label for a push."""
        self._pushes += 1
        return str(self._pushes)

    def committed(self, news: News) -> None:
        """Record the changes of a commit."""
        if not self.is_alive:
            return
        for task in news.tasks:
            entry = self.entries.setdefault(task.task_id, Entry(task.queue))
            self.seen[f"task {task.change}"] += 1
            if task.change is Change.DELETED:
                self._record_deletion(task.task_id, entry, "was deleted without a request")
            elif task.change is Change.REQUEUED:
                entry.ended, entry.death = False, None
            elif task.change in ENDS or task.change is Change.FAILED:
                self._record_end(task.task_id, entry, task.change)

    def _record_end(self, task_id: str, entry: Entry, change: Change) -> None:
        outcome, sent = entry.last_outcome, entry.last_sent
        # The outcome of a failed row's last attempt is unknown.
        if sent is not None and sent.outcome is not None and not self.may_fail(task_id):
            self._recorded[task_id, sent.round] = sent.number
        entry.ended = change in ENDS
        if change is Change.DIED:
            self._note_death(entry, self.row(task_id))
        if change is Change.SUCCEEDED and not _is_success(outcome):
            self._fail(f"task {task_id} has succeeded, but its receiver answered {outcome}")

    def _note_death(self, entry: Entry, row: Row | None) -> None:
        if row is None or row.state != "dead" or row.ended_at is None:
            entry.death = None
        elif entry.death is None:
            entry.death = Death(row.ended_at / SECOND, self.measured())

    def _check_retention(self, task_id: str, entry: Entry) -> None:
        """Check that a missing dead letter was kept for its retention."""
        if entry.death is None or self.keep_dead is None or self._is_deleted(task_id, entry):
            return
        if self.failed_pruning(task_id):
            return
        latest = self.time.latest_confirmed(since=entry.death.at, at=self.measured())
        age = latest - entry.death.ended_at
        if age < self.keep_dead - SLACK:
            self._fail(f"dead letter {task_id} was pruned after {age:.0f} s")

    def _set_aside_unpruned(self) -> set[str]:
        """Return the ids of tasks that were set aside; the server counts failed pruning itself."""
        return {task_id for task_id in self.set_aside() if not self.failed_pruning(task_id)}

    def _record_deletion(self, task_id: str, entry: Entry, problem: str) -> None:
        if entry.acknowledged and not self._is_deleted(task_id, entry):
            self._fail(f"task {task_id} {problem}")
        entry.deleted_at = self.clock.monotonic()

    def _is_deleted(self, task_id: str, entry: Entry) -> bool:
        return any(deletion.covers(task_id, entry.queue) for deletion in self.deletions)

    def sending(self, request: Request, origin: str) -> SentAttempt:
        """Record an attempt, and check that it may be sent now."""
        headers = request.headers
        sent = SentAttempt(
            task_id=headers["Poussetaches-Task-ID"],
            round=int(headers["Poussetaches-Round"]),
            number=int(headers["Poussetaches-Attempt"]),
            at=self.clock.monotonic(),
        )
        entry = self.entries.setdefault(sent.task_id, Entry(headers["Poussetaches-Queue"]))
        if headers["Poussetaches-Queue"] == self.rated.name:
            self.seen["rated attempt"] += 1
            if not self.rated.take(self.now()):
                self._fail(f"task {sent.task_id} is sent before its queue's rate allows it")
        if sent.task_id in self.in_flight:
            self._fail(f"task {sent.task_id} is sent while an attempt of it is in flight")
        self._check_row(sent, entry)
        self._check_number(sent, entry, origin)
        self._check_backoff(sent, entry)
        entry.last_sent = sent
        self.sent[headers["Poussetaches-Request-ID"]] = self.in_flight[sent.task_id] = sent
        return sent

    def _check_row(self, sent: SentAttempt, entry: Entry) -> None:
        now = self.clock.monotonic()
        if entry.deleted_at is not None and entry.deleted_at < now - GRACE:
            self._fail(
                f"task {sent.task_id} is sent {now - entry.deleted_at:.3f} s after its deletion"
            )
        row = self.row(sent.task_id)
        if row is None:
            return
        if row.state != "waiting":
            self._fail(f"task {sent.task_id} is sent, but is {row.state} on disk")
        if self.clock.now() < row.run_at and self.clock.jumped_at < now - GRACE:
            self._fail(f"task {sent.task_id} is sent {row.run_at - self.clock.now()} us early")
        if (row.round, row.attempt_count + 1) != (sent.round, sent.number):
            self._fail(f"task {sent.task_id} is sent as attempt {sent.number}, on disk is {row}")
        if not row.forced:
            self._check_pauses(sent, row.queue, now)

    def _check_pauses(self, sent: SentAttempt, queue: str, now: float) -> None:
        for name in (SERVER, queue):
            paused_at = self.pauses.since.get(name)
            if paused_at is not None and paused_at < now - GRACE:
                self._fail(f"task {sent.task_id} is sent, but {name} is paused")

    def _check_number(self, sent: SentAttempt, entry: Entry, origin: str) -> None:
        counted = self._counted.get((sent.task_id, sent.round), 0)
        if sent.number <= counted:
            self._fail(f"attempt {sent.number} of task {sent.task_id} is repeated")
        since = self._began_at if entry.last_sent is None else entry.last_sent.at
        may_be_charged = entry.name_was_unknown or self._was_changed(entry, since)
        if sent.number > counted + 1 and not may_be_charged:
            if self.was_charged(origin, since):
                self.seen["attempt charged unsent"] += 1
            else:
                unsent = sent.number - counted - 1
                self._fail(f"task {sent.task_id} was charged {unsent} attempts never made")
        self._counted[sent.task_id, sent.round] = sent.number - 1

    def _was_changed(self, entry: Entry, since: float) -> bool:
        return max(entry.changed_at, self.changed_at) >= since

    def _check_backoff(self, sent: SentAttempt, entry: Entry) -> None:
        failed = entry.failed
        if failed is None or entry.backoff is None:
            return
        if (failed.round, failed.number + 1) != (sent.round, sent.number):
            return
        if self._was_changed(entry, failed.at) or self.clock.jumped_at >= failed.at:
            return
        wait, waited = entry.backoff.after(failed.number), self.clock.now() - failed.wall
        if waited < wait:
            self._fail(
                f"task {sent.task_id} is sent {waited} us after attempt {failed.number} failed, "
                f"instead of {wait}"
            )

    def ended(self, sent: SentAttempt, outcome: Outcome) -> None:
        """Record the outcome of an attempt."""
        self.in_flight.pop(sent.task_id, None)
        entry = self.entries[sent.task_id]
        entry.last_outcome, entry.failed = outcome, None
        entry.name_was_unknown = outcome.unknown_host  # counts unless the name has resolved before
        if outcome.out_of_resources and not outcome.unreachable:
            sent.costs_nothing = True
            return
        if outcome.cause is Cause.RESTARTED and not entry.forgives(sent):
            self.seen["restart not forgiven"] += 1
        elif outcome.unreachable:
            return  # whether it counts depends on the duration of the outage
        sent.outcome = outcome
        self._counted[sent.task_id, sent.round] = sent.number
        if not _is_success(outcome):
            now, at = self.clock.now(), self.clock.monotonic()
            entry.failed = FailedAttempt(sent.round, sent.number, now, at)

    def cut_off(self, sent: SentAttempt) -> None:
        """Record that the server cut off an attempt."""
        self.in_flight.pop(sent.task_id, None)
        self.seen["attempt cut off by a stop"] += 1

    def server_ended(self) -> None:
        """Record a crash or a stop."""
        self.is_alive = False
        self.seen["attempt cut off by a crash"] += len(self.in_flight)
        self.in_flight.clear()
        self.pauses.restarted()

    def server_started(self, rows: Sequence[Row]) -> None:
        """Compare the ledger with the rows on disk at a start."""
        self.compare(rows)
        for row in rows:
            recorded = self._recorded.get((row.id, row.round), 0)
            if row.attempt_count < recorded:
                self._fail(f"attempt {recorded} of task {row.id} was recorded, but is lost")
            if row.attempt_count < self._counted.get((row.id, row.round), 0):
                self.repeats += 1
            self._counted[row.id, row.round] = row.attempt_count
        self.deletions.clear()
        for entry in self.entries.values():
            entry.last_sent = entry.last_outcome = entry.failed = entry.restarted = None
        self._pruned = 0
        self._began_at = self.clock.monotonic()
        self.is_alive = True

    def compare(self, rows: Sequence[Row]) -> None:
        """Compare the ledger with the rows on disk; no acknowledged task may be lost."""
        found = {row.id: row for row in rows}
        set_aside = self._set_aside_unpruned()
        for task_id, entry in self.entries.items():
            row = found.get(task_id)
            if row is not None and entry.deleted_at is not None:
                self._fail(f"task {task_id} was deleted, but exists")
            elif row is not None:
                entry.ended = row.state in ENDED
                self._note_death(entry, row)
            elif entry.deleted_at is None and task_id in set_aside:
                entry.deleted_at = self.clock.monotonic()
                if not self.may_fail(task_id):
                    self._fail(f"task {task_id} was set aside without a fault")
            elif entry.deleted_at is None and not entry.ended:
                self._record_deletion(task_id, entry, "was acknowledged, but is lost")
            elif entry.deleted_at is None:
                self._check_retention(task_id, entry)
                self._pruned += 1
                entry.deleted_at = self.clock.monotonic()
        for row in rows:
            if row.id not in self.entries:
                self.entries[row.id] = Entry(row.queue, ended=row.state in ENDED)

    def check_refusals(self, stored: Collection[str]) -> None:
        """Compare the labels of the pushes on disk with the answers to their callers."""
        for label in self.refused.intersection(stored):
            self._fail(f"push {label} was answered as not stored, but exists")
        lasted = self.unknown.intersection(stored)
        self.unknown -= lasted
        self.seen["push of unknown outcome that was stored"] += len(lasted)

    def unexpectedly_delayed(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield waiting tasks that are not due although they had no delay and no failure."""
        for row in rows:
            entry = self.entries.get(row.id)
            is_as_pushed = row.round == 1 and row.attempt_count == 0 and not row.forced
            if (
                entry is None
                or not entry.is_immediate
                or entry.changed_at >= 0
                or not is_as_pushed
            ):
                continue
            if row.state == "waiting" and row.run_at > self.clock.now() + SECOND:
                yield row

    def count_pruned(self, rows: Sequence[Row]) -> int:
        """Return how many ended tasks are missing, and were not deleted, since the start."""
        found = {row.id for row in rows} | self._set_aside_unpruned()
        gone = [
            (task_id, entry)
            for task_id, entry in self.entries.items()
            if entry.ended and entry.deleted_at is None and task_id not in found
        ]
        for task_id, entry in gone:
            self._check_retention(task_id, entry)
        return self._pruned + len(gone)


def _is_success(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == 200 and outcome.error is None
