"""Every method of both clients, against a server over HTTP."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

import msgspec
import pytest

from poussetaches.client import (
    AsyncClient,
    Client,
    Conflict,
    InvalidRequest,
    NewTask,
    NotFound,
    Unauthorized,
    results,
)
from poussetaches.core.responses import (
    BatchAnswer,
    HeldOrigin,
    Purged,
    QueueCounts,
    ServerPause,
    Skipped,
    StoreState,
)
from tests.acceptance.harness import Receiver, Server, receiving, serving

URL = "http://app.test/run"
TOKEN = "a token"
LATER = 3600  # seconds

# The schemas of the served document, and what reads them.
READ: dict[str, type[msgspec.Struct]] = {
    "TaskView": results.TaskInfo,
    "TaskDetail": results.TaskInfo,
    "ListedTask": results.TaskInfo,
    "AttemptView": results.AttemptInfo,
    "WaitView": results.WaitInfo,
    "ProgressView": results.ProgressInfo,
    "TaskList": results.TaskPage,
    "BatchAnswer": BatchAnswer,
    "BulkAnswer": results.BulkResult,
    "Skipped": Skipped,
    "GroupView": results.FailureGroup,
    "FailureList": results.FailureList,
    "QueueView": results.QueueInfo,
    "QueueCounts": QueueCounts,
    "QueueList": results.QueueList,
    "Purged": Purged,
    "ServerPause": ServerPause,
    "ScheduleView": results.ScheduleInfo,
    "TemplateView": results.TemplateInfo,
    "Occurrence": results.Occurrence,
    "ScheduleList": results.ScheduleList,
    "Previewed": results.Preview,
    "StatsView": results.StatsInfo,
    "HeldOrigin": HeldOrigin,
    "StoreView": StoreState,
    "MinuteView": results.MinuteInfo,
    "TaskFields": NewTask,
}
OTHER_NAMES = {"TaskFields": {"body_base64": "body"}}
MAY_BE_LEFT_OUT = {
    "TaskView": {"attempts", "progress"},
    "ListedTask": {"attempts", "progress", "headers", "json", "text", "body_base64"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"POUSSETACHES_API_TOKEN": TOKEN}
    with serving(tmp_path_factory.mktemp("client") / "data", env=env) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(lambda delivery: 500 if delivery.path == "/fails" else 200) as receiver:
        yield receiver


class Both:
    """Calls a method of either client, and returns what it returns, iterated to a list."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    async def __call__(self, method: str, *args: Any, **fields: Any) -> Any:
        result = getattr(self._client, method)(*args, **fields)
        if inspect.isasyncgen(result):
            return [item async for item in result]
        if inspect.isgenerator(result):
            return list(result)
        return await result if inspect.isawaitable(result) else result


@pytest.fixture(params=[Client, AsyncClient])
async def do(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    client: Client | AsyncClient = request.param(server.url, token=TOKEN)
    both = Both(client)
    for task in await both("list"):
        await both("delete", task.id)
    yield both
    await both("close")


async def test_pushed_task_is_delivered_and_waited_for(do: Both, receiver: Receiver) -> None:
    pushed = await do("push", f"{receiver.url}/run", json={"a": 1}, labels={"x": "y"})

    task = await do("wait", pushed.id, 30.0)

    assert (task.state, task.has_ended, task.last_status) == ("succeeded", True, 200)
    assert (task.json, task.labels, task.attempts[0].number) == ({"a": 1}, {"x": "y"}, 1)
    assert task.created_at.utcoffset() is not None
    assert [delivery.body for delivery in receiver.deliveries] == [b'{"a":1}']


async def test_key_of_ones_own_finds_the_task_pushed_before(do: Both) -> None:
    key = (await do("push", URL, delay=LATER)).id  # an unused key
    first = await do("push", URL, key=key, delay=LATER)

    again = await do("push", URL, key=key, delay=LATER)

    assert (first.existing, again.existing, again.id) == (False, True, first.id)
    with pytest.raises(Conflict) as conflict:
        await do("push", URL + "/other", key=key)
    assert conflict.value.code == "key-conflict"


async def test_many_are_pushed_and_listed_page_by_page(do: Both) -> None:
    pushed = await do("push_many", [NewTask(URL, json=n, delay=LATER) for n in range(25)])

    listed = await do("list", {"state": ["waiting"], "url": URL}, page_size=10)

    assert [task.id for task in listed] == [one.id for one in reversed(pushed)]
    assert {(one.reason, one.detail) for task in listed for one in task.waiting_for} == {
        ("not_due", "")
    }


async def test_task_is_looked_at_and_changed(do: Both) -> None:
    id = (await do("push", URL, text="a", delay=LATER, retry={"max_attempts": 2})).id

    shown = await do("get", id)
    edited = await do("edit", id, {"text": "b", "priority": 5})
    cancelled = await do("cancel", id)
    requeued = await do("requeue", id, {"run_at": shown.run_at})
    told = await do("run", id, {"priority": None})
    await do("delete", id)

    assert [one.reason for one in shown.waiting_for] == ["not_due"]
    assert (shown.text, shown.retry) == ("a", {"max_attempts": 2})
    assert (edited.text, edited.priority) == ("b", 5)
    assert (cancelled.state, cancelled.reason) == ("dead", "cancelled")
    assert (requeued.round, requeued.run_at) == (2, shown.run_at)
    assert told.priority == 0
    with pytest.raises(NotFound):
        await do("get", id)


async def test_many_tasks_are_changed_by_a_filter(do: Both) -> None:
    await do("push_many", [NewTask(URL, delay=LATER, labels={"of": "bulk"})] * 3)
    of_bulk = {"label": "of:bulk"}
    await do("pause")  # the first of the spread tasks is due at once

    assert (await do("cancel_many", of_bulk, dry_run=True)).count == 3
    assert (await do("cancel_many", of_bulk)).count == 3
    assert (await do("requeue_many", of_bulk, set={"priority": 1}, spread=LATER)).count == 3
    assert (await do("run_many", of_bulk)).count == 3
    assert (await do("delete_many", {}, all=True)).count >= 3
    await do("resume")
    with pytest.raises(InvalidRequest):
        await do("delete_many", {})


async def test_failures_are_grouped(do: Both, receiver: Receiver) -> None:
    id = (await do("push", f"{receiver.url}/fails", retry={"max_attempts": 1})).id
    assert (await do("wait", id, 30.0)).state == "dead"

    groups = await do("failures")

    assert [(group.url_path, group.status, group.example_id) for group in groups] == [
        ("/fails", 500, id)
    ]


async def test_queues_are_configured(do: Both) -> None:
    assert (await do("put_queue", "mail", rate="2/s", burst=3)).rate == 2.0
    assert (await do("edit_queue", "mail", retry={"max_attempts": 3})).retry["max_attempts"] == 3
    assert (await do("pause_queue", "mail")).paused
    assert not (await do("resume_queue", "mail")).paused
    await do("push", URL, queue="mail", delay=LATER)
    assert (await do("queue", "mail")).counts.waiting == 1
    assert "mail" in [queue.name for queue in await do("queues")]
    assert await do("purge_queue", "mail") == 1
    await do("delete_queue", "mail")
    with pytest.raises(NotFound) as missing:
        await do("queue", "mail")
    assert missing.value.code == "queue-not-found"


async def test_declarations_keep_what_an_operator_changed(do: Both) -> None:
    task = {"url": URL}
    schedules = [{"name": "n", "cron": "@daily", "task": task}]
    await do("declare_queue", "mail", rate="20/s")
    await do("declare_schedules", "shop", None, schedules)
    await do("edit_queue", "mail", rate="5/s")
    await do("edit_schedule", "n", {"cron": "@hourly"})

    queue = await do("declare_queue", "mail", rate="20/s")
    refused = {"name": "bad", "cron": "never", "task": task}
    declared = await do("declare_schedules", "shop", None, [*schedules, refused])

    assert (queue.rate, queue.sources["rate"]) == (5.0, "operator")
    [schedule] = declared.schedules
    assert (schedule.cron, schedule.sources["cron"]) == ("@hourly", "operator")
    assert [(it.name, it.field) for it in declared.refused] == [("bad", "cron")]
    await do("delete_queue", "mail")
    await do("put_schedules", "shop", None, [])


async def test_schedules_are_defined_and_declared(do: Both) -> None:
    task = {"url": URL, "json": [1]}
    made = await do("put_schedule", "report", cron="@daily", timezone="Europe/Paris", task=task)
    edited = await do("edit_schedule", "report", {"cron": "@hourly"})
    assert (await do("pause_schedule", "report")).paused
    assert not (await do("resume_schedule", "report")).paused
    run = await do("run_schedule", "report")
    declared = await do(
        "put_schedules", "shop", 1, [{"name": "n", "cron": "@daily", "task": task}]
    )

    assert (made.timezone, made.task.json, len(made.next_runs)) == ("Europe/Paris", [1], 5)
    assert edited.cron == "@hourly"
    assert [task.id for task in await do("schedule_runs", "report")] == [run.id]
    assert [(one.name, one.owner) for one in declared] == [("n", "shop")]
    assert [one.name for one in await do("schedules")] == ["n", "report"]
    assert (await do("schedule", "n")).owner == "shop"
    assert len(await do("preview", "@every 90s", count=3)) == 3
    await do("put_schedules", "shop", None, [])
    await do("delete_schedule", "report")
    assert list(await do("schedules")) == []


async def test_server_is_paused_resumed_and_measured(do: Both) -> None:
    assert await do("pause")
    assert (await do("stats", 5)).paused
    assert not await do("resume")
    stats = await do("stats", queue="default")
    assert stats.in_flight == 0
    assert stats.store.used_bytes > 0


def test_events_show_changes(server: Server) -> None:
    client = Client(server.url, token=TOKEN)
    id = client.push(URL, delay=LATER).id
    with closing(client.events("default", last_event_id="unknown")) as events:
        assert next(events).name == "reset"
        client.edit(id, {"priority": 1})
        told = next(events)

    assert (told.name, told.data["id"], told.data["change"]) == ("task", id, "edited")
    client.delete(id)
    with closing(client.events(last_event_id=told.id)) as events:
        assert next(events).data["change"] == "deleted"


async def test_events_of_the_asynchronous_client_show_changes(server: Server) -> None:
    async with AsyncClient(server.url, token=TOKEN) as client:
        id = (await client.push(URL, delay=LATER)).id
        async with aclosing(client.events(last_event_id="unknown")) as events:
            assert (await anext(events)).name == "reset"
            await client.delete(id)
            told = await anext(events)

    assert (told.name, told.data["id"], told.data["change"]) == ("task", id, "deleted")


async def test_wrong_token_is_refused(server: Server) -> None:
    client = Client(server.url, token="wrong")

    with pytest.raises(Unauthorized):
        client.push(URL)
    with pytest.raises(Unauthorized):
        next(client.events())
    async with AsyncClient(server.url, token="wrong") as awaited:
        with pytest.raises(Unauthorized):
            await anext(awaited.events())


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("contract") / "data", "--test-mode") as server:
        return json.loads(server.request("GET", "/openapi.json").body)["components"]["schemas"]


@pytest.mark.parametrize("schema", READ)
def test_every_field_of_the_served_document_is_known_and_no_other(
    schemas: Any, schema: str
) -> None:
    names = OTHER_NAMES.get(schema, {})
    served = {names.get(name, name) for name in schemas[schema]["properties"]}
    known = {field.encode_name for field in msgspec.structs.fields(READ[schema])}

    assert served <= known
    assert known - served <= MAY_BE_LEFT_OUT.get(schema, set())


def test_every_response_of_the_server_has_a_result(schemas: Any) -> None:
    answered = {name for name in schemas if name.endswith(("View", "List", "Answer", "Detail"))}

    assert answered <= set(READ)
