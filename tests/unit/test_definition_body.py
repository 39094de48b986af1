"""Full lists and conflicting changes, which real requests would take too long to cause."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from starlette.types import ASGIApp

from poussetaches.api.app import build_app
from poussetaches.api.bulk_edit import BulkEditor
from poussetaches.api.queue_routes import QueueRoutes
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.schedule_routes import ScheduleRoutes
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import TaskLimits
from poussetaches.core.queue import MAX_QUEUES, Queue
from poussetaches.core.schedule import Schedule
from poussetaches.engine.engine import Engine
from poussetaches.store.base import ScheduleEdit
from poussetaches.store.sqlite import SqliteStore
from tests.factories import make_schedule, seeded
from tests.fakes import FakeClock
from tests.integration.asgi import request

MAX_BYTES = 2**20


@pytest.fixture
def app(store: SqliteStore, engine: Engine, clock: FakeClock) -> ASGIApp:
    queues = QueueRoutes(
        store=store,
        engine=engine,
        bulk=BulkEditor(store=store, now=clock.now),
        now=clock.now,
        max_request=MAX_BYTES,
    )
    schedules = ScheduleRoutes(
        store=store,
        engine=engine,
        limits=TaskLimits(max_body=MAX_BYTES),
        now=clock.now,
        random=seeded(),
        secret_headers=frozenset(),
        max_request=MAX_BYTES,
    )
    return build_app(
        [*queues.endpoints(), *schedules.endpoints()],
        tokens=None,
        request_limits=RequestLimits(100),
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_one_queue_too_many_is_refused(app: ASGIApp, engine: Engine, method: str) -> None:
    names = [f"queue-{number}" for number in range(MAX_QUEUES)]
    engine.queues.update({name: Queue(name=name) for name in names})

    new = await request(app, method, "/v1/queues/new", {"burst": 2})

    assert new.status == 409
    assert new.json["type"] == "urn:poussetaches:problem:too-many"


async def test_known_queue_can_be_changed_when_there_are_all_that_may_be(
    app: ASGIApp, engine: Engine
) -> None:
    names = [f"queue-{number}" for number in range(MAX_QUEUES)]
    engine.queues.update({name: Queue(name=name) for name in names})

    known = await request(app, "PATCH", "/v1/queues/default", {"burst": 2})

    assert (known.status, known.json["burst"]) == (200, 2)


async def test_patch_of_a_schedule_keeps_what_somebody_else_changed_meanwhile(
    app: ASGIApp, store: SqliteStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = make_schedule("report", owner="", next_run_at=Moment(clock.now() + 1))
    await store.edit_schedule("report", lambda _: schedule, now=clock.now())
    edit_schedule = store.edit_schedule

    async def meet(name: str, edit: ScheduleEdit, *, now: Moment) -> Schedule | None:
        monkeypatch.undo()
        await edit_schedule(name, changed(timezone="Europe/Paris"), now=now)
        return await edit_schedule(name, edit, now=now)

    monkeypatch.setattr(store, "edit_schedule", meet)

    answer = await request(app, "PATCH", "/v1/schedules/report", {"misfire": "skip"})

    assert answer.status == 200
    assert (answer.json["timezone"], answer.json["misfire"]) == ("Europe/Paris", "skip")


def changed(**changes: object) -> Callable[[Schedule | None], Schedule]:
    """Return an edit that changes a schedule."""

    def edit(known: Schedule | None) -> Schedule:
        assert known is not None
        return msgspec.structs.replace(known, **changes)

    return edit
