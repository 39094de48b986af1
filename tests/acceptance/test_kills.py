"""The promise itself: kill -9 under load, and nothing acknowledged is lost."""

from __future__ import annotations

import base64
import http.client
import json
import operator
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

from tests.acceptance.harness import KEY, Delivery, Server, receiving, wait_until

KILLS = 20
PUSHERS = 4
CONCURRENCY = 8


class Pusher(threading.Thread):
    """Pushes tasks again and again, and remembers which were acknowledged, and for when."""

    def __init__(self, server: Server, target: str, name: str) -> None:
        super().__init__()
        self._server = server
        self._target = target
        self._name = name
        self.acknowledged: list[str] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        """Push until stopped; a push that got no answer is not counted."""
        number = 0
        while not self.stopped.is_set():
            number += 1
            payload = f"{self._name}-{number}".encode()
            push = {"url": self._target, "payload": base64.b64encode(payload).decode()}
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
            try:
                connection.request("POST", "/", json.dumps(push))
                if connection.getresponse().status == 201:
                    self.acknowledged.append(payload.decode())
            except (OSError, http.client.HTTPException):
                self.stopped.wait(0.01)  # the server is down; it comes back
            finally:
                connection.close()


def test_kill_9_under_load_loses_nothing_and_repeats_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    random = Random(20)  # noqa: S311 - when to kill
    failed_once: set[str] = set()

    def answer(delivery: Delivery) -> int:
        """Fail every fifth task's first attempt, so that retries are under way at a kill."""
        name = delivery.payload.decode()
        if name.endswith("5") and name not in failed_once:
            failed_once.add(name)
            return 500
        return 200

    with receiving(answer) as receiver:
        server = Server(
            tmp_path / "data",
            env={
                "POUSSETACHES_CONCURRENCY": str(CONCURRENCY),
                "POUSSETACHES_ORIGINAL_MIN_BACKOFF": "0.2",
                "POUSSETACHES_LOG_LEVEL": "warning",
            },
        )
        pushers = [
            Pusher(server, f"{receiver.url}/task", f"p{number}") for number in range(PUSHERS)
        ]
        try:
            server.start()
            for pusher in pushers:
                pusher.start()
            for _ in range(KILLS):
                enough = len(receiver.deliveries) + random.randint(10, 100)
                wait_until(
                    lambda: len(receiver.deliveries),
                    partial(operator.le, enough),
                    "deliveries to go on after a restart",
                )
                server.kill()
                server.start()
            for pusher in pushers:
                pusher.stopped.set()
                pusher.join()
            wait_until(lambda: server.listing("waiting"), lambda tasks: not tasks, "all to end")
        finally:
            for pusher in pushers:
                pusher.stopped.set()
            server.close()

    acknowledged = {name for pusher in pushers for name in pusher.acknowledged}
    delivered = Counter(delivery.payload.decode() for delivery in receiver.deliveries)
    expected = {name: 1 + (name in failed_once) for name in delivered}
    repeats = sum(delivered[name] - expected[name] for name in delivered)
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged, {repeats} repeats")
    assert acknowledged, "nothing was pushed"
    assert not acknowledged - set(delivered), "acknowledged tasks were lost"
    assert repeats <= KILLS * CONCURRENCY
    assert all(
        delivery.headers["poussetaches-auth-key"] == KEY for delivery in receiver.deliveries
    )


def test_delayed_and_failing_tasks_survive_a_kill_and_are_never_early(tmp_path: Path) -> None:
    answers = iter([500])

    with receiving(lambda _: next(answers, 200)) as receiver:
        server = Server(tmp_path / "data", env={"POUSSETACHES_ORIGINAL_MIN_BACKOFF": "2"})
        try:
            server.start()
            failing = server.push(f"{receiver.url}/failing")
            delayed = server.push(f"{receiver.url}/delayed", delay=1)
            wait_until(
                lambda: server.listing("waiting"),
                lambda tasks: any(task["tries"] == 1 for task in tasks),
                "the first attempt to fail",
            )
            run_at = {task["id"]: task["next_run"] / 1e9 for task in server.listing("waiting")}

            server.kill()
            server.start()

            wait_until(lambda: server.ids("success"), lambda ids: failing in ids, "the retry")
            again = [found for found in receiver.deliveries if found.task_id == failing][1]
            assert again.at >= run_at[failing]
            assert server.ids("waiting") == {delayed}
            assert run_at[delayed] > time.time()
        finally:
            server.close()
