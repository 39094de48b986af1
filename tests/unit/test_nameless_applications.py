"""Applications without a name do not replace each other's schedules."""

from __future__ import annotations

import pytest

from poussetaches.core.errors import OwnedByAnother
from poussetaches.core.schedule import Schedule
from poussetaches.core.schedule_owner import NAMELESS_OWNER, check_same_application
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
