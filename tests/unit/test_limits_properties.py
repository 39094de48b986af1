"""Rates, slots and turns hold with all settings and all durations of attempts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st

from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import SECOND
from poussetaches.core.queue import Lane, Queue, QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.target import origin_of
from poussetaches.core.task import Outcome, Task, TaskState
from poussetaches.core.wait_reason import WaitReason
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.origins import Origins
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.request import Request
from poussetaches.engine.virtual_clock import STARTED
from poussetaches.store.sqlite import SqliteStore
from tests.effort import examples
from tests.factories import NOW, make_queue, make_task, seeded
from tests.fakes import FakeClock, let_run
from tests.store.sqlite_files import opened

SPAN = 10.0  # seconds that are looked at
PLENTY = 10_000  # slots that are never all taken
A_MICROSECOND = 1 / SECOND

durations = st.lists(st.sampled_from([0.0, 0.001, 0.3, 1.0, 2.7]), min_size=1, max_size=5)
rates = st.floats(0.2, 8)
bursts = st.integers(1, 6)


class TimedSender:
    """Takes a given time for each attempt, and counts attempts in flight."""

    def __init__(self, clock: FakeClock, durations: Sequence[float]) -> None:
        self._clock = clock
        self._durations = cycle(durations)
        self._ends: list[float] = []
        self.started_at: list[float] = []
        self.on_wire: Counter[tuple[str, str]] = Counter()  # by queue and origin
        self.most: Counter[tuple[str, str]] = Counter()
        self.most_by_queue: Counter[str] = Counter()
        self.most_in_all = 0

    @property
    def next_end(self) -> float | None:
        """When the next attempt ends."""
        now = self._clock.monotonic()
        return min((end for end in self._ends if end > now), default=None)

    async def send(self, request: Request) -> Outcome:
        """Take the next of the times."""
        queue = request.headers["Poussetaches-Queue"]
        place = (queue, origin_of(request.url))
        self.on_wire[place] += 1
        self._note_most(queue, place)
        now, duration = self._clock.monotonic(), next(self._durations)
        self.started_at.append(now)
        self._ends.append(now + duration)
        await self._clock.sleep(duration)
        self.on_wire[place] -= 1
        return Outcome(status=200)

    async def probe(self, origin: str) -> Outcome | None:
        """Succeed."""
        return None

    async def close(self) -> None:
        """Do nothing."""

    def _note_most(self, queue: str, place: tuple[str, str]) -> None:
        by_queue = sum(count for (name, _), count in self.on_wire.items() if name == queue)
        self.most[place] = max(self.most[place], self.on_wire[place])
        self.most_by_queue[queue] = max(self.most_by_queue[queue], by_queue)
        self.most_in_all = max(self.most_in_all, self.on_wire.total())


class World:
    """An engine with its clock and its sender; time passes when a test says so."""

    def __init__(
        self, engine: Engine, clock: FakeClock, sender: TimedSender, store: SqliteStore
    ) -> None:
        self.store = store
        self.engine = engine
        self.clock = clock
        self.sender = sender

    async def settle(self) -> float | None:
        """Start all that may start now; return when to look again."""
        while True:
            before = len(self.sender.started_at)
            wake_at = await self.engine.dispatcher.tick()
            await let_run()
            if len(self.sender.started_at) == before:
                return wake_at

    async def reasons(self) -> dict[str, list[WaitReason]]:
        """Return the reasons of each waiting task; a list gives the same."""
        waiting = TaskFilter(states=frozenset({TaskState.WAITING}))
        tasks = (await self.store.tasks(waiting, after=None, limit=1000)).tasks
        in_short = self.engine.wait_reasons(tasks)
        found = {}
        for task, short in zip(tasks, in_short, strict=True):
            full = self.engine.waiting_for(task)
            found[task.id] = [each.reason for each in full]
            assert [(each.reason, each.until) for each in short or ()] == [
                (each.reason, each.until) for each in full
            ]
        return found

    async def run(self, seconds: float) -> None:
        """Tick at each moment that the engine asks for, or when an attempt ends."""
        end = self.clock.monotonic() + seconds
        while True:
            moments = [await self.settle(), self.sender.next_end]
            moment = min((moment for moment in moments if moment is not None), default=end)
            if moment > end or self.clock.monotonic() >= end:
                return
            wait = moment - self.clock.monotonic()
            self.clock.advance(max(A_MICROSECOND, math.ceil(wait * SECOND) / SECOND))
            await let_run()


def _put(queue: Queue, _: Queue | None) -> Queue:
    return queue


@asynccontextmanager
async def world(
    config: EngineConfig,
    durations: Sequence[float],
    queues: Sequence[Queue],
    tasks: Sequence[Task],
) -> AsyncIterator[World]:
    """Return a world in which tasks wait."""
    clock = FakeClock()
    sender = TimedSender(clock, durations)
    async with opened(None) as store:
        for queue in queues:
            await store.edit_queue(queue.name, partial(_put, queue))
        await store.restore([(task, []) for task in tasks])
        engine = Engine(store=store, sender=sender, clock=clock, random=seeded(), config=config)
        await engine.load()
        yield World(engine, clock, sender, store)
        await engine.stop(0)


def rated(rate: float, burst: int) -> tuple[EngineConfig, list[Task]]:
    """Return a server with that rate, and more tasks than it lets through in the span."""
    queue = QueueSettings(rate=rate, burst=burst, concurrency=PLENTY)
    tasks = [make_task(f"task-{number}") for number in range(math.ceil(rate * SPAN) + burst + 1)]
    return EngineConfig(queue=queue, max_in_flight=PLENTY), tasks


@settings(max_examples=examples(20))
@given(rates, bursts, durations, st.lists(st.floats(0.01, 1.5), min_size=1, max_size=5))
async def test_rate_and_burst_are_never_exceeded(
    rate: float, burst: int, durations: list[float], steps: list[float]
) -> None:
    """At most rate times time plus burst, at every moment."""
    config, tasks = rated(rate, burst)
    async with world(config, durations, [], tasks) as given_world:
        for step in cycle(steps):
            await given_world.settle()
            given_world.clock.advance(step)
            if given_world.clock.monotonic() > STARTED + SPAN:
                break

        count = len(given_world.sender.started_at)
        assert count <= rate * SPAN + burst + 1e-4


@settings(max_examples=examples(20))
@given(rates, bursts, durations)
async def test_rate_and_burst_are_used_up(rate: float, burst: int, durations: list[float]) -> None:
    """With enough tasks, at least 98 % of what is allowed starts, in whole attempts."""
    config, tasks = rated(rate, burst)
    async with world(config, durations, [], tasks) as given_world:
        await given_world.run(SPAN)

        count = len(given_world.sender.started_at)
        assert count >= math.floor(0.98 * (rate * SPAN + burst))
        assert count <= rate * SPAN + burst + 1e-4


ORIGINS = ["http://a.test:80", "http://b.test:80", "http://c.test:80"]

queues = st.builds(
    make_queue,
    st.sampled_from(["one", "two", "three"]),
    concurrency=st.integers(1, 6),
    origin_concurrency=st.none() | st.integers(1, 6),
    base_url=st.sampled_from(ORIGINS),
)
limited_queues = st.builds(
    make_queue,
    st.sampled_from(["one", "two", "three"]),
    paused=st.booleans(),
    rate=st.none() | st.sampled_from([0.5, 2.0]),
    burst=st.integers(1, 3),
    concurrency=st.integers(1, 6),
    origin_concurrency=st.none() | st.integers(1, 6),
)
tasks = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from([*(f"{origin}/run" for origin in ORIGINS), "/run"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def share_of(queue: QueueSettings, origin_count: int) -> int:
    """Return how many slots of a queue one of its origins may hold."""
    if queue.origin_concurrency is not None:
        return min(queue.origin_concurrency, queue.concurrency)
    if origin_count == 1:
        return queue.concurrency
    return max(1, queue.concurrency * 3 // 4)


@settings(max_examples=examples(40))
@given(st.lists(queues, max_size=3), tasks, st.integers(1, 12), durations)
async def test_slots_are_never_exceeded_and_every_task_gets_one(
    configured: list[Queue],
    wanted: list[tuple[str, str, bool]],
    max_in_flight: int,
    durations: list[float],
) -> None:
    defaults = QueueSettings(base_url=ORIGINS[0])
    config = EngineConfig(queue=defaults, max_in_flight=max_in_flight)
    known = Queues(defaults, original_retry=RetryPolicy())
    known.update({queue.name: queue for queue in configured})
    made = [
        make_task(f"task-{number}", queue=queue, url=url, forced=forced)
        for number, (queue, url, forced) in enumerate(wanted)
    ]
    places = {(task.queue, known.origin_of(task.lane)) for task in made}
    origin_counts = Counter(queue for queue, _ in places)
    async with world(config, durations, configured, made) as given_world:
        await given_world.run(1000)

        sender = given_world.sender
        assert len(sender.started_at) == len(made)
        assert sender.most_in_all <= max_in_flight
        for queue, most in sender.most_by_queue.items():
            assert most <= known.settings_of(queue).concurrency
        assert set(sender.most) == places
        for (queue, _), most in sender.most.items():
            assert most <= share_of(known.settings_of(queue), origin_counts[queue])


@settings(max_examples=40)
@given(
    st.lists(limited_queues, max_size=3),
    tasks,
    st.integers(1, 12),
    durations,
    st.lists(st.sampled_from([0.0, 0.1, 1.0, 5.0]), min_size=1, max_size=6),
)
async def test_attempt_starts_exactly_if_a_task_has_no_reason_to_wait(
    configured: list[Queue],
    wanted: list[tuple[str, str, bool]],
    max_in_flight: int,
    durations: list[float],
    steps: list[float],
) -> None:
    config = EngineConfig(queue=QueueSettings(base_url=ORIGINS[0]), max_in_flight=max_in_flight)
    made = [
        make_task(f"task-{number}", queue=queue, url=url, forced=forced)
        for number, (queue, url, forced) in enumerate(wanted)
    ]
    async with world(config, durations, configured, made) as given_world:
        for step in steps:
            given_world.clock.advance(step)
            await let_run()
            has_room = [] in (await given_world.reasons()).values()
            before = len(given_world.sender.started_at)
            await given_world.settle()

            assert (len(given_world.sender.started_at) > before) == has_room
            assert [] not in (await given_world.reasons()).values()


@given(
    st.dictionaries(
        st.sampled_from(["one", "two", "three", "four", "five"]),
        st.tuples(st.integers(1, 6), st.integers(1, 7)),
        min_size=1,
    ),
    st.integers(1, 12),
)
def test_every_queue_and_lane_with_due_tasks_gets_its_turn(
    shape: dict[str, tuple[int, int]], room: int
) -> None:
    """Attempts of one second: a queue has a turn within (queues / room) seconds, rounded up.

    So one of its lanes has, within that times their number: repeatedly, however many
    tasks the others have.
    """
    clock = FakeClock()
    known = Queues(QueueSettings(), original_retry=RetryPolicy())
    known.update({name: make_queue(name, concurrency=slots) for name, (slots, _) in shape.items()})
    lanes = Lanes(known, origins=Origins(hold_for=3600), clock=clock)
    for name, (_, lane_count) in shape.items():
        for number in range(lane_count):
            lanes.add_waiting(Lane(name, f"http://{number}.test:80"), NOW)
    most_lanes = max(lane_count for _, lane_count in shape.values())
    patience = math.ceil(len(shape) / room) * most_lanes
    last_turns = {lane: 0 for queue in lanes.states() for lane in queue.lanes}

    for second in range(1, 5 * patience):
        wanted = lanes.startable(room)
        started = [
            (lane, lanes.start_attempt(lane))
            for lane, count in wanted.items()
            for _ in range(count)
        ]
        last_turns |= dict.fromkeys(wanted, second)
        late = {lane for lane, turn in last_turns.items() if second - turn >= patience}
        assert late == set(), (second, patience)
        clock.advance(1)
        for lane, origin in started:
            lanes.end_attempt(lane, origin)
