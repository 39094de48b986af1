"""Tasks with large bodies: a transaction changes only a few, so that none takes long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from poussetaches.core.edits import Run
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import SECOND
from poussetaches.core.queue import Retention
from poussetaches.core.task import Task, TaskState
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.task_writes import MOST_BYTES
from tests.factories import NOW, make_attempt, make_ended, make_task
from tests.store.driving import assert_counts_are_true, edit_all, found_by, known, numbers_of
from tests.store.sqlite_files import opened

NOTHING = Retention(0, 0)
LARGE = b"x" * (MOST_BYTES // 2)  # two fit into one transaction
IDS = ["a", "b", "c"]


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    async with opened(None) as store:
        yield store


async def test_large_tasks_are_all_edited(store: SqliteStore) -> None:
    await store.restore([(make_task(id, body=LARGE), []) for id in IDS])
    numbers = await numbers_of(store, TaskFilter())

    edited = await edit_all(store, numbers, Run(at=NOW, spread=3.0))

    assert edited == (3, {})
    assert [(await known(store, id)).run_at for id in IDS] == [NOW + n * SECOND for n in (2, 1, 0)]
    assert (await known(store, "a")).body == LARGE
    await assert_counts_are_true(store, IDS)


async def test_large_tasks_are_pruned_few_at_a_time(store: SqliteStore) -> None:
    await store.restore([(done(id), []) for id in IDS])

    counts = [await prune(store) for _ in range(3)]

    assert counts == [2, 1, 0]
    assert await found_by(store, TaskFilter()) == []


async def test_task_larger_than_the_limit_of_a_transaction_is_pruned(store: SqliteStore) -> None:
    await store.restore([(msgspec.structs.replace(done("a"), body=LARGE * 3), [])])

    assert await prune(store) == 1


async def test_stored_answers_count_like_bodies(store: SqliteStore) -> None:
    attempt = make_attempt(response_body=LARGE)
    ended = make_ended("a", TaskState.SUCCEEDED)
    await store.restore([(msgspec.structs.replace(ended, id=id), [attempt]) for id in IDS])

    assert await prune(store) == 2


async def test_large_tasks_expire_few_at_a_time(store: SqliteStore) -> None:
    await store.restore([(make_task(id, body=LARGE, expires_at=NOW), []) for id in IDS])

    counts = [await store.expire(now=NOW, limit=10) for _ in range(3)]

    assert counts == [2, 1, 0]


def done(id: str) -> Task:
    """Return a large task that has succeeded."""
    return make_ended(id, TaskState.SUCCEEDED, body=LARGE)


async def prune(store: SqliteStore) -> int:
    """Prune some succeeded tasks."""
    return await store.prune("default", TaskState.SUCCEEDED, NOTHING, now=NOW, limit=10)
