"""Threads that push tasks until they are stopped."""

from __future__ import annotations

import threading
import time
from random import Random
from typing import NamedTuple

from poussetaches.client import NewTask
from poussetaches.client.call import Call
from poussetaches.client.errors import ClientError
from poussetaches.client.single_push import encode_task, read_pushed
from poussetaches.client.transport import HttpTransport

DELAYED = 4  # one task in so many has a delay
LONGEST_DELAY = 2.0  # seconds
BACKOFF = 0.5  # seconds before the second attempt
TIMEOUT = 20.0  # seconds
PAUSE = 0.01  # seconds, when the server is down


class PushRecord(NamedTuple):
    """A push: the earliest time of the delivery, and whether the push was acknowledged."""

    due_at: float
    acknowledged: bool


class Pusher(threading.Thread):
    """Pushes tasks, some with a delay, and records whether each push was acknowledged."""

    def __init__(self, server_url: str, target: str, name: str, random: Random) -> None:
        super().__init__(name=name)
        self._transport = HttpTransport(server_url)
        self._target = target
        self._random = random
        self._stopped = threading.Event()
        self.pushed: dict[str, PushRecord] = {}

    def run(self) -> None:
        """Push until stopped."""
        number = 0
        while not self._stopped.is_set():
            number += 1
            name = f"{self.name}-{number}"
            delay = self._random.uniform(0, LONGEST_DELAY) if number % DELAYED == 0 else 0.0
            due_at = time.time() + delay
            self.pushed[name] = PushRecord(due_at, self._push(name, delay))

    def stop(self) -> None:
        """End after the current push."""
        self._stopped.set()

    def _push(self, name: str, delay: float) -> bool:
        task = NewTask(
            self._target,
            json={"name": name},
            delay=delay,
            retry={"min_backoff": BACKOFF, "max_backoff": BACKOFF, "jitter": 0},
        )
        # Once: a client would repeat the push until the server is up again.
        call = Call("POST", "/v1/tasks", body=encode_task(task))
        try:
            read_pushed(self._transport.send(call, timeout=TIMEOUT), own_key=None)
        except ClientError:
            self._stopped.wait(PAUSE)
            return False
        return True
