"""One history: a server, its callers, its receivers and its disk, all from one seed."""

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
from tests.simulation.ending import calm_down, check, check_folder
from tests.simulation.loop import EverybodyWaits, GoesRound
from tests.simulation.plan import STOP, Plan
from tests.simulation.poison_calls import PoisonCallers
from tests.simulation.server import Ear, Server, end_all_but_this
from tests.simulation.world import World

FEWEST, MOST = 50, 5000  # operations
DRAIN_TIMEOUTS = (0.0, 5.0, 30.0)  # seconds
IN_MEMORY = Path("/dev/shm")  # where there is one, files of histories never meet a disk
# Loggers of which each line would cost too much.
QUIET = ("poussetaches.engine.dispatcher", "poussetaches.api")


class Result(NamedTuple):
    """What became of a history. ``digest`` is of all its events."""

    seed: int
    operations: int
    failure: str | None
    lines: list[str]  # the last events
    seen: Counter[str]
    digest: str


class History:
    """Has happen what is planned, through crashes and restarts."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self.world = World(seed, folder)
        self._planned = round(FEWEST * (MOST / FEWEST) ** self.world.random.random())
        self._operations = 0
        self._lives = 0
        self._is_over = False
        self._server: Server | None = None

    def run(self) -> Result:
        """Let it happen."""
        world = self.world
        while not self._is_over and world.failure is None:
            self._live_once()
        return Result(
            seed=self._seed,
            operations=self._operations,
            failure=world.failure,
            lines=list(world.lines),
            seen=world.seen,
            digest=world.digest,
        )

    def _live_once(self) -> None:
        """Let a server live until it stops or dies, and bury it."""
        self._server = None
        loop = self.world.wake()
        living = loop.create_task(self._live())
        living.add_done_callback(_stop_loop)
        try:
            loop.run_forever()
        except EverybodyWaits:
            self.world.fail("nothing is under way, and nothing ever would be")
        except GoesRound:
            self.world.fail("something is done again and again, and nothing comes of it")
        loop.turns = 0
        living.remove_done_callback(_stop_loop)
        loop.call_soon(loop.stop)  # that callback may have been on its way
        loop.run_forever()
        error = living.exception() if living.done() else None
        if error is not None:
            broken = "".join(traceback.format_exception(error))
            self.world.fail(f"the history broke down: {broken}")
        self.world.sleep_until_the_next_life()
        loop.run_until_complete(end_all_but_this())
        loop.run_until_complete(self._bury())
        loop.close()
        if error is not None and self.world.failure is None:
            raise error

    async def _bury(self) -> None:
        if self._server is not None:
            await self._server.bury()

    async def _live(self) -> None:
        self._lives += 1
        world = self.world
        world.poison.scribble(world.machine.path)
        try:
            server = await Server.started(
                world.machine,
                clock=world.clock,
                random=Random(f"server {self._seed} {self._lives}"),
                listener=world.ledger,
            )
        except StoreUnavailable:
            world.note("start in vain")
            world.seen["start in vain"] += 1
            world.machine.disk.heal()
            return
        self._server = server
        world.begin(server)
        callers = Callers(world)
        plan = Plan(world, callers, PoisonCallers(world, Random(f"poison {self._seed}")))
        plan.heal_later()
        server.deliver()
        while self._operations < self._planned:
            self._operations += 1
            self.world.loop.turns = 0
            if await plan.go_on() == STOP:
                break
        else:
            await plan.come_to_its_end()
            await calm_down(world, callers)
            check(world)
            self._is_over = True
        await server.stop(world.random.choice(DRAIN_TIMEOUTS))
        if self._is_over:
            check_folder(world)


def _stop_loop(task: asyncio.Task[None]) -> None:
    task.get_loop().stop()


def run_history(seed: int) -> Result:
    """Run the history of a seed, in a folder of its own."""
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="poussetaches-", dir=place) as folder:
        history = History(seed, Path(folder))
        with _heard(history), warnings.catch_warnings():
            # What is about to begin when a server dies never does.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            return history.run()


@contextmanager
def _heard(history: History) -> Iterator[None]:
    """Have the history hear what the server logs, and nobody else."""
    logger = logging.getLogger("poussetaches")
    ear = Ear(history.world.hear)
    before = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.level, logger.propagate = before
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.NOTSET)
