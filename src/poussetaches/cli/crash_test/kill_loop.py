"""``crash_test``: runs a crash test from start to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from poussetaches.cli.crash_test.account import Account, account_of
from poussetaches.cli.crash_test.load import Pusher
from poussetaches.cli.crash_test.receiver import Receiver, receiving
from poussetaches.cli.crash_test.victim import CrashTestFailed, VictimServer
from poussetaches.store import verify_store
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback

PUSHERS = 4
CONCURRENCY = 8  # maximum attempts in flight
KILLS_PER_START = 5  # one kill in five happens while the server starts
START = 0.5  # seconds, approximately
PATIENCE = 120.0  # seconds without a delivery until the remaining tasks count as lost
POLL = 0.1  # seconds


def crash_test(
    data_dir: Path, *, kills: int, seconds: float, random: Random, progress: ProgressCallback
) -> Account:
    """Kill a server under load at random times; ``seconds`` is the total duration.

    Raises:
        CrashTestFailed: the server could not be started.
    """
    server = VictimServer(data_dir, concurrency=CONCURRENCY)
    with receiving() as receiver:
        pushers = [
            Pusher(server.url, receiver.url, f"pusher{number}", Random(random.random()))  # noqa: S311 - no secrets
            for number in range(PUSHERS)
        ]
        try:
            server.start()
            server.wait_until_it_listens()
            for pusher in pushers:
                pusher.start()
            _kill_repeatedly(server, kills, seconds / max(kills, 1), random, progress)
            _stop(pushers)
            _wait_for_remaining(server, receiver, progress)
        finally:
            _stop(pushers)
            server.kill()
        pushed = {name: push for pusher in pushers for name, push in pusher.pushed.items()}
        problems = verify_store(DataFolder(data_dir), progress).problems
        return account_of(
            pushed,
            list(receiver.deliveries),
            kills=kills,
            in_flight=CONCURRENCY,
            problems=[found.what for found in problems],
        )


def _kill_repeatedly(
    server: VictimServer, kills: int, gap: float, random: Random, progress: ProgressCallback
) -> None:
    for number in range(kills):
        progress("kill -9", number, kills)
        if number % KILLS_PER_START == KILLS_PER_START - 1:
            time.sleep(random.uniform(0, START))
        else:
            server.wait_until_it_listens()
            time.sleep(random.uniform(0, 2 * gap))
        server.kill()
        server.start()
    server.wait_until_it_listens()


def _stop(pushers: Sequence[Pusher]) -> None:
    for pusher in pushers:
        pusher.stop()
    for pusher in pushers:
        if pusher.is_alive():
            pusher.join()


def _wait_for_remaining(
    server: VictimServer, receiver: Receiver, progress: ProgressCallback
) -> None:
    seen, deadline = -1, 0.0
    while unfinished := server.unfinished():
        progress("waiting for the last tasks", 0, None)
        if len(receiver.deliveries) != seen:
            seen, deadline = len(receiver.deliveries), time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise CrashTestFailed(f"{unfinished} tasks are still not delivered")
        time.sleep(POLL)
