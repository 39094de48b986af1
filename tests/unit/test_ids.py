from __future__ import annotations

import uuid

from poussetaches.core.ids import new_request_id, new_task_id
from poussetaches.core.moment import Moment
from tests.factories import NOW, seeded


def test_task_id_is_a_uuid_of_version_7() -> None:
    random = seeded()

    ids = [uuid.UUID(hex=new_task_id(NOW, random)) for _ in range(200)]

    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}


def test_task_id_is_32_lower_case_hex_digits() -> None:
    made = new_task_id(NOW, seeded())

    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


def test_task_id_begins_with_the_milliseconds() -> None:
    assert int(new_task_id(NOW, seeded())[:12], 16) == NOW // 1000


def test_task_ids_of_later_milliseconds_come_later() -> None:
    random = seeded()

    ids = [new_task_id(Moment(NOW + 1000 * n), random) for n in range(200)]

    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    random = seeded()

    assert len({new_task_id(NOW, random) for _ in range(1000)}) == 1000
    assert len({new_request_id(random) for _ in range(1000)}) == 1000


def test_request_id_is_12_lower_case_hex_digits() -> None:
    made = [new_request_id(seeded(seed)) for seed in range(200)]

    assert {len(id) for id in made} == {12}
    assert set("".join(made)) <= set("0123456789abcdef")


def test_ids_are_the_same_for_the_same_seed() -> None:
    assert new_task_id(NOW, seeded(7)) == new_task_id(NOW, seeded(7))
