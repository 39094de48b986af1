"""The simulation and its mutations; ``make simulate`` runs more histories."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.callers import Callers
from tests.simulation.history import run_history
from tests.simulation.loop import MAX_TURNS, Deadlock, Livelock, SimulatedLoop
from tests.simulation.mutations import MUTATIONS, ROOT, Mutation, broken_copy, simulated

SEEDS = (1, 2, 5)  # of short histories; .ci/run simulates many more
HISTORIES = 200  # in which each mutation must be found
DIGEST = "from tests.simulation.history import run_history; print(run_history({}).digest)"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_task_is_lost_early_or_sent_twice_in_any_history(seed: int) -> None:
    result = run_history(seed)

    assert result.failure is None, "\n".join([*result.lines, f"seed {seed}"])


@pytest.mark.parametrize("seed", [2, 5])
def test_seed_reproduces_its_history_byte_for_byte(seed: int) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST.format(seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(digests) == 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_of_the_engine_is_found(mutation: Mutation, tmp_path: Path) -> None:
    seeds = range(mutation.first_seed, mutation.first_seed + HISTORIES)

    found = simulated(broken_copy(mutation, tmp_path), seeds=seeds)

    assert found.returncode == 1, found.stdout + found.stderr
    assert "seed " in found.stdout, found.stdout + found.stderr


def test_loop_raises_if_no_timer_is_set() -> None:
    loop = SimulatedLoop(started_at=0.0)
    try:
        with pytest.raises(Deadlock):
            loop.run_until_complete(loop.create_future())
    finally:
        loop.close()


def test_loop_raises_if_callbacks_never_end() -> None:
    loop = SimulatedLoop(started_at=0.0)

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    loop.turns = MAX_TURNS - 10
    try:
        with pytest.raises(Livelock):
            loop.run_forever()
    finally:
        loop.close()


def test_time_advances_while_all_tasks_wait() -> None:
    loop = SimulatedLoop(started_at=5.0)
    try:
        loop.call_later(3600.0, loop.stop)
        loop.run_forever()
        assert 3605.0 <= loop.time() < 3606.0
    finally:
        loop.close()


def test_caller_that_raises_fails_only_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: Callers) -> None:
        raise RuntimeError("not as expected")

    monkeypatch.setattr(Callers, "push", fail)

    result = run_history(1)

    assert result.seed == 1
    assert "a caller raised RuntimeError('not as expected')" in (result.failure or "")
