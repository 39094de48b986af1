"""One history: a server, its callers, its receivers and its disk, from one seed."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from poussetaches.core.errors import StoreUnavailable
from tests.simulation.callers import Callers
from tests.simulation.final_checks import check, check_folder, recover_and_drain
from tests.simulation.loop import Deadlock, Livelock
from tests.simulation.operations import STOP, Plan
from tests.simulation.poison_calls import PoisonCallers
from tests.simulation.server import LogHandler, Server, cancel_other_tasks
from tests.simulation.world import World

MIN_OPERATIONS, MAX_OPERATIONS = 50, 5000  # operations
DRAIN_TIMEOUTS = (0.0, 5.0, 30.0)  # seconds
IN_MEMORY = Path("/dev/shm")  # faster than a disk
# Loggers whose lines at INFO would take too much time.
QUIET_LOGGERS = ("poussetaches.engine.dispatcher", "poussetaches.api")


class Result(NamedTuple):
    """The result of a history. ``digest`` is a hash of all its events."""

    seed: int
    operations: int
    failure: str | None
    lines: list[str]  # the last events
    seen: Counter[str]
    digest: str


class History:
    """Runs the planned operations, through crashes and restarts."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self.world = World(seed, folder)
        self._planned = round(
            MIN_OPERATIONS * (MAX_OPERATIONS / MIN_OPERATIONS) ** self.world.random.random()
        )
        self._operations = 0
        self._life_count = 0
        self._is_over = False
        self._server: Server | None = None

    def run(self) -> Result:
        """Run the history to its end."""
        world = self.world
        while not self._is_over and world.failure is None:
            self._run_life()
        return Result(
            seed=self._seed,
            operations=self._operations,
            failure=world.failure,
            lines=list(world.lines),
            seen=world.seen,
            digest=world.digest,
        )

    def _run_life(self) -> None:
        """Run a server until it stops or is killed, and release its resources."""
        self._server = None
        loop = self.world.start_loop()
        serving = loop.create_task(self._serve())
        serving.add_done_callback(_stop_loop)
        try:
            loop.run_forever()
        except Deadlock:
            self.world.fail("every task waits, and no timer is set")
        except Livelock:
            self.world.fail("the event loop never waits")
        loop.turns = 0
        serving.remove_done_callback(_stop_loop)
        loop.call_soon(loop.stop)  # that callback may already be scheduled
        loop.run_forever()
        error = serving.exception() if serving.done() else None
        if error is not None:
            broken = "".join(traceback.format_exception(error))
            self.world.fail(f"the history raised: {broken}")
        self.world.stay_down()
        loop.run_until_complete(cancel_other_tasks())
        loop.run_until_complete(self._release_server())
        loop.close()
        if error is not None and self.world.failure is None:
            raise error

    async def _release_server(self) -> None:
        if self._server is not None:
            await self._server.release()

    async def _serve(self) -> None:
        self._life_count += 1
        world = self.world
        world.poison.corrupt_rows(world.machine.path)
        try:
            server = await Server.started(
                world.machine,
                clock=world.clock,
                random=Random(f"server {self._seed} {self._life_count}"),
                listener=world.ledger,
            )
        except StoreUnavailable:
            world.note("failed start")
            world.seen["failed start"] += 1
            world.machine.disk.repair()
            return
        self._server = server
        world.add_server(server)
        callers = Callers(world)
        plan = Plan(world, callers, PoisonCallers(world, Random(f"poison {self._seed}")))
        plan.repair_later()
        server.start_delivery()
        while self._operations < self._planned:
            self._operations += 1
            self.world.loop.turns = 0
            if await plan.run_next_operation() == STOP:
                break
        else:
            await plan.finish_background()
            await recover_and_drain(world, callers)
            check(world)
            self._is_over = True
        await server.stop(world.random.choice(DRAIN_TIMEOUTS))
        if self._is_over:
            check_folder(world)


def _stop_loop(task: asyncio.Task[None]) -> None:
    task.get_loop().stop()


def run_history(seed: int) -> Result:
    """Run the history of a seed in a temporary folder."""
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="poussetaches-", dir=place) as folder:
        history = History(seed, Path(folder))
        with _log_passed_to(history), warnings.catch_warnings():
            # Coroutines that were scheduled when a server was killed never start.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            return history.run()


@contextmanager
def _log_passed_to(history: History) -> Iterator[None]:
    """Pass the server's log to the history only."""
    logger = logging.getLogger("poussetaches")
    handler = LogHandler(history.world.handle_log)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)
