"""Functions as tasks: how they are defined, pushed, and what their handles tell."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import msgspec
import pytest

from poussetaches.client import option_rules
from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.client_pusher import ClientPusher, push_fields
from poussetaches.client.current_task import current_task
from poussetaches.client.environment import Keys
from poussetaches.client.errors import NotFound
from poussetaches.client.handler_exception import RetryLater
from poussetaches.client.immediate_pusher import MAX_ENDED_TASKS, ImmediatePusher
from poussetaches.client.options import PushOptionFields
from poussetaches.client.push_handle import NoResult, Pushed, ResultTruncated, TaskFailed
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import TaskInfo
from poussetaches.client.tasks import Tasks
from poussetaches.core.errors import SettingsError
from tests.application import KEY, NOW, RecordingPusher, make_attempt, make_info, make_tasks

LATER = datetime(2030, 1, 1, tzinfo=UTC)
IMMEDIATE = {"POUSSETACHES_MODE": "immediate"}


@dataclass
class Report:
    title: str
    at: datetime


def fields(task: NewTask) -> dict[str, object]:
    """Return what a push says."""
    return {name: it for name, it in msgspec.structs.asdict(task).items() if it not in (None, {})}


# Definitions


def test_task_is_still_the_function() -> None:
    tasks = make_tasks()

    @tasks.task
    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    assert double(21) == 42
    assert (double.__doc__, double.__name__) == ("Return twice the number.", "double")
    assert double.name == f"{__name__}.test_task_is_still_the_function.double"


async def test_asynchronous_task_is_still_the_function() -> None:
    tasks = make_tasks()

    @tasks.task(queue="numbers")
    async def double(number: int) -> int:
        return 2 * number

    assert await double(21) == 42


def test_tasks_are_listed_once_each() -> None:
    tasks = make_tasks()

    @tasks.task(name="app.new", aliases=["app.old"])
    def handler() -> None: ...

    assert list(tasks) == [handler]
    assert tasks.find("app.new") is tasks.find("app.old") is handler
    assert tasks.find("app.other") is None


@pytest.mark.parametrize("name", ["naïve", "a/b", "a b", ".a", "_check", "x" * 201])
def test_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match=r"is not a valid name|is a reserved task name"):
        make_tasks().task(name=name)(lambda: None)


def test_refused_name_is_told_with_its_subject_and_the_rule() -> None:
    with pytest.raises(DefinitionError) as task:
        make_tasks().task(name="a b")(lambda: None)
    with pytest.raises(
        DefinitionError, match=r"^queue: '_a' is not a valid name; use at most 100"
    ):
        make_tasks().queue("_a")

    assert str(task.value) == (
        "task: 'a b' is not a valid name; use at most 200 ASCII letters, digits, dots, dashes and"
        " underscores, and start with a letter, a digit or an underscore"
    )


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda tasks: tasks.cron(lambda: None), r'as in @tasks\.cron\("0 6 \* \* \*"'),
        (lambda tasks: tasks.cron(5), "cron=5 is not allowed: must be a str"),
        (lambda tasks: tasks.cron("@daily", timezone=1), "timezone=1 is not allowed"),
        (lambda tasks: tasks.task("mail"), r"'mail' cannot be a task; .*@tasks\.task\(queue="),
        (lambda tasks: tasks.queue(5), "queue: 5 is not a valid name"),
        (lambda _: make_tasks(name="a b"), r"Tasks\(name=…\): 'a b' is not a valid name"),
        (lambda _: make_tasks(path="tasks"), "path='tasks' is not allowed: must begin with a sl"),
    ],
)
def test_definition_with_a_wrong_type_is_refused_with_an_example(
    define: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        define(make_tasks())


@pytest.mark.parametrize(
    ("argument", "value"),
    [("name", 5), ("version", "7"), ("url", 7991), ("path", None), ("auth_key", b"k")],
)
def test_argument_of_tasks_with_a_wrong_type_is_refused(argument: str, value: object) -> None:
    arguments: Any = {argument: value}

    with pytest.raises(ArgumentError, match=rf"^argument {argument}: .* is not allowed; use a"):
        make_tasks(**arguments)


def test_aliases_that_are_a_single_string_are_refused() -> None:
    tasks = make_tasks()

    with pytest.raises(DefinitionError, match=r"^aliases takes a list of names, not 'old'$"):
        tasks.task(name="app.new", aliases="old")(lambda: None)

    assert [*tasks, tasks.find("o")] == [None]


@pytest.mark.parametrize("taken", ["app.one", "app.former"])
def test_name_that_is_taken_is_refused(taken: str) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.one", aliases=["app.former"])
    def one() -> None: ...

    with pytest.raises(
        DefinitionError, match=f"the task '{taken}' is already defined, by the .*one; give"
    ):

        @tasks.task(name=taken)
        def two() -> None: ...


def test_main_module_goes_by_the_name_that_others_know_it_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handler() -> None: ...

    handler.__module__ = "__main__"
    main = ModuleType("__main__")
    main.__file__ = "/srv/shop.py"
    monkeypatch.setitem(sys.modules, "__main__", main)

    task = make_tasks().task(handler)

    assert task.name.startswith("shop.")


def test_task_cannot_be_made_a_task_again() -> None:
    tasks = make_tasks()

    @tasks.task(name="app.one")
    def one() -> None: ...

    with pytest.raises(DefinitionError, match=r"app\.one is already a task"):
        tasks.task(one)


def test_argument_that_is_sure_not_to_travel_is_refused_at_the_definition() -> None:
    with pytest.raises(DefinitionError, match="argument it: values of Tasks cannot be encoded"):

        @make_tasks().task
        def handler(it: Tasks) -> None: ...


def test_name_of_the_application_must_be_one() -> None:
    with pytest.raises(DefinitionError, match="'my shop' is not a valid name"):
        Tasks(name="my shop")


# Pushes


def test_push_says_only_what_is_set() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task(name="app.send")
    def send(user_id: int) -> None: ...

    with tasks.use(pusher):
        pushed = send.push(42)

    assert (pushed.id, pushed.existing, repr(pushed)) == ("task-1", False, "<Pushed task-1>")
    assert push_fields(pusher.pushed[0]) == push_fields(
        NewTask(url="/_poussetaches/app.send", json={"user_id": 42})
    )


def test_options_of_the_push_go_before_those_of_the_task() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task(
        name="app.send",
        queue="mail",
        timeout=30,
        max_attempts=5,
        retry={"min_backoff": 2},
        labels={"kind": "mail", "size": "s"},
    )
    def send(user_id: int) -> None: ...

    with tasks.use(pusher):
        send.options(
            delay=60, key="welcome-42", max_attempts=3, labels={"size": "l"}, priority=0
        ).push(42)

    [task] = pusher.pushed
    assert (task.queue, task.timeout, task.delay, task.key) == ("mail", 30, 60, "welcome-42")
    assert task.retry == {"min_backoff": 2, "max_attempts": 3}
    assert task.labels == {"kind": "mail", "size": "l"}
    assert task.priority == 0


async def test_every_option_arrives_also_from_asynchronous_code() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task
    async def send() -> None: ...

    options: dict[str, object] = {
        "queue": "mail",
        "run_at": LATER,
        "priority": 7,
        "timeout": 1.5,
        "retry": {"jitter": 0},
        "unique": "u",
        "on_conflict": "replace",
        "expires_at": LATER,
        "on_success": "/done",
        "on_dead": "",
        "labels": {"a": "b"},
    }

    with tasks.use(pusher):
        await send.apush()
        await send.options(**options).apush()  # type: ignore[arg-type]  # all at once

    said = msgspec.structs.asdict(pusher.pushed[1])
    assert {name: said[name] for name in options} == options


def test_application_with_a_name_has_queues_and_labels_of_its_own() -> None:
    tasks, pusher = make_tasks(name="shop"), RecordingPusher()

    @tasks.task(labels={"kind": "mail"})
    def send() -> None: ...

    with tasks.use(pusher):
        send.push()
        send.options(queue="mail").push()

    assert [task.queue for task in pusher.pushed] == ["shop", "shop.mail"]
    assert pusher.pushed[0].labels == {"app": "shop", "kind": "mail"}


async def test_argument_that_cannot_travel_is_refused_at_the_push() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task
    def send(user_id: int) -> None: ...

    with tasks.use(pusher):
        with pytest.raises(ArgumentError, match="argument user_id: Expected `int`, got `str`"):
            send.push("x")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="argument user_id: it is required"):
            await send.apush()  # type: ignore[call-arg]

    assert pusher.pushed == []


NAIVE = LATER.replace(tzinfo=None)
A_MOMENT = "must be a date and time with a time zone; for example"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run_at": NAIVE}, f"run_at={NAIVE!r} is not allowed: {NAIVE} has no time zone; use an"),
        ({"expires_at": NAIVE}, "has no time zone; use an aware one, as in datetime.now(UTC)"),
        ({"expires_at": 60}, f"expires_at=60 is not allowed: {A_MOMENT} expires_at=datetime."),
        ({"run_at": timedelta(hours=1)}, f"is not allowed: {A_MOMENT} run_at="),
        (
            {"delay": "1h"},
            "delay='1h' is not allowed: must be a number from 0 to 315,360,000; for",
        ),
        ({"delay": -1}, "delay=-1 is not allowed: must be a number from 0"),
        ({"delay": float("nan")}, "delay=nan is not allowed: JSON has no nan"),
        ({"delay": 1, "run_at": LATER}, "run_at: give delay or run_at, not both"),
        ({"timeout": 0}, "timeout=0 is not allowed: must be a number from 0.1 to 86,400"),
        (
            {"priority": 101},
            "priority=101 is not allowed: must be a whole number from -100 to 100",
        ),
        ({"key": ""}, "key='' is not allowed: "),
        ({"key": 42}, "key=42 is not allowed: must be text without a zero character"),
        ({"unique": 42}, "unique=42 is not allowed: must be text"),
        ({"on_conflict": "drop"}, "on_conflict='drop' is not allowed: must be one of keep"),
        ({"on_conflict": "keep"}, "on_conflict: requires unique"),
        ({"labels": {"a": "b", "u": 42}}, "labels['u'] must be text without a zero character"),
        ({"labels": {"a:b": "c"}}, "not allowed: a name must be text without a colon or"),
        (
            {"labels": ["a"]},
            "labels=['a'] is not allowed: must be an object with at most 16 strings",
        ),
        ({"queue": "my queue"}, "queue='my queue' is not allowed: must be up to 100 letters"),
        ({"retry": {"tries": 3}}, "retry.tries is unknown"),
        ({"retry": 3, "max_attempts": 3}, "retry=3 is not allowed: must be an object"),
        ({"retry": {"max_attempts": 4}, "max_attempts": 3}, "max_attempts is set twice"),
        ({"on_dead": "report"}, "on_dead='report' is not allowed: must begin with /, http"),
    ],
    ids=str,
)
def test_option_that_every_server_refuses_is_refused_at_the_call(
    options: dict[str, Any], says: str
) -> None:
    send = make_tasks().task(name="app.send")(lambda: None)

    with pytest.raises(ArgumentError) as refused:
        send.options(**options)

    assert says in str(refused.value)


def test_unknown_option_of_a_push_is_refused_by_name() -> None:
    send = make_tasks().task(name="app.send")(lambda: None)
    unknown: dict[str, Any] = {"countdown": 3}

    with pytest.raises(DefinitionError, match=r"^task 'app.send': unknown option 'countdown'; "):
        send.options(**unknown)


@pytest.mark.parametrize("option", option_rules.EXAMPLES)
def test_example_of_an_option_in_an_error_is_allowed(option: str) -> None:
    if option not in PushOptionFields.__annotations__:
        return
    given: dict[str, Any] = {"unique": "u", option: option_rules.EXAMPLES[option]}

    make_tasks().task(name="app.send")(lambda: None).options(**given)


HOUR = timedelta(hours=1)


def test_durations_may_be_timedeltas() -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task(timeout=HOUR, retry={"min_backoff": HOUR}, max_attempts=2)
    def send() -> None: ...

    tasks.queue("mail", timeout=HOUR, retry={"max_age": HOUR}, keep_dead={"age": HOUR})
    tasks.schedule("hourly", send, cron="@hourly", misfire_grace=HOUR)
    with tasks.use(pusher):
        send.options(delay=HOUR, retry={"max_backoff": 2 * HOUR}).push()

    [task] = pusher.pushed
    assert (task.delay, task.timeout) == (3600, 3600)
    assert task.retry == {"min_backoff": 3600, "max_backoff": 7200, "max_attempts": 2}
    declaration = tasks.declaration()
    assert declaration.queues == {
        "mail": {"timeout": 3600, "retry": {"max_age": 3600}, "keep_dead": {"age": 3600}}
    }
    assert declaration.schedules[0]["misfire_grace"] == 3600


def test_handler_may_say_when_to_retry_by_a_timedelta() -> None:
    assert RetryLater(after=HOUR).after == 3600


def test_handle_waits_for_a_timedelta() -> None:
    tasks, pusher = make_tasks(), RecordingPusher(make_info("task-1"))
    send = tasks.task(name="app.send")(lambda: None)

    with tasks.use(pusher):
        pushed = send.push()
        pushed.wait(HOUR)
        pushed.result(2 * HOUR)

    assert pusher.waited == [3600, 7200]


def test_inner_pusher_hides_the_outer_one() -> None:
    tasks, outer, inner = make_tasks(), RecordingPusher(), RecordingPusher()

    @tasks.task
    def send() -> None: ...

    with tasks.use(outer):
        with tasks.use(inner, keys=Keys(auth_key="another")):
            send.push()
            assert tasks.keys().auth_key == "another"
        send.push()
        assert tasks.keys().auth_key == KEY

    assert (len(outer.pushed), len(inner.pushed)) == (1, 1)


# Handles


def handle(info: TaskInfo, *, return_type: object = object) -> Pushed[object]:
    """Return the handle of a task that the server tells so of."""
    tasks = make_tasks()

    def handler() -> object: ...

    handler.__annotations__["return"] = return_type

    with tasks.use(RecordingPusher(info)):
        return tasks.task(handler).push()


async def test_handle_tells_what_became_of_the_task() -> None:
    info = make_info(state="waiting")
    pushed = handle(info)

    assert pushed.refresh() is pushed.wait(1) is info
    assert await pushed.arefresh() is await pushed.await_end(1) is info


async def test_result_has_the_type_that_the_handler_says() -> None:
    body = '{"title": "x", "at": "2030-01-01T00:00:00Z"}'
    pushed = handle(
        make_info(attempts=[make_attempt(), make_attempt(response_body=body)]), return_type=Report
    )

    assert pushed.result(1) == Report("x", LATER)
    assert await pushed.aresult(1) == Report("x", LATER)


def test_result_of_a_handler_that_returns_nothing_is_none() -> None:
    assert handle(make_info(), return_type=None).result(1) is None


def test_result_that_was_cut_off_is_refused() -> None:
    attempt = make_attempt(response_body='"xxx', response_truncated=True)

    with pytest.raises(ResultTruncated, match="longer than 64 KiB"):
        handle(make_info(attempts=[attempt])).result(1)


@pytest.mark.parametrize(
    ("attempts", "return_type", "reason"),
    [
        ([], int, "the server has no attempts of this task"),
        ([make_attempt(response_body="")], int, "has no JSON"),
        (
            [make_attempt(response_body="<html>")],
            int,
            "does not match its return type: JSON is malformed",
        ),
        (
            [make_attempt(response_body='"x"')],
            int,
            "does not match its return type: Expected `int`",
        ),
        ([make_attempt(response_body="{}")], Tasks, "values of Tasks cannot be encoded"),
    ],
)
def test_result_that_cannot_be_read_is_refused(
    attempts: list[dict[str, object]], return_type: object, reason: str
) -> None:
    with pytest.raises(NoResult, match=reason):
        handle(make_info(attempts=attempts), return_type=return_type).result(1)


def test_result_of_a_dead_task_is_its_failure() -> None:
    info = make_info(state="dead", last_error="ValueError: no")

    with pytest.raises(TaskFailed, match="task-1 died, exhausted: ValueError: no") as failure:
        handle(info).result(1)

    assert failure.value.task is info


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_result_that_is_not_there_in_time_is_a_timeout(state: str) -> None:
    with pytest.raises(TimeoutError, match=f"task-1 has not ended; its state is {state}"):
        handle(make_info(state=state)).result(1)


# Immediate mode


def test_immediate_mode_runs_the_handler_at_once() -> None:
    tasks = make_tasks(environ=IMMEDIATE)

    @tasks.task(name="app.report", queue="mail")
    def report(at: datetime) -> Report:
        assert current_task().queue == "mail"
        return Report("x", at)

    pushed = report.push(LATER)

    assert pushed.result(0) == Report("x", LATER)
    assert pushed.refresh().state == pushed.wait(0).state == "succeeded"


async def test_immediate_mode_runs_the_handler_at_once_in_asynchronous_code() -> None:
    tasks = make_tasks(environ=IMMEDIATE)

    @tasks.task
    async def inner() -> str:
        return current_task().id

    @tasks.task
    async def outer() -> list[str]:
        pushed = await inner.apush()
        return [await pushed.aresult(0), pushed.id, current_task().id]

    pushed = await outer.apush()
    seen = await pushed.aresult(0)

    assert seen[0] == seen[1] != seen[2] == pushed.id
    assert (await pushed.arefresh()).state == (await pushed.await_end(0)).state == "succeeded"


def test_task_that_fails_in_immediate_mode_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    tasks = make_tasks(environ=IMMEDIATE)

    @tasks.task(name="app.fail")
    def fail() -> None:
        raise RetryLater("not yet", after=1)

    pushed = fail.options(delay=60).push()

    with caplog.at_level(logging.INFO), pytest.raises(TaskFailed, match="exhausted: not yet"):
        fail.options(delay=60).push().result(0)
    assert pushed.refresh().last_status == 503
    assert (
        "immediate mode ignores delay and run_at; running /_poussetaches/app.fail now"
        in caplog.text
    )


def test_immediate_mode_forgets_old_tasks() -> None:
    tasks = make_tasks()
    pusher = ImmediatePusher(tasks.receiver(), clock=lambda: NOW)

    @tasks.task
    def handler() -> None: ...

    with tasks.use(pusher):
        pushed = [handler.push() for _ in range(MAX_ENDED_TASKS + 1)]

    assert pushed[1].result(0) is None
    with pytest.raises(NotFound):
        pushed[0].refresh()


def test_unknown_mode_is_refused_at_the_push() -> None:
    tasks = make_tasks(environ={"POUSSETACHES_MODE": "eager"})

    @tasks.task
    def handler() -> None: ...

    with pytest.raises(SettingsError, match="use 'push' or 'immediate'"):
        handler.push()


# The clients


def test_pushes_go_to_the_server_unless_the_environment_says_otherwise() -> None:
    tasks = make_tasks()

    assert isinstance(tasks.pusher(), ClientPusher)
    assert tasks.pusher() is tasks.pusher()


def test_clients_are_made_when_they_are_needed_and_only_once() -> None:
    tasks = make_tasks()

    assert isinstance(tasks.client(), Client)
    assert isinstance(tasks.async_client(), AsyncClient)
    assert tasks.client() is tasks.client()
    assert tasks.async_client() is tasks.async_client()


def test_nothing_is_read_before_it_is_needed() -> None:
    class Unread(dict[str, str]):
        def get(self, key: str, default: object = None) -> str:
            raise AssertionError(f"{key} was read")

    environ: Mapping[str, str] = Unread()
    tasks = Tasks(environ=environ)

    @tasks.cron("@daily")
    def handler() -> None: ...

    tasks.queue("mail", rate="2/s")
    tasks.receiver()

    with pytest.raises(AssertionError, match="POUSSETACHES_MODE was read"):
        handler.push()


@pytest.mark.parametrize("given", [3, None, "", uuid.UUID(int=7)], ids=str)
def test_handle_needs_an_id(given: Any) -> None:
    tasks = make_tasks()
    task = tasks.task(name="app.send")(lambda: None)

    for make in (tasks.handle, task.handle):
        with pytest.raises(ArgumentError) as refused:
            make(given)
        assert str(refused.value) == f"{given!r} is not an id or a name; use a non-empty string"


def test_handle_of_an_earlier_push_reads_its_state_and_result() -> None:
    url = "/_poussetaches/app.report"
    info = make_info("task-7", url=url, attempts=[make_attempt(response_body='{"title":"x"}')])
    tasks = make_tasks()

    @dataclass
    class Titled:
        title: str

    def report() -> Any: ...

    report.__annotations__["return"] = Titled
    task = tasks.task(name="app.report")(report)
    with tasks.use(RecordingPusher(info)):
        known, unknown = task.handle("task-7"), tasks.handle("task-7")

        assert known.refresh().state == "succeeded"
        assert known.result() == unknown.result() == Titled("x")
        assert (known.id, known.existing) == ("task-7", True)


def test_result_of_a_task_that_this_application_does_not_have_is_plain_json() -> None:
    info = make_info("task-7", url="http://elsewhere.test/x")
    tasks = make_tasks()

    with tasks.use(RecordingPusher(info)):
        assert tasks.handle("task-7").result() is None


def test_result_is_not_waited_for_unless_it_is_said() -> None:
    pusher = RecordingPusher(make_info("task-7", state="running"))
    tasks = make_tasks()

    with (
        tasks.use(pusher),
        pytest.raises(TimeoutError, match="has not ended; its state is running"),
    ):
        tasks.handle("task-7").result()

    assert pusher.waited == [0.0]
