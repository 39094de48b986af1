"""URLs that parsers disagree about: refused when pushed, delivered if stored earlier."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.moment import SECOND
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service
from tests.store.driving import put_schedule
from tests.store.sqlite_files import opened, raw

GOOD = "http://app.test/run"
SECRET = "pa[ss"
ABSOLUTE = [
    pytest.param("http://user:pa[ss@host/", id="bracket in the password"),
    pytest.param("http://u]@host/", id="bracket in the user"),
    pytest.param("http://[zz]@host/", id="brackets round the user"),
    pytest.param("http://user:pa[ss\uff20host/", id="full-width @ before the host"),
    pytest.param("http://user:pa\uff0f[ss@host/", id="full-width slash in the password"),
    pytest.param("http://user:pa\uff03[ss@host/", id="full-width # in the password"),
    pytest.param("http://user:pa\uff1f[ss@host/", id="full-width ? in the password"),
    pytest.param("http://user:pa\uff1a[ss@host/", id="full-width : in the password"),
    pytest.param("http://ho\u2100st/", id="host with what holds a slash"),
]
STORED = [
    "http://user:pa[ss@host/run",
    "http://u]@host/run",
    "http://[zz]@host/run",
    "http://a\uff0fb:pa[ss@host/run",
    "//[x",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
async def service(path: Path, clock: FakeClock, sender: ScriptedSender) -> AsyncIterator[Service]:
    service = await started(path, clock, sender)
    yield service
    await service.close()


async def started(path: Path, clock: FakeClock, sender: ScriptedSender) -> Service:
    return await Service.opened(
        path,
        clock=clock,
        sender=sender,
        random=seeded(),
        POUSSETACHES_BASE_URL="http://base.test",
        POUSSETACHES_MAX_ATTEMPTS="2",
    )


@pytest.mark.parametrize("url", [*ABSOLUTE, pytest.param("//[x", id="path like a host")])
@pytest.mark.parametrize(
    ("method", "to", "body"),
    [
        pytest.param("POST", "/v1/tasks", {"url": "URL"}, id="push"),
        pytest.param("POST", "/v1/tasks/batch", {"tasks": [{"url": "URL"}]}, id="batch"),
        pytest.param("POST", "/v1/tasks", {"url": GOOD, "on_dead": "URL"}, id="callback"),
        pytest.param(
            "PUT", "/v1/schedules/s", {"cron": "@daily", "task": {"url": "URL"}}, id="schedule"
        ),
        pytest.param("PUT", "/v1/queues/q", {"on_success": "URL"}, id="callback of a queue"),
        pytest.param("PUT", "/v1/queues/q", {"base_url": "URL"}, id="base URL"),
        pytest.param("PATCH", "/v1/tasks/known", {"url": "URL"}, id="patch"),
        pytest.param(
            "POST", "/v1/tasks/requeue", {"all": True, "set": {"url": "URL"}}, id="bulk patch"
        ),
    ],
)
async def test_url_that_parsers_disagree_about_is_refused(
    service: Service, method: str, to: str, body: object, url: str
) -> None:
    known = await request(service.app, "POST", "/v1/tasks", {"url": GOOD})
    asked = json.loads(json.dumps(body).replace("URL", url))

    answer = await request(service.app, method, to.replace("known", known.json["id"]), asked)

    assert answer.status == 422, answer.body
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize("url", [*ABSOLUTE, "//[x", "/run"])
async def test_original_dialect_refuses_it(service: Service, url: str) -> None:
    answer = await request(service.app, "POST", "/", {"url": url, "payload": "e30="})

    assert answer.status == 422
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize("url", STORED)
async def test_stored_task_with_such_a_url_is_delivered(
    path: Path, clock: FakeClock, sender: ScriptedSender, url: str
) -> None:
    await store_tasks(path, url, "known")
    service = await started(path, clock, sender)

    await service.advance(1)

    assert (await state_of(service, "known"))[0] == "succeeded"
    await service.close()


@pytest.mark.parametrize("url", STORED)
async def test_stored_task_with_such_a_url_ends_like_any_other(
    path: Path,
    clock: FakeClock,
    sender: ScriptedSender,
    url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    ids = ("failing", "expiring", "cancelled", "cancelled-too", "other")
    await store_tasks(path, url, *ids)
    change(path, "url = 'http://app.test/'", "id = 'other'")
    change(
        path, f"expires_at = {NOW + 5 * SECOND}, run_at = {NOW + 60 * SECOND}", "id = 'expiring'"
    )
    change(path, f"run_at = {NOW + 60 * SECOND}", "id LIKE 'cancelled%'")
    sender.always(500)
    service = await started(path, clock, sender)

    one = await request(service.app, "POST", "/v1/tasks/cancelled/cancel")
    many = await request(
        service.app, "POST", "/v1/tasks/cancel", {"filter": {"ids": ["cancelled-too"]}}
    )
    await service.advance(3600)

    assert (one.status, many.status, many.json["count"]) == (200, 200, 1)
    assert [await state_of(service, id) for id in ids] == [
        ("dead", "exhausted"),
        ("dead", "expired"),
        ("dead", "cancelled"),
        ("dead", "cancelled"),
        ("dead", "exhausted"),
    ]
    assert (await request(service.app, "GET", "/v1/failures")).status == 200
    assert (await request(service.app, "GET", "/readyz")).status == 200
    assert SECRET not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    await service.close()


@pytest.mark.parametrize("url", STORED)
async def test_start_buries_such_a_task_that_was_cancelled_as_it_ran(
    path: Path, clock: FakeClock, sender: ScriptedSender, url: str
) -> None:
    await store_tasks(path, url, "known", "other")
    change(path, "cancelled = 1", "TRUE")

    service = await started(path, clock, sender)

    assert await state_of(service, "known") == ("dead", "cancelled")
    assert await state_of(service, "other") == ("dead", "cancelled")
    await service.close()


@pytest.mark.parametrize("url", STORED)
async def test_callback_to_such_a_url_is_delivered(
    path: Path, clock: FakeClock, sender: ScriptedSender, url: str
) -> None:
    await store_tasks(path, GOOD, "known")
    change(path, "on_success = '" + url + "'", "TRUE")
    service = await started(path, clock, sender)

    await service.advance(1)

    assert await state_of(service, "known") == ("succeeded", None)
    assert sender.urls == [GOOD, f"http://base.test{url}" if url.startswith("/") else url]
    await service.close()


async def test_stored_schedule_with_such_a_url_fires(
    path: Path, clock: FakeClock, sender: ScriptedSender
) -> None:
    async with opened(path) as store:
        await put_schedule(store, make_schedule("s", task=make_task("t", url=STORED[0])))
    service = await started(path, clock, sender)

    await service.advance(1)

    assert sender.urls == [STORED[0]]
    await service.close()


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://a b/", ""])
async def test_base_url_that_leads_nowhere_fails_the_attempts_behind_it(
    path: Path, clock: FakeClock, sender: ScriptedSender, url: str
) -> None:
    async with opened(path) as store:
        await store.add(make_task("known", url="/run", queue="q"))
    settings = json.dumps({"base_url": url})
    with closing(raw(path)) as database:
        database.execute("UPDATE queues SET settings = ? WHERE name = 'q'", [settings])
    service = await started(path, clock, sender)

    await service.advance(3600)

    assert await state_of(service, "known") == ("dead", "exhausted")
    assert sender.urls == []
    await service.close()


async def store_tasks(path: Path, url: str, *ids: str) -> None:
    """Store tasks as an earlier version did, which checked their URLs less strictly."""
    async with opened(path) as store:
        for id in ids:
            await store.add(make_task(id, url=url))


def change(path: Path, what: str, where: str) -> None:
    with closing(raw(path)) as database:
        database.execute(f"UPDATE tasks SET {what} WHERE {where}")  # noqa: S608


async def state_of(service: Service, task_id: str) -> tuple[str, str | None]:
    task = (await request(service.app, "GET", f"/v1/tasks/{task_id}")).json
    return task["state"], task["reason"]
