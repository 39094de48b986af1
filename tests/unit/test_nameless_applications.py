"""Applications do not replace each other's schedules and declarations of queues."""

from __future__ import annotations

import pytest

from poussetaches.core.errors import OwnedByAnother
from poussetaches.core.queue import Declarer, Queue, QueueOverrides
from poussetaches.core.schedule import Schedule
from poussetaches.core.schedule_owner import (
    NAMELESS_OWNER,
    check_same_application,
    check_same_declarer,
)
from tests.factories import make_schedule, make_task


def schedules(urls: str) -> list[Schedule]:
    return [make_schedule(url, task=make_task(url=url)) for url in urls.split()]


@pytest.mark.parametrize(
    ("known", "declared"),
    [
        pytest.param("/_p/shop.a", "/_p/shop.b", id="renamed"),
        pytest.param("/_p/shop.a.x /_p/jobs.y", "/_p/jobs.z", id="moved"),
        pytest.param("", "/_p/shop.a", id="first-declaration"),
        pytest.param("/_p/shop.a", "", id="all-removed"),
        pytest.param("/_p/report", "/_p/shop.b", id="name-without-module"),
        pytest.param("http://a.test/x.y", "http://a.test/z.y", id="no-receiver"),
    ],
)
def test_schedules_of_the_same_application_can_be_replaced(known: str, declared: str) -> None:
    check_same_application(NAMELESS_OWNER, schedules(known), schedules(declared))


def test_schedules_of_other_modules_are_another_applications() -> None:
    known = schedules("/_p/shop_a.morning /_p/shop_a.noon /_p/shop_a.evening /_p/shop_a.night")

    with pytest.raises(OwnedByAnother) as caught:
        check_same_application(NAMELESS_OWNER, known, schedules("/_p/shop_b.morning"))

    assert "(/_p/shop_a.morning, /_p/shop_a.noon, /_p/shop_a.evening, …)" in str(caught.value)


def test_application_with_a_name_can_replace_all_of_its_schedules() -> None:
    check_same_application("shop", schedules("/_p/shop_a.x"), schedules("/_p/shop_b.x"))


def declared_by(declarer: Declarer | None) -> Queue:
    return Queue(name="mail", declared=QueueOverrides(burst=2), declarer=declarer)


@pytest.mark.parametrize(
    ("before", "declarer"),
    [
        pytest.param(None, Declarer("app", ("shop",)), id="first"),
        pytest.param(Declarer("app", ("shop", "web")), Declarer("app", ("web",)), id="same"),
        pytest.param(Declarer("app"), Declarer("app", ("shop",)), id="no-modules-before"),
        pytest.param(Declarer("app", ("shop",)), Declarer("app"), id="no-modules-now"),
        pytest.param(Declarer("s", ("a",)), Declarer("s", ("b",)), id="with-a-name"),
    ],
)
def test_application_can_replace_its_declaration_of_a_queue(
    before: Declarer | None, declarer: Declarer
) -> None:
    check_same_declarer(declared_by(before), declarer, [])


@pytest.mark.parametrize(
    ("before", "declarer", "whose"),
    [
        (Declarer("app", ("a", "b")), Declarer("app", ("c",)), "a, b"),
        (Declarer("shop"), Declarer("app", ("c",)), "shop"),
        (Declarer("app", ("a",)), Declarer("mail", ("a",)), "a"),
    ],
)
def test_queue_that_another_application_declared_is_not_changed(
    before: Declarer, declarer: Declarer, whose: str
) -> None:
    with pytest.raises(OwnedByAnother) as caught:
        check_same_declarer(declared_by(before), declarer, [])

    message = str(caught.value)
    assert f"another application ({whose}) declared this queue; give each" in message
    assert "PATCH /v1/queues/mail?declared=true with the body {}" in message


def test_application_without_a_name_declares_no_queues_beside_the_schedules_of_another() -> None:
    known = schedules("/_p/shop.morning")

    check_same_declarer(Queue(name="mail"), Declarer("shop", ("other",)), known)
    check_same_declarer(Queue(name="mail"), Declarer("app", ("shop",)), known)
    with pytest.raises(OwnedByAnother, match=r"schedules of another application .*shop\.morning"):
        check_same_declarer(Queue(name="mail"), Declarer("app", ("other",)), known)
