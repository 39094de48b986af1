"""Failure groups that are counted in several queries."""

from __future__ import annotations

from pathlib import Path

from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState
from poussetaches.store.sqlite.failure_counts import SLICE
from tests.factories import NOW, make_ended
from tests.store.sqlite_files import opened

DEAD = TaskState.DEAD


def dead(number: int, path: str) -> Task:
    """Return a dead task; the later its number, the later it died."""
    return make_ended(
        str(number), DEAD, url=f"http://app.test{path}", ended_at=Moment(NOW + number)
    )


async def test_groups_are_counted_over_several_queries(tmp_path: Path) -> None:
    small = 10
    large = 2 * SLICE + 1
    tasks = [dead(number, "/small") for number in range(small)]
    tasks += [dead(number, "/large") for number in range(small, small + large)]
    async with opened(tmp_path / "tasks.db") as store:
        await store.restore([(task, []) for task in tasks])

        found = await store.failures(DEAD)

    assert [(one.group.url_path, one.count, one.first_at, one.last_at) for one in found] == [
        ("/large", large, NOW + small, NOW + small + large - 1),
        ("/small", small, NOW, NOW + small - 1),
    ]
    assert [one.example_id for one in found] == [str(small + large - 1), str(small - 1)]


async def test_groups_that_fill_one_query_are_all_counted(tmp_path: Path) -> None:
    async with opened(tmp_path / "tasks.db") as store:
        await store.restore([(dead(number, f"/{number % 2}x"), []) for number in range(SLICE)])

        assert [one.count for one in await store.failures(DEAD)] == [SLICE // 2, SLICE // 2]
