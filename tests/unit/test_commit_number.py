from __future__ import annotations

from poussetaches.store.sqlite.commit_number import (
    NUMBER_MASK,
    NUMBERED,
    follows,
    format_of,
    next_version,
)

FORMAT_2 = NUMBERED | 2 << 24


def test_format_is_kept_from_commit_to_commit() -> None:
    version = next_version(FORMAT_2 | 7)

    assert version == FORMAT_2 | 8
    assert format_of(version) == 2


def test_migration_changes_the_format_and_counts_on() -> None:
    version = next_version(FORMAT_2 | 7, format=3)

    assert format_of(version) == 3
    assert follows(version, FORMAT_2 | 7)


def test_last_number_is_followed_by_the_first() -> None:
    version = next_version(FORMAT_2 | NUMBER_MASK)

    assert version == FORMAT_2
    assert follows(version, FORMAT_2 | NUMBER_MASK)


def test_commits_of_version_1_0_0_are_not_numbered() -> None:
    assert next_version(1) == 1
    assert next_version(1, format=2) == 2
    assert format_of(1) == 1
    assert not follows(FORMAT_2 | 1, 1)
    assert not follows(1, FORMAT_2)


def test_later_and_earlier_commits_do_not_follow() -> None:
    assert not follows(FORMAT_2 | 9, FORMAT_2 | 7)
    assert not follows(FORMAT_2 | 6, FORMAT_2 | 7)
