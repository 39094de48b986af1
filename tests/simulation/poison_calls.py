"""Random calls that must be refused, and random rows that are made to fail."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from random import Random

from tests.simulation.callers import CANARIES, HOSTS, SCHEDULES
from tests.simulation.world import World

REFUSED = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE, 507)


class PoisonCallers:
    """Pushes tasks that must be refused, and makes rows fail."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random

    async def push_odd_url(self) -> None:
        """Push a URL that parsers disagree about; it must be refused."""
        url = self._world.poison.odd_url(self._random.choice(HOSTS))
        method, path, body = self._random.choice(
            [
                ("POST", "/v1/tasks", {"url": url}),
                ("POST", "/v1/tasks/batch", {"tasks": [{"url": url}]}),
                ("POST", "/v1/tasks", {"url": f"http://{HOSTS[0]}/", "on_dead": url}),
                ("PUT", "/v1/schedules/odd", {"cron": "@daily", "task": {"url": url}}),
                ("PATCH", "/v1/queues/default", {"base_url": url}),
                ("POST", "/", {"url": url, "payload": "e30="}),
            ]
        )
        answer = await self._world.request(method, path, body)
        if answer.status not in REFUSED:
            self._world.fail(f"{method} {path} {body} was answered with {answer.status}")

    async def make_task_fail(self) -> None:
        """Make a waiting or running task fail from now on."""
        row = self._random_row("state = 'waiting'")
        if row is not None:
            self._world.poison.make_task_fail(*row)

    async def make_pruning_fail(self) -> None:
        """Make an ended task fail when it is pruned."""
        row = self._random_row("state <> 'waiting'")
        if row is not None:
            self._world.poison.make_pruning_fail(*row)

    async def make_schedule_fail(self) -> None:
        """Make a schedule fail for a time when it is fired."""
        name = self._random.choice(SCHEDULES)
        self._world.poison.make_schedule_fail(name)
        await asyncio.sleep(self._random.random() * 600)
        self._world.poison.remove_schedule_fault(name)

    def _random_row(self, where: str) -> tuple[int, str] | None:
        rows = self._world.server.query(
            f"SELECT seq, id FROM tasks WHERE {where} AND queue <> '{CANARIES}' ORDER BY seq"
        )
        if not rows:
            return None
        # Prefer recent tasks: they are more often still waiting or running.
        place = min(int(self._random.expovariate(0.05)), len(rows) - 1)
        seq, task_id = rows[-1 - place]
        assert isinstance(seq, int)
        return seq, str(task_id)
