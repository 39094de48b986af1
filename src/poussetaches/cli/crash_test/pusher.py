"""A thread that pushes tasks without end."""

from __future__ import annotations

import http.client
import threading
import time
from random import Random
from typing import NamedTuple

from poussetaches.cli.server_calls import ServerCalls

DELAYED = 4  # one task in so many has a delay
LONGEST_DELAY = 2.0  # seconds
BACKOFF = 0.5  # seconds before the second attempt
CREATED = 201
PAUSE = 0.01  # seconds, when the server is down


class Pushed(NamedTuple):
    """A task that was pushed: not before when it may arrive, and whether it was acknowledged."""

    due_at: float
    acknowledged: bool


class Pusher(threading.Thread):
    """Pushes tasks, some with a delay, and remembers what became of each push."""

    def __init__(self, server_url: str, target: str, name: str, random: Random) -> None:
        super().__init__(name=name)
        self._server = ServerCalls(server_url, None)
        self._target = target
        self._random = random
        self._stopped = threading.Event()
        self.pushed: dict[str, Pushed] = {}

    def run(self) -> None:
        """Push until stopped."""
        number = 0
        while not self._stopped.is_set():
            number += 1
            name = f"{self.name}-{number}"
            delay = self._random.uniform(0, LONGEST_DELAY) if number % DELAYED == 0 else 0.0
            due_at = time.time() + delay
            self.pushed[name] = Pushed(due_at, self._push(name, delay))

    def stop(self) -> None:
        """Let it end."""
        self._stopped.set()

    def _push(self, name: str, delay: float) -> bool:
        task = {
            "url": self._target,
            "json": {"name": name},
            "delay": delay,
            "retry": {"min_backoff": BACKOFF, "max_backoff": BACKOFF, "jitter": 0},
        }
        try:
            return self._server.call("POST", "/v1/tasks", task).status == CREATED
        except (OSError, http.client.HTTPException):
            self._stopped.wait(PAUSE)
            return False
