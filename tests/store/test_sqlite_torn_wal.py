"""A power cut may leave the log truncated or torn anywhere after the last synced byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from poussetaches.core.errors import CannotOpenStore
from poussetaches.core.filter import TaskFilter
from tests.factories import make_task, seeded
from tests.store.driving import assert_counts_are_true, found_by
from tests.store.sqlite_files import content_of, opened, overwrite

COUNT = 5  # tasks, each in a commit of its own
CUTS = 2  # of each commit

Tear = Callable[[bytes, Random], bytes]


class Crashed:
    """The files of a store that was not closed, and the length of its log after each commit."""

    def __init__(self, database: bytes, log: bytes, ends: list[int]) -> None:
        self.database = database
        self.log = log
        self.ends = ends


@pytest.fixture
async def crashed(tmp_path: Path) -> Crashed:
    path = tmp_path / "before.db"
    log = tmp_path / "before.db-wal"
    ends = []
    async with opened(path) as store:
        for number in range(COUNT):
            await store.add(make_task(str(number)))
            ends.append(len(content_of(log) or b""))
        return Crashed(content_of(path) or b"", content_of(log) or b"", ends)


def cuts_of(crashed: Crashed, random: Random) -> list[tuple[int, int]]:
    """Return cases: the number of synced commits, and where the log is torn."""
    cuts = []
    for count, (end, following) in enumerate(
        zip(crashed.ends, crashed.ends[1:], strict=False), start=1
    ):
        places = {end, end + 1, end + 24, following - 1}
        places |= {random.randrange(end, following) for _ in range(CUTS)}
        cuts += [(count, place) for place in sorted(places)]
    return cuts


@pytest.mark.parametrize(
    "tear",
    [
        pytest.param(lambda rest, _: b"", id="cut off"),
        pytest.param(lambda rest, _: bytes(len(rest)), id="zeros"),
        pytest.param(lambda rest, random: random.randbytes(len(rest)), id="anything"),
        pytest.param(lambda rest, _: rest[:-1] + bytes([rest[-1] ^ 1]), id="one bit"),
    ],
)
async def test_log_torn_after_the_last_sync_loses_no_synced_commit(
    tmp_path: Path, crashed: Crashed, tear: Tear
) -> None:
    path, random = tmp_path / "after.db", seeded()

    for count, place in cuts_of(crashed, random):
        following = crashed.ends[count]
        torn = tear(crashed.log[place:following], random)
        overwrite(path, crashed.database)
        overwrite(path.with_name("after.db-wal"), crashed.log[:place] + torn)
        async with opened(path) as store:
            found = await found_by(store, TaskFilter())
            await assert_counts_are_true(store, found)

        assert sorted(found) == [str(number) for number in range(count)], (count, place)


async def test_database_truncated_at_any_page_is_not_changed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "after.db"
    log = path.with_name("after.db-wal")
    async with opened(path) as store:
        for number in range(COUNT):
            await store.add(make_task(str(number)))
    whole = content_of(path) or b""

    for size in range(4096, len(whole), 4096):
        overwrite(path, whole[:size])
        with pytest.raises(CannotOpenStore, match="poussetaches verify"):
            async with opened(path):
                pass
        assert content_of(path) == whole[:size]
        assert content_of(log) is None
