"""No acknowledged task is lost when a server is killed under load."""

from __future__ import annotations

import time
from pathlib import Path

from poussetaches.cli.crash_test.kill_loop import crash_test
from tests.acceptance.harness import Server, receiving, wait_until
from tests.factories import seeded

KILLS = 8
SECONDS = 2.5


def test_kill_9_under_load_loses_nothing_and_repeats_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    account = crash_test(
        tmp_path / "data",
        kills=KILLS,
        seconds=SECONDS,
        random=seeded(),
        progress=lambda *_: None,
    )

    print(account)
    assert account.acknowledged, "nothing was pushed"
    assert account.unacknowledged, "no kill came under load"
    assert account.lost == []
    assert account.early == []
    assert account.problems == []
    assert account.repeats <= account.bound
    assert account.is_fine


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
