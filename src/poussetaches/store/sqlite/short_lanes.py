"""``ShortLanes``: the waiting tasks of lanes that have few, kept to lease them without a query."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import NamedTuple

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.core.task import Task

MAX_TASKS = 4096  # of all lanes together
MAX_SIZE = 8 * 1024 * 1024  # bytes of their bodies
MAX_LANES = 20_000


class WaitingTask(NamedTuple):
    """A waiting task; the order of these is that in which the tasks of a priority are leased."""

    run_at: Moment
    seq: int
    task: Task


@dataclass(slots=True)
class _ShortLane:
    priority: int = 0
    tasks: list[WaitingTask] = field(default_factory=list)  # in order
    size: int = 0


class ShortLanes:
    """Lanes whose waiting tasks are all known, except leased ones, and have one priority.

    A lane becomes short when all tasks that a query finds are leased, and stays so while tasks are
    only added and leased. Any other change of its waiting tasks drops it.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, _ShortLane] = {}
        self._count = 0
        self._size = 0
        self._is_suspended = False

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._lanes

    def suspend(self) -> None:
        """Drop all lanes, and accept none until ``resume``: any task may change."""
        self.clear()
        self._is_suspended = True

    def resume(self) -> None:
        """Accept lanes again."""
        self._is_suspended = False

    def clear(self) -> None:
        """Drop all lanes."""
        self._lanes.clear()
        self._count = self._size = 0

    def note_empty(self, lane: Lane) -> None:
        """Accept a lane that has no waiting task, except leased ones."""
        if self._is_suspended:
            return
        if len(self._lanes) >= MAX_LANES:
            self.clear()
        self.drop(lane)
        self._lanes[lane] = _ShortLane()

    def add(self, lane: Lane, seq: int, task: Task) -> None:
        """Add a waiting task, or drop its lane."""
        short = self._lanes.get(lane)
        if short is None:
            return
        tasks, size = short.tasks, len(task.body)
        if not tasks:
            short.priority = task.priority
        is_full = self._count >= MAX_TASKS or self._size + size > MAX_SIZE
        if is_full or task.priority != short.priority:
            self.drop(lane)
            return
        waiting = WaitingTask(task.run_at, seq, task)
        if not tasks or waiting[:2] > tasks[-1][:2]:
            tasks.append(waiting)
        else:
            insort(tasks, waiting, key=_place)
        short.size += size
        self._count += 1
        self._size += size

    def drop(self, lane: Lane) -> None:
        """Drop a lane whose tasks have changed, or are too many."""
        short = self._lanes.pop(lane, None)
        if short is not None:
            self._count -= len(short.tasks)
            self._size -= short.size

    def take(self, lane: Lane, most: int, now: Moment) -> list[WaitingTask]:
        """Remove and return the first due tasks of a short lane."""
        short = self._lanes[lane]
        tasks = short.tasks
        end = 0
        while end < most and end < len(tasks) and tasks[end].run_at <= now:
            end += 1
        taken = tasks[:end]
        del tasks[:end]
        size = sum([len(waiting.task.body) for waiting in taken])
        short.size -= size
        self._count -= end
        self._size -= size
        return taken

    def next_due(self, lane: Lane) -> Moment | None:
        """Return when the next task of a short lane is due; None if it has none."""
        tasks = self._lanes[lane].tasks
        return tasks[0].run_at if tasks else None


def _place(waiting: WaitingTask) -> tuple[Moment, int]:
    return waiting.run_at, waiting.seq
