"""The state of one history that all its parts share, and its end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, deque
from pathlib import Path
from random import Random

from poussetaches.core.moment import SECOND, Moment
from tests.integration.asgi import Answered
from tests.simulation.disk import Disk
from tests.simulation.ledger import Ledger, RatedQueue, Row
from tests.simulation.loop import SimulatedClock, SimulatedLoop
from tests.simulation.machine_time import MachineTime
from tests.simulation.network import Network
from tests.simulation.poison import Poison
from tests.simulation.server import Machine, Server

STARTED = Moment(1_790_000_000_000_000)  # 2026-09-21 14:13:20 UTC
LAST_LINES = 60
JUMPS = (1, 60, 3600, 86_400, 31_536_000)  # seconds
REBOOT_CHANCE = 0.3  # that the machine restarts, not only the server
WRONG_CLOCK_CHANCE = 0.3  # after a restart of the machine
NOTICED_WITHIN = 120.0  # seconds in which a server records that its clock was set
NO_PRUNING = "10000"  # more tasks than a history has
KEEP_DEAD = 7_776_000.0  # seconds
RATED_RATE, RATED_BURST = 100 / 3600, 10


class World:
    """A machine, its clocks, and the events that were counted so far."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = Random(f"plan {seed}")
        self.seen: Counter[str] = Counter()
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.failure: str | None = None
        self.task_ids: list[str] = []  # ids of tasks that were acknowledged
        self.loop: SimulatedLoop
        self.clock: SimulatedClock
        self.server: Server
        self.is_alive = False
        self.has_stored_failed_commit = False  # in this life of the server
        self.ledger = Ledger(
            seen=self.seen,
            fail=self.fail,
            rated=RatedQueue("rated", rate=RATED_RATE, burst=RATED_BURST),
        )
        self.network = Network(self.ledger, Random(f"network {seed}"), self.seen)
        self.poison = Poison(Random(f"poison {seed}"), self.seen)
        self.machine = Machine(
            path=folder / "tasks.db",
            disk=Disk(self.seen),
            network=self.network,
            settings=_random_settings(self.random),
            row_fault=self.poison,
        )
        self._digest = hashlib.sha256()
        self._time = 1000.0  # of the monotonic clock
        self.ledger.time = MachineTime(STARTED / SECOND)
        self._jumps = 0  # microseconds of the wall clock
        self._starts = 1  # of the machine
        self._slept = 0.0  # seconds for which the machine was suspended
        self._jumped_at = -1.0
        self._seconds_off = 0.0  # seconds for which it was off
        if self.machine.settings["POUSSETACHES_KEEP_DEAD_COUNT"] == NO_PRUNING:
            self.ledger.keep_dead = KEEP_DEAD
        self._connect()

    @property
    def digest(self) -> str:
        """A hash of all events of this history."""
        return self._digest.hexdigest()

    @property
    def hold_for(self) -> float:
        """The seconds for which an origin may be unreachable before its tasks are charged."""
        return float(self.machine.settings["POUSSETACHES_HOLD_FOR"])

    @property
    def max_in_flight(self) -> int:
        """The server's limit of attempts in flight."""
        return int(self.machine.settings["POUSSETACHES_MAX_IN_FLIGHT"])

    def start_loop(self) -> SimulatedLoop:
        """Create a loop and a clock, which continue from the time of the last ones."""
        self.loop = SimulatedLoop(started_at=self._time)
        self.loop.set_exception_handler(self._bad_callback)
        self.clock = SimulatedClock(
            self._wall_time(self._time),
            self.loop,
            start=self._starts,
            slept=self._slept,
            jumped_at=self._jumped_at,
        )
        self.ledger.clock = self.clock
        self._record_clock_setting()
        self.is_alive, self.has_stored_failed_commit = True, False
        return self.loop

    def add_server(self, server: Server) -> None:
        """Add a server that has just started."""
        self.server = server
        self.network.server_started()
        self.ledger.server_started(server.rows())
        self.ledger.check_refusals(server.pushes())
        self.note("start", str(len(self.ledger.entries)))

    def crash(self) -> None:
        """Kill the server: later events are ignored."""
        self.note("crash")
        self.ledger.rated.crashed(self._true_time())
        self.is_alive = self.ledger.is_alive = False
        self.loop.stop()

    def stay_down(self) -> None:
        """Run no server for some time; the machine may restart with a wrong clock."""
        self.is_alive = False
        self.ledger.server_ended()
        ended_at = self.loop.time()
        self._jumps += self.clock.now() - self._wall_time(ended_at)
        self._slept = self.clock.slept
        self._jumped_at = self.clock.jumped_at
        seconds = self.random.choice((0.1, 1.0, 30.0, 4000.0))
        self._time = ended_at + seconds
        # The clock record does not contain a leap that no server noticed.
        if (
            self.random.random() < REBOOT_CHANCE
            and self.clock.jumped_at < ended_at - NOTICED_WITHIN
        ):
            self._restart_machine(seconds)

    def _restart_machine(self, seconds: float) -> None:
        self.seen["restart of the machine"] += 1
        self._starts += 1
        self._seconds_off += seconds
        if self.random.random() < WRONG_CLOCK_CHANCE:
            self._jumps += self.random.choice(JUMPS) * self.random.choice((-1, 1)) * SECOND
            self.ledger.rated.refill()

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock ahead or back, unless the server has crashed."""
        if self.is_alive:
            self.clock.jump(seconds)
            self._record_clock_setting()

    def suspend_machine(self, seconds: float) -> None:
        """Suspend the machine, unless the server has crashed."""
        if self.is_alive:
            self.clock.suspend_machine(seconds)

    def _record_clock_setting(self) -> None:
        measured = self._measured_time()
        offset = self.clock.now() / SECOND - measured
        if self.task_ids:
            self.ledger.time.set(offset, at=measured)
        else:  # an empty store has no record of the time
            self.ledger.time = MachineTime(offset)

    def _measured_time(self) -> float:
        """Return the seconds that the machine's clocks have measured."""
        return self._true_time() - self._seconds_off

    def _true_time(self) -> float:
        """Return the seconds that have passed."""
        return self.loop.time() + self.clock.slept

    def _wall_time(self, time: float) -> Moment:
        return Moment(STARTED + int(time * SECOND) + self._jumps)

    def note(self, *words: str) -> None:
        """Record an event."""
        line = f"{self.loop.time():.6f} {' '.join(words)}"
        self.lines.append(line)
        self._digest.update(line.encode())

    def fail(self, problem: str) -> None:
        """End the history because a promise is broken."""
        if self.failure is None and self.is_alive:
            self.failure = problem
            self.note("FAILED", problem)
            self.loop.stop()

    def handle_log(self, record: logging.LogRecord) -> None:
        """Count a line of the server's log; fail if it has a traceback or a defect."""
        if not self.is_alive:
            return
        message = record.getMessage()
        self.seen[f"log: {message}"] += 1
        self.note("log", message)
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.fail(f"{message}: {record.exc_info[1]!r}")
        defect = self.poison.unexpected(record)
        if defect is not None:
            self.fail(defect)

    async def request(self, method: str, path: str, body: object) -> Answered:
        """Send a request. If the server is killed meanwhile, its answer never arrives."""
        answer = await self.server.request(method, path, body)
        if not self.is_alive:
            await asyncio.get_running_loop().create_future()
        self.note(method, path, str(answer.status))
        return answer

    def _connect(self) -> None:
        disk, network, ledger = self.machine.disk, self.network, self.ledger
        disk.is_dead = network.is_dead = lambda: not self.is_alive
        disk.crash = self.crash
        disk.failed_commit_stored = self._on_failed_commit_stored
        network.now = self._monotonic
        network.note = self.note
        ledger.row = self._row
        ledger.may_fail = self.poison.may_fail
        ledger.failed_pruning = self.poison.failed_pruning
        ledger.set_aside = lambda: self.poison.set_aside(self.server.query)
        ledger.measured, ledger.now = self._measured_time, self._true_time
        ledger.was_charged = lambda origin, since: network.was_charged(
            origin, since, self.hold_for
        )

    def _monotonic(self) -> float:
        return self.clock.monotonic()

    def _row(self, task_id: str) -> Row | None:
        return self.server.row(task_id)

    def _on_failed_commit_stored(self) -> None:
        """Compare the ledger with the rows: the store reports no changes of such a commit."""
        self.has_stored_failed_commit = True
        if self.ledger.is_alive:
            self.ledger.compare(self.server.rows())

    def _bad_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.fail(f"unhandled: {context.get('exception') or context['message']!r}")


def _random_settings(random: Random) -> dict[str, str]:
    return {
        "POUSSETACHES_MAX_IN_FLIGHT": random.choice(("4", "32", "256", "256")),
        "POUSSETACHES_HOLD_FOR": random.choice(("30", "3600")),
        "POUSSETACHES_KEEP_SUCCEEDED_COUNT": random.choice(("10", NO_PRUNING)),
        "POUSSETACHES_KEEP_DEAD_COUNT": random.choice(("20", NO_PRUNING)),
        "POUSSETACHES_ORIGINAL_MAX_BACKOFF": "600",
    }
