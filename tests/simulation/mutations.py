"""Ways to break the engine, each a change to a copy of the source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src/poussetaches")


class Mutation(NamedTuple):
    """A change of one place of one file."""

    name: str
    file: str
    old: str
    new: str
    first_seed: int = 4  # of a short history that finds it


MUTATIONS = (
    Mutation(
        "answer before the commit",
        "store/sqlite/store.py",
        "return self._db.write(write, call, size=call.size, rows=len(items))",
        "stored = self._db.write(write, call, size=call.size, rows=len(items))\n"
        "        answer: Future[list[PushResult]] = stored.get_loop().create_future()\n"
        "        answer.set_result([PushResult(item.task.id, item.task, existing=False) "
        "for item in items])\n"
        "        return answer",
    ),
    Mutation(
        "lose a lease",
        "store/sqlite/leases.py",
        "self._tokens[seq] = self._last_token\n",
        "self._tokens[seq if self._last_token % 50 else -1] = self._last_token\n",
        first_seed=5,
    ),
    Mutation(
        "lease a known task although it was changed",
        "store/sqlite/database_session.py",
        "            self.cache.short_lanes.suspend()\n",
        "            pass\n",
        first_seed=9,
    ),
    Mutation(
        "finish a task twice",
        "store/sqlite/attempt_writes.py",
        "    task_writes.succeed(tx, successes)\n",
        "    task_writes.succeed(tx, successes)\n    task_writes.succeed(tx, successes[:1])\n",
        first_seed=2,
    ),
    Mutation(
        "do not ring the bell",
        "engine/engine.py",
        "if news.queues or news.waits or news.paused is not None or news.trouble:",
        "if news.queues or news.paused is not None or news.trouble:",
        first_seed=5,
    ),
    Mutation(
        "round a due time down",
        "core/moment.py",
        "math.ceil(seconds * SECOND)",
        "math.floor(seconds * SECOND)",
        first_seed=5,
    ),
    Mutation(
        "charge a held task",
        "engine/attempt_runner.py",
        "if is_charged or not self._is_absence(origin, outcome):",
        "if not is_charged or not self._is_absence(origin, outcome):",
        first_seed=5,
    ),
    Mutation(
        "forgive every restart",
        "engine/restarts.py",
        "if count == MOST_FORGIVEN:",
        "if count > MOST_FORGIVEN:",
    ),
    Mutation(
        "charge a shortage of descriptors",
        "engine/attempt_runner.py",
        "            if not outcome.unreachable:\n                return self._put_back(",
        "            if outcome.unreachable:\n                return self._put_back(",
        first_seed=5,
    ),
    Mutation(
        "skip a lane forever",
        "engine/lanes.py",
        "if state.next_due is None or run_at < state.next_due:",
        "if state.next_due is None:",
        first_seed=12,
    ),
    Mutation(
        "let a failing row stop the others",
        "store/sqlite/isolation.py",
        "        return give_up(row, Defect.of(exc, step))\n",
        "        raise\n",
        first_seed=26,
    ),
    Mutation(
        "trust a clock that was set ahead at once",
        "engine/confirmed_time.py",
        "CONFIRMED_AFTER = HOUR",
        "CONFIRMED_AFTER = 0",
        first_seed=22,
    ),
    Mutation(
        "do not correct due tasks when the clock is set back",
        "engine/clock_watch.py",
        "        if moved < -NOTICED:",
        "        if moved < -NOTICED * 1e9:",
        first_seed=9,
    ),
    Mutation(
        "lose the used tokens of a queue",
        "engine/bucket_storage.py",
        "            if wait > 0:",
        "            if wait > 1e15:",
        first_seed=7,
    ),
    Mutation(
        "report a suspended process as stuck",
        "engine/watchdog.py",
        "now - self._beat_at >= STANDSTILL:",
        "now - self._beat_at >= 1e9:",
        first_seed=8,
    ),
    Mutation(
        "report a push that may be stored as not stored",
        "store/sqlite/connection_pair.py",
        'return OutcomeUnknown(f"',
        'return StoreUnavailable(f"',
        first_seed=8,
    ),
)


def broken_copy(mutation: Mutation, folder: Path) -> Path:
    """Copy the source with one change; return the folder to import it from.

    The compiled modules are copied, too: Python compiles only the changed one again.

    Raises:
        ValueError: the text to change does not occur exactly once.
    """
    copy = folder / "poussetaches"
    shutil.copytree(ROOT / PACKAGE, copy)
    path = copy / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file} does not have this once: {mutation.old!r}")
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    return folder


def simulated(source: Path, *, seeds: range) -> subprocess.CompletedProcess[str]:
    """Run histories on another source, up to the first failure."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.simulation",
            "--seeds",
            f"{seeds[0]}-{seeds[-1]}",
            "--processes",
            "1",
        ],  # more would begin histories that are not needed
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
