"""Applications' own tests, as their authors write them: recorded pushes, and tasks that run."""

from __future__ import annotations

import logging
import unittest
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask, current_app
from starlette.responses import Response
from starlette.testclient import TestClient

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.errors import ClientError, NotFound
from poussetaches.client.tasks import Tasks
from poussetaches.core.errors import TooManyAttempts
from poussetaches.engine import driver
from poussetaches.fastapi import Tasks as FastAPITasks
from poussetaches.flask import EndedTask, GiveUp, RetryLater, current_task
from poussetaches.flask import Tasks as FlaskTasks
from poussetaches.testing import RunBox, testing

DAY = 24 * 60 * 60  # seconds
ENDED: dict[str, Any] = {
    "id": "task-7",
    "queue": "default",
    "state": "dead",
    "reason": "cancelled",
    "labels": {},
    "url": "/_poussetaches/send",
    "attempt_count": 0,
    "last_attempt": None,
}


@pytest.mark.parametrize("mode", ["rum", "", None, True, "Record"])
def test_unknown_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^argument mode: must be one of record, run, not "):
        testing(Tasks(), mode)


@pytest.mark.parametrize("mode", ["record", "run"])
@pytest.mark.parametrize(
    "given", [FastAPI(), Flask("shop"), "tasks", None], ids=["FastAPI", "Flask", "text", "none"]
)
def test_what_is_not_the_tasks_of_an_application_is_refused(given: Any, mode: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^argument tasks: must be the Tasks\(\) of the appl"):
        testing(given, mode)


def undecorated() -> None: ...


@pytest.mark.parametrize(
    "given", [undecorated, "app.send", None], ids=["function", "name", "none"]
)
def test_box_is_asked_for_tasks_only(given: Any) -> None:
    tasks = Tasks()

    with testing(tasks, "record") as records, pytest.raises(DefinitionError, match="not a task"):
        records.pushed(given)
    with testing(tasks, "run") as box, pytest.raises(DefinitionError, match="not a task"):
        box.of(given)


def test_time_passes_by_a_timedelta_too() -> None:
    tasks = Tasks()
    send = tasks.task(name="app.send")(undecorated)

    with testing(tasks, "run") as box:
        send.options(delay=timedelta(hours=2)).push()
        assert box.advance(timedelta(hours=1)) == 0
        assert box.advance(timedelta(hours=1)) == 1


def test_pushes_are_recorded_with_the_arguments_that_the_handler_would_get() -> None:
    tasks = Tasks()

    @tasks.task(queue="mail")
    def send(user_id: int, *, when: timedelta | None = None) -> None: ...

    @tasks.task
    def other() -> None: ...

    with testing(tasks, "record") as box:
        send.options(delay=60).push(42)
        other.push()

    [record] = box.pushed(send)
    assert record.arguments == {"user_id": 42, "when": None}
    assert (record.task.queue, record.task.delay) == ("mail", 60)
    assert [record.name for record in box.all] == [send.name, other.name]


def test_key_is_recorded_once() -> None:
    tasks = Tasks()

    @tasks.task
    def send() -> None: ...

    with testing(tasks, "record") as box:
        pushed = [send.options(key="once").push() for _ in range(2)]

    assert [one.existing for one in pushed] == [False, True]
    assert len(box.pushed(send)) == 1
    box.clear()
    assert box.all == []


def test_recorded_push_is_checked_as_any_other() -> None:
    tasks = Tasks()

    @tasks.task
    def send(user_id: int) -> None: ...

    with testing(tasks, "record") as box, pytest.raises(ArgumentError, match="argument user_id"):
        send.push("x")  # type: ignore[arg-type]

    assert box.all == []


def test_recorded_task_has_no_outcome() -> None:
    tasks = Tasks()

    @tasks.task
    def send() -> None: ...

    with testing(tasks, "record"):
        pushed = send.push()
        with pytest.raises(NotFound, match="only records pushes"):
            pushed.refresh()


def test_callback_is_recorded_with_its_push_and_never_called() -> None:
    tasks = Tasks()

    @tasks.task(name="notify")
    def notify(ended: EndedTask) -> None: ...

    @tasks.task(on_dead=notify)
    def send() -> None: ...

    with testing(tasks, "record") as box:
        send.push()
        ended = EndedTask(**ENDED)
        notify.push(ended)

    assert [record.task.on_dead for record in box.pushed(send)] == ["/_poussetaches/notify"]
    assert [record.arguments for record in box.pushed(notify)] == [{"ended": ended}]


class Shop:
    """An application with many kinds of tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self.done: list[str] = []
        self.fails = 0

        @tasks.task(name="greet", queue="mail")
        def greet(name: str) -> str:
            self.done.append(f"{current_task().attempt} {name}")
            if self.fails:
                self.fails -= 1
                raise RuntimeError("the mail server is away")
            return f"hello {name}"

        @tasks.task(name="twice")
        def twice(name: str) -> None:
            greet.push(name)
            greet.options(delay=3600).push(name)

        @tasks.task(name="stubborn")
        def stubborn(after: float | None) -> None:
            self.done.append("stubborn")
            if after is None:
                raise GiveUp("never")
            raise RetryLater(after=after)

        @tasks.cron("0 6 * * *", name="report")
        def report() -> None:
            self.done.append("report")

        tasks.queue("mail", rate="1/s")
        self.greet, self.twice, self.stubborn, self.report = greet, twice, stubborn, report


def plain() -> Tasks:
    return Tasks()


def of_flask() -> Tasks:
    return FlaskTasks(Flask("shop"))


def of_fastapi() -> Tasks:
    return FastAPITasks(FastAPI())


@pytest.fixture(params=[plain, of_flask, of_fastapi])
def tasks(request: pytest.FixtureRequest) -> Tasks:
    made: Tasks = request.param()
    return made


@pytest.fixture
def shop(tasks: Tasks) -> Shop:
    return Shop(tasks)


@pytest.fixture
def box(tasks: Tasks, shop: Shop) -> Iterator[RunBox]:
    with testing(tasks, "run") as box:
        yield box


def test_nothing_runs_before_run_until_idle(box: RunBox, shop: Shop) -> None:
    pushed = shop.greet.push("Ada")

    assert (shop.done, pushed.refresh().state) == ([], "waiting")
    assert box.run_until_idle() == 1
    assert (shop.done, pushed.result(timeout=0)) == (["1 Ada"], "hello Ada")


def test_handlers_push_tasks_that_run_in_their_time(box: RunBox, shop: Shop) -> None:
    shop.twice.push("Ada")

    assert box.run_until_idle() == 2
    begun = box.now
    assert box.advance(minutes=59) == 0
    assert box.advance(minutes=1) == 1
    assert shop.done == ["1 Ada", "1 Ada"]
    assert box.now - begun == timedelta(hours=1)


def test_failed_task_is_tried_again_and_the_error_can_be_seen(box: RunBox, shop: Shop) -> None:
    shop.fails = 2
    pushed = shop.greet.push("Ada")

    box.run_until_idle()
    waiting = pushed.refresh()
    box.advance(hours=1)

    assert (waiting.state, waiting.last_error) == (
        "waiting",
        "RuntimeError: the mail server is away",
    )
    assert shop.done == ["1 Ada", "2 Ada", "3 Ada"]
    assert [str(error) for error in box.errors] == ["the mail server is away"] * 2
    assert pushed.refresh().state == "succeeded"


def test_rates_of_declared_queues_hold(box: RunBox, shop: Shop) -> None:
    for name in ("Ada", "Bob", "Cy"):
        shop.greet.push(name)

    box.run_until_idle()
    at_once = len(shop.done)
    box.advance(2)

    assert (at_once, len(shop.done)) == (1, 3)


def test_schedules_run_at_their_times(box: RunBox, shop: Shop) -> None:
    box.advance(days=3)

    assert shop.done == ["report"] * 3
    assert len(box.of(shop.report)) == 3


def test_task_that_gives_up_is_dead_at_once(box: RunBox, shop: Shop) -> None:
    shop.stubborn.push(None)

    box.advance(days=1)

    assert shop.done.count("stubborn") == 1
    assert [task.last_error for task in box.dead] == ["never"]
    assert [task.id for task in box.of(shop.stubborn)] == [task.id for task in box.dead]
    assert box.errors == []


def test_task_that_asks_for_time_gets_it(box: RunBox, shop: Shop) -> None:
    shop.stubborn.push(600.0)

    box.run_until_idle()
    box.advance(599)
    before = shop.done.count("stubborn")
    box.advance(1)

    assert (before, shop.done.count("stubborn")) == (1, 2)


def test_callbacks_run_and_are_tried_again_as_any_task(tasks: Tasks) -> None:
    told: list[tuple[str, int]] = []

    @tasks.task(name="notify", queue="ignored")
    def notify(ended: EndedTask) -> None:
        told.append((f"{ended.name} {ended.state}: {ended.error}", current_task().attempt))
        if current_task().attempt == 1:
            raise RuntimeError("the chat is away")

    @tasks.task(name="send", on_success=notify, on_dead=notify)
    def send(works: bool) -> str:
        if not works:
            raise GiveUp("no such user")
        return "sent"

    with testing(tasks, "run") as box:
        send.push(True)
        box.advance(hours=1)
        send.push(False)
        box.advance(hours=1)
        callbacks = box.of(notify)

    succeeded, died = "send succeeded: None", "send dead: no such user"
    assert told == [(succeeded, 1), (succeeded, 2), (died, 1), (died, 2)]
    assert [(task.queue, task.state) for task in callbacks] == [("callbacks", "succeeded")] * 2


def test_callback_of_a_queue_reads_the_result_of_the_ended_task(tasks: Tasks) -> None:
    results: list[object] = []

    @tasks.task(name="notify")
    async def notify(ended: EndedTask) -> None:
        results.append(await tasks.handle(ended.id).aresult())

    @tasks.task(name="send", queue="mail")
    def send() -> str:
        return "sent"

    tasks.queue("mail", on_success=notify)

    with testing(tasks, "run") as box:
        send.push()
        box.run_until_idle()

    assert results == ["sent"]


def test_base_urls_in_the_code_do_not_count_in_tests() -> None:
    tasks, done = Tasks(base_url="http://shop.example.com"), list[str]()
    tasks.queue("slow", base_url="http://slow.example.com")

    @tasks.task(name="notify", queue="slow")
    def notify(ended: EndedTask) -> None:
        done.append(ended.name)

    @tasks.task(name="send", on_success=notify)
    def send() -> None:
        done.append("send")

    with testing(tasks, "run") as box:
        send.push()
        send.options(queue="slow", on_success="").push()
        box.run_until_idle()

        assert len(box.of(notify)) == 1
    assert sorted(done) == ["send", "send", "send"]


def test_tasks_that_push_each_other_without_end_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "MOST_ATTEMPTS", 100)
    tasks = Tasks()

    @tasks.task
    def endless() -> None:
        endless.push()

    with testing(tasks, "run") as box:
        endless.push()
        with pytest.raises(TooManyAttempts):
            box.run_until_idle()


def test_every_box_begins_with_nothing(tasks: Tasks, shop: Shop) -> None:
    with testing(tasks, "run") as first:
        shop.greet.push("Ada")
        assert len(first.tasks()) == 1

    with testing(tasks, "run") as second:
        assert second.tasks() == []


def test_deliveries_are_signed_as_the_servers_are_whatever_the_virtual_time() -> None:
    app = Flask("shop")
    app.config["APPLICATION_ROOT"] = "/shop"
    tasks = FlaskTasks(app)
    mounted, signatures = app.wsgi_app, list[str]()

    def outside(environ: dict[str, str], start_response: Any) -> Any:
        signatures.append(environ["HTTP_POUSSETACHES_SIGNATURE"])
        return mounted(environ, start_response)

    app.wsgi_app = outside  # type: ignore[method-assign]  # as Flask documents it

    @tasks.task
    def send(user_id: int) -> None: ...

    with testing(tasks, "run") as box:
        send.options(delay=30 * DAY).push(42)
        box.advance(days=30)
        assert [task.state for task in box.of(send)] == ["succeeded"]

    assert [signature.split(",")[0] for signature in signatures] == ["sha256"]


async def test_asynchronous_code_pushes_and_waits(tasks: Tasks, shop: Shop) -> None:
    with testing(tasks, "run") as box:
        pushed = await shop.greet.apush("Ada")
        box.run_until_idle()
        assert await pushed.aresult(timeout=0) == "hello Ada"


def test_errors_are_seen_where_the_application_logs_nothing(box: RunBox, shop: Shop) -> None:
    shop.fails = 1
    shop.greet.push("Ada")

    logging.disable()
    try:
        box.run_until_idle()
    finally:
        logging.disable(logging.NOTSET)

    assert [str(error) for error in box.errors] == ["the mail server is away"]


def test_retries_come_at_the_same_times_in_every_run(tasks: Tasks, shop: Shop) -> None:
    def wait() -> timedelta:
        shop.fails = 1
        with testing(tasks, "run") as box:
            pushed = shop.greet.push("Ada")
            box.run_until_idle()
            run_at = pushed.refresh().run_at
            assert run_at is not None
            return run_at - box.now

    assert len({wait() for _ in range(3)}) == 1


async def test_wait_for_a_task_returns_at_once(box: RunBox, shop: Shop) -> None:
    pushed = shop.greet.push("Ada")

    assert pushed.wait(timeout=3600).state == "waiting"
    with pytest.raises(TimeoutError, match="its state is waiting"):
        await pushed.aresult(timeout=3600)


def test_handler_cannot_have_tasks_run(tasks: Tasks) -> None:
    @tasks.task(name="eager")
    def eager() -> None:
        run.run_until_idle()

    with testing(tasks, "run") as run:
        eager.push()
        run.run_until_idle()

    assert [str(error) for error in run.errors] == [
        "a handler cannot run tasks; call run_until_idle() or advance() from the test"
    ]


@pytest.mark.parametrize(
    "reason", [pytest.fail.Exception("enough"), KeyboardInterrupt()], ids=repr
)
def test_handler_that_interrupts_the_test_leaves_a_box_that_works(
    tasks: Tasks, reason: BaseException
) -> None:
    done = []

    @tasks.task(name="note")
    def note(text: str) -> None:
        if not text:
            raise reason
        done.append(text)

    with testing(tasks, "run") as box:
        empty = note.push("")
        late = note.push("late")
        with pytest.raises(type(reason)) as broken:
            box.run_until_idle()
        assert [it.refresh().last_error for it in (empty, late)] == [
            "the test was interrupted"
        ] * 2
        box.client.cancel(empty.id)
        box.advance(hours=1)

    assert broken.value is reason
    assert done == ["late"]


def test_handler_that_exits_fails_and_is_retried_as_by_a_real_server(tasks: Tasks) -> None:
    codes = [3]

    @tasks.task(name="leave")
    def leave() -> None:
        if codes:
            raise SystemExit(codes.pop())

    with testing(tasks, "run") as box:
        pushed = leave.push()
        box.run_until_idle()
        failed = pushed.refresh()
        box.advance(hours=1)

        assert (failed.state, failed.last_error) == ("waiting", "SystemExit: 3")
        assert pushed.refresh().state == "succeeded"


def test_server_of_a_test_ends_with_its_block(tasks: Tasks, shop: Shop) -> None:
    with testing(tasks, "run"):
        pushed = shop.greet.push("Ada")

    with pytest.raises(ClientError, match="was stopped at the end of its `with` block"):
        pushed.refresh()


def test_box_of_a_test_that_has_ended_says_so(tasks: Tasks) -> None:
    with testing(tasks, "run") as box:
        pass

    for use in (box.run_until_idle, lambda: box.advance(1), lambda: box.dead):
        with pytest.raises(ClientError, match="was stopped at the end of its `with` block"):
            use()


@pytest.mark.parametrize(
    "times", [{"seconds": -1}, {"seconds": "x"}, {"minutes": "1"}, {"days": -1}], ids=str
)
def test_time_that_cannot_pass_is_refused(box: RunBox, times: Any) -> None:
    before = box.now

    with pytest.raises(ArgumentError, match="is not allowed; use a number"):
        box.advance(**times)

    assert box.now == before


def test_client_of_a_test_does_not_wait(box: RunBox, shop: Shop) -> None:
    pushed = shop.greet.push("Ada")

    assert box.client.wait(pushed.id, timeout=3600).state == "waiting"
    with pytest.raises(ArgumentError, match="argument timeout"):
        box.client.wait(pushed.id, timeout="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, "x", -1])
def test_handle_needs_a_duration_to_wait(box: RunBox, shop: Shop, timeout: Any) -> None:
    pushed = shop.greet.push("Ada")

    for use in (pushed.wait, pushed.result):
        with pytest.raises(ArgumentError, match=f"argument timeout: {timeout!r} is not allowed"):
            use(timeout)


def test_url_elsewhere_is_not_called(box: RunBox) -> None:
    box.client.push("http://elsewhere.test/", retry={"max_attempts": 1})

    box.run_until_idle()

    [task] = box.dead
    assert task.last_error == (
        "tests send no requests outside; http://elsewhere.test/ was not called"
    )


@pytest.mark.parametrize(
    ("status", "asked", "wait"),
    [
        (503, "600", 600),
        (429, "Fri, 01 Jan 2100 00:00:00 GMT", 3600),  # no longer than max_retry_after
        (500, "600", 1),
        (503, "soon", 1),
    ],
)
def test_retry_after_means_what_it_means_to_the_server(
    status: int, asked: str, wait: float
) -> None:
    app = FastAPI()
    tasks = FastAPITasks(app)

    @app.post("/busy")
    def busy() -> Response:
        return Response(status_code=status, headers={"Retry-After": asked})

    with testing(tasks, "run") as box:
        pushed = box.client.push("/busy", retry={"min_backoff": 1, "jitter": 0})
        box.run_until_idle()
        run_at = box.client.get(pushed.id).run_at
        assert run_at is not None
        assert run_at - box.now == timedelta(seconds=wait)


def test_redirect_fails_with_the_same_error_as_on_the_server() -> None:
    app = FastAPI()
    tasks = FastAPITasks(app)

    @app.post("/old")
    def old() -> Response:
        return Response(status_code=307, headers={"Location": "/old/"})

    with testing(tasks, "run") as box:
        pushed = box.client.push("/old", retry={"max_attempts": 1})
        box.run_until_idle()
        error = box.client.get(pushed.id).last_error

    assert error is not None
    assert error.startswith("a redirect to /old/, and redirects are not followed")


def test_handler_has_the_context_of_its_flask_application() -> None:
    app = Flask("shop")
    tasks = FlaskTasks(app)

    @tasks.task
    def name() -> str:
        return current_app.name

    with testing(tasks, "run") as box:
        pushed = name.push()
        box.run_until_idle()
        assert pushed.result(timeout=0) == "shop"


def test_handler_has_what_the_lifespan_of_its_fastapi_application_made() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.greeting = "hello"
        yield

    app = FastAPI(lifespan=lifespan)
    tasks = FastAPITasks(app)

    @tasks.task
    async def greet(name: str) -> str:
        return f"{app.state.greeting} {name}"

    with TestClient(app), testing(tasks, "run") as box:
        pushed = greet.push("Ada")
        box.run_until_idle()
        assert pushed.result(timeout=0) == "hello Ada"


class TestUnderUnittest(unittest.TestCase):
    """Tests of an application by unittest."""

    def setUp(self) -> None:
        self.tasks = Tasks()
        self.shop = Shop(self.tasks)
        self.box = self.enterContext(testing(self.tasks, "run"))

    def test_task_runs(self) -> None:
        self.shop.greet.push("Ada")
        self.box.run_until_idle()
        self.assertEqual(self.shop.done, ["1 Ada"])


def test_progress_of_a_task_is_kept_with_its_attempt() -> None:
    app = Flask(__name__)
    tasks = FlaskTasks(app)

    @tasks.task
    def work() -> None:
        for done in range(1, 6):
            current_task().progress(done, 5, f"{done} of 5")

    with testing(tasks, "run") as box:
        handle = work.push()
        box.run_until_idle()
        [attempt] = handle.refresh().attempts

    assert attempt.progress is not None
    assert (attempt.progress.done, attempt.progress.note) == (5, "5 of 5")
