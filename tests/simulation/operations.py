"""The random operations of a history, and the time between them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.core.target import origin_of
from tests.simulation.callers import HEALTHY_ORIGIN, HOSTS, Callers
from tests.simulation.disk import Fault
from tests.simulation.network import BEHAVIOURS, Behaviour
from tests.simulation.poison_calls import PoisonCallers
from tests.simulation.world import JUMPS, World

SUSPENSIONS = (2, 45, 300, 10_000)  # seconds
CANARY_WAIT = 1.0  # seconds in which a task must be sent if no limit delays it
STOP = "stop"


class Operation(NamedTuple):
    """An operation; ``weight`` is its relative frequency."""

    name: str
    weight: float
    do: Callable[[], Awaitable[object]]


class Plan:
    """Chooses operations at random and runs them."""

    def __init__(self, world: World, callers: Callers, poison: PoisonCallers) -> None:
        self._world = world
        self._random = world.random
        self._callers = callers
        self._poison = poison
        self._background: list[asyncio.Future[object]] = []
        self._operations = self._table()
        self._weights = [operation.weight for operation in self._operations]

    async def run_next_operation(self) -> str:
        """Wait, start an operation, and return its name; some continue in the background."""
        await self._wait_a_while()
        operation = self._random.choices(self._operations, self._weights)[0]
        self._world.note(operation.name)
        self._world.seen[operation.name] += 1
        working = self._in_background(operation.do)
        if self._random.random() < 0.7:
            await working
        return operation.name

    async def finish_background(self) -> None:
        """Wait for the operations in the background."""
        await asyncio.gather(*self._background)

    def _table(self) -> list[Operation]:
        callers = self._callers
        return [
            Operation("push", 40, callers.push),
            Operation("push of a batch", 6, callers.push_batch),
            Operation("push as the original", 5, callers.push_as_the_original),
            Operation("edit", 10, callers.edit),
            Operation("delete", 2, callers.delete),
            Operation("bulk edit", 2, callers.edit_many),
            Operation("bulk delete", 0.5, callers.delete_many),
            Operation("limits of a queue", 2, callers.set_queue),
            Operation("pause", 1, callers.pause),
            Operation("resume", 2, callers.resume),
            Operation("purge", 0.5, callers.purge),
            Operation("delete of a queue", 0.5, callers.delete_queue),
            Operation("schedule", 2, callers.schedule),
            Operation("read", 6, callers.read),
            Operation("canary", 3, self._send_canary),
            Operation("push of an odd URL", 1, self._poison.push_odd_url),
            Operation("fault in a task", 0.5, self._poison.make_task_fail),
            Operation("fault in pruning", 0.2, self._poison.make_pruning_fail),
            Operation("fault in a schedule", 0.2, self._poison.make_schedule_fail),
            Operation("change of a receiver", 5, self._change_behaviour),
            Operation("push to a queue with a rate", 2, callers.push_rated),
            Operation("jump of the clock", 0.6, self._jump),
            Operation("wrong time for a while", 0.3, self._set_clock_wrong),
            Operation("suspended machine", 0.1, self._suspend_machine),
            Operation("suspended process", 0.3, self._suspend_process),
            Operation("crash between two steps", 0.7, self._crash_soon),
            Operation("crash at a commit", 0.7, self._crash_at_commit),
            Operation(STOP, 0.3, _nothing),
            Operation("failing commit", 0.7, self._fail_a_commit),
            Operation("full disk", 0.3, self._fill_disk),
            Operation("broken disk", 0.2, self._break_disk),
            Operation("shortage", 0.4, self._begin_shortage),
        ]

    async def _wait_a_while(self) -> None:
        chance = self._random.random()
        for limit, longest in ((0.4, 0.0), (0.8, 0.05), (0.98, 5.0), (0.9995, 120.0), (1, 7200.0)):
            if chance < limit:
                await asyncio.sleep(self._random.random() * longest)
                return

    async def _change_behaviour(self) -> None:
        origin = origin_of(f"http://{self._random.choice(HOSTS)}/")
        behaviour = self._random.choice((Behaviour.HEALTHY, Behaviour.HEALTHY, *BEHAVIOURS))
        self._world.network.behaviours[origin] = behaviour
        self._world.note(origin, behaviour)

    async def _jump(self) -> None:
        seconds = self._random.choice(JUMPS) * self._random.choice((-1, 1))
        self._world.seen[f"jump of {seconds} s"] += 1
        self._world.set_clock(seconds)

    async def _set_clock_wrong(self) -> None:
        """Set the clock to a wrong time, and correct it after a while."""
        seconds = self._random.choice(JUMPS) * self._random.choice((-1, 1))
        self._world.set_clock(seconds)
        await asyncio.sleep(self._random.choice((0.1, 15.0, 100.0)))
        self._world.set_clock(-seconds)

    async def _suspend_machine(self) -> None:
        seconds = self._random.choice((60.0, 86_400.0))
        self._world.suspend_machine(seconds)
        self._world.ledger.rated.suspended(seconds)

    async def _suspend_process(self) -> None:
        """Suspend the process for a while; it must be healthy as soon as it resumes."""
        seconds = self._random.choice(SUSPENSIONS)
        self._world.clock.suspend_process(seconds)
        self._world.ledger.rated.suspended(seconds)
        answer = await self._world.request("GET", "/healthz", None)
        if answer.status != HTTPStatus.OK:
            self._world.fail(f"the server is unhealthy after it was suspended: {answer.body!r}")

    async def _crash_soon(self) -> None:
        for _ in range(self._random.randint(0, 40)):
            await asyncio.sleep(0)
        if self._world.is_alive:
            self._world.crash()

    async def _crash_at_commit(self) -> None:
        self._fail_soon(Fault.CRASH_BEFORE, Fault.CRASH_AFTER)

    async def _fail_a_commit(self) -> None:
        self._fail_soon(Fault.UNDONE, Fault.STORED)

    def _fail_soon(self, *faults: Fault) -> None:
        disk = self._world.machine.disk
        disk.fail(self._random.choice(faults), after=self._random.randint(1, 6))

    async def _fill_disk(self) -> None:
        self._world.machine.disk.fill()
        self.repair_later()

    async def _break_disk(self) -> None:
        self._world.machine.disk.begin_io_errors()
        self.repair_later()

    async def _begin_shortage(self) -> None:
        self._world.network.begin_shortage()
        self.repair_later()

    def repair_later(self) -> None:
        """Repair the disk and the network after a time."""

        async def repair() -> None:
            await asyncio.sleep(self._random.choice((0.2, 3.0, 60.0)))
            self._world.machine.disk.repair()
            self._world.network.end_shortage()

        self._in_background(repair)

    def _in_background(self, work: Callable[[], Awaitable[object]]) -> asyncio.Future[object]:
        working = asyncio.ensure_future(self._guarded(work))
        self._background = [other for other in self._background if not other.done()]
        self._background.append(working)  # the loop has only weak references
        return working

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> object:
        try:
            return await work()
        except Exception as exc:  # an unexpected answer is a finding
            self._world.fail(f"a caller raised {exc!r}  {traceback.format_exc(limit=-3)}")
            raise

    async def _send_canary(self) -> None:
        """Push a task that no limit delays: it must be sent within a second."""
        world = self._world
        begun_at, is_held = world.clock.monotonic(), self._is_held()
        task_id = await self._callers.push_canary()
        if task_id is None:
            return
        ends_at = world.clock.monotonic() + CANARY_WAIT
        while world.clock.monotonic() < ends_at:
            is_held = is_held or self._is_held()
            if world.ledger.entries[task_id].last_sent is not None:
                world.seen["canary that was sent"] += 1
                return
            await asyncio.sleep(0.02)
        if not is_held and world.clock.jumped_at < begun_at:
            world.fail(f"canary {task_id} was not sent within {CANARY_WAIT:g} s")

    def _is_held(self) -> bool:
        """Return whether a limit delays all tasks."""
        engine = self._world.server.engine
        is_full = engine.in_flight >= self._world.max_in_flight
        is_in_trouble = self._world.server.store.trouble is not None
        is_ill = is_in_trouble or not self._world.machine.disk.is_healthy
        is_limited = engine.limits.room < self._world.max_in_flight - engine.in_flight
        has_shortage = (
            self._world.network.has_shortage or is_limited or HEALTHY_ORIGIN in engine.held()
        )
        return is_full or is_ill or has_shortage or engine.paused or engine.limits.is_draining


async def _nothing() -> None:
    """Do nothing: the history stops the server."""
