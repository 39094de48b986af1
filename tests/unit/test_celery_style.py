"""Tasks pushed in the words of Celery, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from poussetaches.celery_style import (
    CeleryStyle,
    NotOffered,
    SyncCeleryStyle,
    celery_style,
    chain,
    chord,
    group,
)
from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.request_fields import NewTask
from poussetaches.client.tasks import Tasks
from tests.application import NOW, RecordingPusher, make_info, make_tasks

LATER = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def tasks() -> Tasks:
    return make_tasks()


@pytest.fixture
def send(tasks: Tasks) -> SyncCeleryStyle[..., str]:
    @celery_style
    @tasks.task(name="app.send", queue="mail", max_attempts=5)
    def send(user_id: int, text: str = "Welcome!") -> str:
        return f"{text} {user_id}"

    return send


def fields(task: NewTask) -> dict[str, object]:
    """Return what a push says."""
    return {name: it for name, it in msgspec.structs.asdict(task).items() if it is not None}


def test_delay_is_a_push(tasks: Tasks) -> None:
    pusher = RecordingPusher(make_info("task-1"))

    @celery_style
    @tasks.task(name="app.send", queue="mail", max_attempts=5)
    def send(user_id: int, text: str = "Welcome!") -> None: ...

    with tasks.use(pusher):
        handle = send.delay(42, text="Hello")

    assert handle.result(1) is None
    (pushed,) = pusher.pushed
    assert fields(pushed) == {
        "url": "/_poussetaches/app.send",
        "json": {"user_id": 42, "text": "Hello"},
        "queue": "mail",
        "retry": {"max_attempts": 5},
    }


def test_task_is_still_the_function_and_can_still_be_pushed(
    tasks: Tasks, send: SyncCeleryStyle[..., str]
) -> None:
    pusher = RecordingPusher()

    with tasks.use(pusher):
        send.push(1, "one")
        send.options(delay=5).push(2, "two")

    assert send(3, "three") == "three 3"
    assert (send.name, send.__name__, send.task) == ("app.send", "send", tasks.find("app.send"))
    assert [task.delay for task in pusher.pushed] == [None, 5]


async def test_asynchronous_task_is_still_one(tasks: Tasks) -> None:
    pusher = RecordingPusher()

    @celery_style
    @tasks.task
    async def double(number: int) -> int:
        return 2 * number

    with tasks.use(pusher):
        double.delay(1)
        await double.apush(2)

    assert await double(21) == 42
    assert [task.json for task in pusher.pushed] == [{"number": 1}, {"number": 2}]


def test_schedule_can_have_it_too(tasks: Tasks) -> None:
    pusher = RecordingPusher()

    @celery_style
    @tasks.cron("0 6 * * *", name="app.report")
    def report() -> None: ...

    with tasks.use(pusher):
        report.delay()

    assert [task.url for task in pusher.pushed] == ["/_poussetaches/app.report"]
    assert list(tasks.schedules) == ["app.report"]


def test_function_that_is_not_a_task_yet_is_refused() -> None:
    function: Any = len

    with pytest.raises(DefinitionError, match="is not a task; decorate the function with @tasks"):
        celery_style(function)


def test_durations_may_be_timedeltas(tasks: Tasks, send: SyncCeleryStyle[..., str]) -> None:
    pusher = RecordingPusher()

    with tasks.use(pusher):
        send.apply_async((1, "x"), countdown=timedelta(minutes=1))
        send.apply_async((1, "x"), expires=timedelta(minutes=1))

    assert pusher.pushed[0].delay == 60
    assert pusher.pushed[1].expires_at is not None


def test_option_that_every_server_refuses_is_refused(send: SyncCeleryStyle[..., str]) -> None:
    with pytest.raises(
        ArgumentError, match=r"^task app\.send: run_at=.* (must be|has no time zone)"
    ):
        send.apply_async((1, "x"), eta=LATER.replace(tzinfo=None))


def test_options_are_those_of_a_push(tasks: Tasks, send: SyncCeleryStyle[..., str]) -> None:
    pusher = RecordingPusher()

    with tasks.use(pusher):
        send.apply_async((1,), {"text": "Hi"}, countdown=60, queue="slow", priority=3)
        send.apply_async([2], eta=LATER, expires=LATER + timedelta(hours=1))
        send.apply_async(kwargs={"user_id": 3})

    common = {"url": "/_poussetaches/app.send", "queue": "mail", "retry": {"max_attempts": 5}}
    assert [fields(task) for task in pusher.pushed] == [
        {
            **common,
            "json": {"user_id": 1, "text": "Hi"},
            "delay": 60,
            "queue": "slow",
            "priority": 3,
        },
        {
            **common,
            "json": {"user_id": 2},
            "run_at": LATER,
            "expires_at": LATER + timedelta(hours=1),
        },
        {**common, "json": {"user_id": 3}},
    ]


def test_seconds_until_it_expires_are_counted_from_the_push(tasks: Tasks) -> None:
    pusher = RecordingPusher()
    task = CeleryStyle(tasks.task(name="app.nothing")(lambda: None), clock=lambda: NOW)

    with tasks.use(pusher):
        task.apply_async(expires=90)

    assert pusher.pushed[0].expires_at == datetime.fromtimestamp(NOW + 90, UTC)


def test_signature_is_pushed_later_with_its_arguments_and_options(
    tasks: Tasks, send: SyncCeleryStyle[..., str]
) -> None:
    pusher = RecordingPusher()
    signature = send.s(1, text="Hi")

    with tasks.use(pusher):
        signature.delay()
        signature.set(countdown=5, priority=1).apply_async(priority=2)
        signature.apply_async(queue="slow")

    assert [task.json for task in pusher.pushed] == 3 * [{"user_id": 1, "text": "Hi"}]
    assert [(task.delay, task.priority, task.queue) for task in pusher.pushed] == [
        (None, None, "mail"),
        (5, 2, "mail"),
        (None, None, "slow"),
    ]


def test_arguments_that_do_not_fit_are_named_at_the_push(tasks: Tasks) -> None:
    @celery_style
    @tasks.task
    def send(user_id: int) -> int:
        return user_id

    # The type checker, which sees through both decorators, says so before.
    with tasks.use(RecordingPusher()):
        with pytest.raises(ArgumentError, match="argument user_id"):
            send.delay("x")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="argument user_id"):
            send.s("x").delay()  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="argument user_id"):
            send.apply_async(("x",))
        with pytest.raises(ArgumentError, match="user_id"):
            send.delay()  # type: ignore[call-arg]
        text: str = send(1)  # type: ignore[assignment]

    assert text == 1  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task_id": "42"}, "task_id: the server assigns ids; use key="),
        ({"link": None}, "link: push the next task at the end of the handler"),
        ({"time_limit": 5}, "time_limit: use timeout= in"),
        ({"serializer": "pickle"}, "serializer: it has no equivalent, and is not needed; remove"),
        ({"link": "x"}, "if it only reports the end, use on_success= in .options()"),
        ({"countdwn": 3}, "countdwn: apply_async has no such option; did you mean countdown?"),
        ({"zzz": 3}, "zzz: apply_async has no such option; the options are countdown, eta, expi"),
    ],
)
def test_option_that_does_not_map_is_refused_with_what_to_do(
    tasks: Tasks, options: dict[str, object], said: str
) -> None:
    pusher = RecordingPusher()
    apply_async: Callable[..., object] = celery_style(
        tasks.task(name="app.nothing")(lambda: None)
    ).apply_async

    with tasks.use(pusher), pytest.raises(NotOffered) as raised:
        apply_async(**options)

    assert said in str(raised.value)
    assert pusher.pushed == []


def test_unknown_option_of_a_signature_is_refused_where_it_is_set(
    send: SyncCeleryStyle[..., str],
) -> None:
    with pytest.raises(NotOffered, match="did you mean countdown"):
        send.s(1).set(countdwn=3)  # type: ignore[call-arg]


def test_workflows_are_refused_with_what_to_do(
    send: SyncCeleryStyle[..., str],
) -> None:
    first, second = send.s(1, "one"), send.s(2, "two")

    with pytest.raises(NotOffered, match="chain: push the next task"):
        _ = first | second
    with pytest.raises(NotOffered, match="chain: push the next task"):
        chain(first, second)
    with pytest.raises(NotOffered, match="group: push them one by one"):
        group([first, second])
    with pytest.raises(NotOffered, match="chord: push the tasks one by one; count"):
        chord([first], second)
