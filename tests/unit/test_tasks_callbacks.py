"""Task functions as callbacks: which are allowed, where they are called, and what they get."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from poussetaches.celery_style import celery_style
from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.client import Client
from poussetaches.client.current_task import current_task
from poussetaches.client.handler_exception import GiveUp
from poussetaches.client.receiver import Receiver
from poussetaches.client.results import EndedTask, LastAttempt
from poussetaches.client.tasks import Tasks
from poussetaches.core.callback import callback_of
from poussetaches.core.queue import QueueOverrides
from poussetaches.core.task import Reason, TaskState
from tests.application import NOW, RecordingPusher, delivery, make_tasks
from tests.factories import NOW as SERVER_NOW
from tests.factories import make_attempt, make_ended

IMMEDIATE = {"POUSSETACHES_MODE": "immediate"}
URL = "/_poussetaches/app.notify"


def make_account(**overrides: object) -> dict[str, object]:
    """Return the body of a callback, as the server builds it."""
    task = make_ended("task-7", TaskState.DEAD, reason=Reason.EXHAUSTED, on_dead="/told")
    attempt = make_attempt(1, status=500, error=None, response_body=b"KeyError: 7")
    told = callback_of(task, attempt, QueueOverrides(), id="callback", now=SERVER_NOW)
    assert told is not None
    body: dict[str, object] = msgspec.json.decode(told.body)
    return {**body, "url": "/_poussetaches/app.send", **overrides}


def make_ended_task(**overrides: object) -> EndedTask:
    return msgspec.convert(make_account(**overrides), EndedTask)


def define_notify(tasks: Tasks, **options: Any) -> Any:
    """Define a task that is a callback."""

    @tasks.task(name="app.notify", **options)
    def notify(ended: EndedTask) -> str:
        return f"{ended.name} {ended.state}"

    return notify


# Which tasks can be callbacks


def test_structure_has_every_field_of_the_servers_callback() -> None:
    account = make_account()

    assert set(account) == set(EndedTask.__struct_fields__)
    assert set(msgspec.to_builtins(account["last_attempt"])) == set(LastAttempt.__struct_fields__)


@pytest.mark.parametrize(
    ("changes", "name", "error"),
    [
        ({}, "app.send", "KeyError: 7"),
        ({"last_attempt": None}, "app.send", None),
        ({"url": "https://app.test/_poussetaches/app.send"}, "app.send", "KeyError: 7"),
        ({"url": "/tasks/mail?to=a/b"}, "mail", "KeyError: 7"),
    ],
)
def test_ended_task_has_the_name_of_its_function_and_its_error(
    changes: dict[str, object], name: str, error: str | None
) -> None:
    ended = make_ended_task(**changes)

    assert (ended.name, ended.error) == (name, error)


def test_fields_of_newer_servers_are_ignored() -> None:
    assert make_ended_task(result="x") == make_ended_task()


def takes_nothing() -> None: ...
def takes_something_else(ended: dict[str, object]) -> None: ...
def takes_any(ended) -> None: ...  # type: ignore[no-untyped-def]  # as applications may have it
def takes_two(ended: EndedTask, other: EndedTask) -> None: ...
def takes_more(ended: EndedTask, dry_run: bool = False) -> None: ...
def takes_it_perhaps(ended: EndedTask | None = None) -> None: ...
def takes_many(*ended: EndedTask) -> None: ...


NOT_CALLBACKS: list[Callable[..., object]] = [
    takes_nothing,
    takes_something_else,
    takes_any,
    takes_two,
    takes_more,
    takes_it_perhaps,
    takes_many,
]


@pytest.mark.parametrize("function", NOT_CALLBACKS, ids=lambda it: it.__name__)
@pytest.mark.parametrize("field", ["on_success", "on_dead"])
def test_task_that_does_not_take_an_ended_task_alone_is_refused(
    function: Callable[..., object], field: str
) -> None:
    tasks = make_tasks()
    handler: Any = tasks.task(name="app.handler")(function)
    other = tasks.task(name="app.other")(takes_nothing)
    says = f"^{field}: app.handler must take exactly one argument, annotated with EndedTask$"

    with pytest.raises(DefinitionError, match=says):
        tasks.task(name="app.send", **{field: handler})(takes_nothing)
    with pytest.raises(DefinitionError, match=says):
        tasks.cron("@daily", name="app.daily", **{field: handler})(takes_nothing)
    with pytest.raises(DefinitionError, match=says):
        other.options(**{field: handler})
    with pytest.raises(DefinitionError, match=says):
        tasks.queue("mail", **{field: handler})
    assert [task.name for task in tasks] == ["app.handler", "app.other"]
    assert tasks.queues == {}


def not_a_task(ended: EndedTask) -> None: ...


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (
            lambda: not_a_task,
            "is neither a URL nor a task; decorate the function with @tasks.task",
        ),
        (lambda: 7, "7 is neither a URL nor a task"),
        (
            lambda: define_notify(make_tasks()),
            "app.notify belongs to another Tasks object; use its URL",
        ),
        (
            lambda: define_notify(make_tasks()).options(queue="slow"),
            "push options do not apply to callbacks; use the task app.notify itself",
        ),
    ],
    ids=["function", "number", "another application's", "options"],
)
def test_callback_that_is_no_task_of_the_application_is_refused(
    callback: Callable[[], Any], says: str
) -> None:
    with pytest.raises(DefinitionError, match=f"on_dead: .*{says}"):
        make_tasks().task(on_dead=callback())(takes_nothing)


# Where they are called


def test_push_names_the_path_of_the_task() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()
    notify = define_notify(tasks)

    @tasks.task(on_dead=notify, on_success="https://example.com/done")
    def send() -> None: ...

    with tasks.use(pusher):
        send.push()
        send.options(on_success=notify, on_dead="").push()

    assert [(it.on_success, it.on_dead) for it in pusher.pushed] == [
        ("https://example.com/done", URL),
        (URL, ""),
    ]


def test_celery_style_task_can_be_a_callback() -> None:
    tasks = make_tasks()
    notify: Any = celery_style(define_notify(tasks))

    @tasks.task(on_dead=notify)
    def send() -> None: ...

    assert send.prepare().on_dead == URL


@pytest.mark.parametrize(
    ("base_url", "of_queue", "expected"),
    [
        (None, None, URL),
        ("http://shop:5000", None, "http://shop:5000" + URL),
        ("http://shop:5000/", None, "http://shop:5000" + URL),
        ("http://shop:5000", "http://slow:5001", "http://slow:5001" + URL),
        (None, "http://slow:5001", "http://slow:5001" + URL),
    ],
)
def test_callback_is_called_by_the_base_url_that_the_code_sets_for_its_queue(
    base_url: str | None, of_queue: str | None, expected: str
) -> None:
    tasks = make_tasks(base_url=base_url, name="shop")
    notify = define_notify(tasks, queue="slow")

    @tasks.cron("@daily", name="app.daily", on_success=notify)
    def daily() -> None: ...

    tasks.queue("mail", on_dead=notify)
    if of_queue is not None:
        tasks.queue("slow", base_url=of_queue)
    declared = tasks.declaration()

    assert daily.prepare().on_success == expected
    assert declared.queues["shop.mail"]["on_dead"] == expected
    [schedule] = declared.schedules
    assert schedule["task"]["on_success"] == expected  # type: ignore[index]  # a dict


def test_tests_and_immediate_mode_call_the_application_itself() -> None:
    for environ in ({}, IMMEDIATE):
        tasks = make_tasks(base_url="http://shop:5000", environ=environ)
        notify = define_notify(tasks)
        tasks.queue("mail", on_dead=notify)

        with tasks.use(RecordingPusher()):
            assert tasks.callback_url(notify) == URL
            assert tasks.declaration().queues["mail"] == {"on_dead": URL}


def test_definition_of_a_callback_reads_no_setting() -> None:
    class Unread(dict[str, str]):
        def get(self, key: str, default: object = None) -> str:
            raise AssertionError(f"{key} was read")

    tasks = make_tasks(environ=Unread(), base_url="http://shop:5000")
    notify = define_notify(tasks)

    tasks.task(name="app.send", on_dead=notify)(takes_nothing).options(on_success=notify)
    tasks.queue("mail", on_dead=notify)


# What they get


def test_body_of_a_callback_is_the_argument() -> None:
    tasks = make_tasks()
    notify = define_notify(tasks)

    reply = tasks.receiver().run(delivery(notify, make_account()))

    assert (reply.status, reply.body) == (200, b'"app.send dead"')


def test_push_of_an_ended_task_has_the_body_of_a_callback() -> None:
    tasks = make_tasks()
    notify = define_notify(tasks)
    ended = make_ended_task()

    pushed = notify.prepare(ended)

    assert msgspec.convert(pushed.json, EndedTask) == ended
    assert notify.prepare(ended=ended) == pushed


def test_task_with_another_argument_gets_its_ended_task_by_name() -> None:
    tasks = make_tasks()

    @tasks.task(name="app.notify")
    def notify(ended: EndedTask, channel: str) -> str:
        return f"{ended.id} {channel}"

    reply = tasks.receiver().run(delivery(notify, notify.prepare(make_ended_task(), "ops").json))

    assert reply.body == b'"task-7 ops"'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "argument ended: Object missing required field `id`"),
        (b"[]", "argument ended: Expected `object`, got `array`"),
        (b"{", "argument ended: Input data was truncated"),
        (b'{"ended": {}}', "argument ended: Object missing required field `id`"),
    ],
)
def test_body_that_is_no_callback_is_refused(body: bytes, says: str) -> None:
    tasks = make_tasks()
    notify = define_notify(tasks)

    reply = tasks.receiver().run(delivery(notify, body=body))

    assert (reply.status, reply.body.decode().strip()) == (422, says)


def test_argument_of_another_type_is_refused_at_the_push() -> None:
    with pytest.raises(ArgumentError, match="argument ended: Expected `object`, got `str`"):
        define_notify(make_tasks()).prepare("x")


def test_options_of_a_callback_do_not_count_for_its_deadline() -> None:
    tasks = make_tasks()

    @tasks.task(name="app.notify", timeout=600)
    def notify(ended: EndedTask) -> datetime | None:
        return current_task().deadline

    def deadline() -> bytes:
        sent = delivery(notify, make_account(), Poussetaches_Queue="callbacks")
        return Receiver(tasks, clock=lambda: NOW).run(sent).body

    unknown = deadline()
    tasks.queue("callbacks", timeout=20)

    assert unknown == b"null"
    expected = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=20)
    assert msgspec.json.decode(deadline(), type=datetime) == expected


# Immediate mode


async def test_immediate_mode_runs_callbacks() -> None:
    tasks, told = make_tasks(environ=IMMEDIATE), list[EndedTask]()

    @tasks.task(name="app.notify")
    def notify(ended: EndedTask) -> None:
        told.append(ended)
        assert current_task().queue == "callbacks"

    @tasks.task(
        name="app.send", on_success=notify, on_dead=notify, queue="mail", labels={"a": "b"}
    )
    def send(works: bool) -> None:
        if not works:
            raise GiveUp("no such user")

    pushed = send.push(True)
    await send.apush(False)

    succeeded, died = told
    assert (succeeded.id, succeeded.state, succeeded.error) == (pushed.id, "succeeded", None)
    assert (died.name, died.queue, died.labels) == ("app.send", "mail", {"a": "b"})
    assert (died.state, died.reason, died.error) == ("dead", "exhausted", "no such user")
    assert died.last_attempt is not None
    assert (died.last_attempt.number, died.last_attempt.status) == (1, 500)


def test_immediate_mode_calls_no_other_urls() -> None:
    tasks = make_tasks(environ=IMMEDIATE, client=Client("http://127.0.0.1:1"))

    @tasks.task(on_success="http://127.0.0.1:1/done")
    def send() -> int:
        return 7

    assert send.push().result() == 7
