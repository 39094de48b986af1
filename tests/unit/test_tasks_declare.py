"""Declarations of queues and schedules: their content and their number."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.declaration_sender import (
    Background,
    DeclarationRefused,
    declare_until_done,
)
from poussetaches.client.errors import Busy, Conflict, InvalidRequest, NoAnswer, Refused
from poussetaches.client.results import DeclaredSchedules
from poussetaches.client.tasks import Tasks
from poussetaches.core.probe_answer import DeclarationStatus, Refusal
from poussetaches.core.queue_fields import EXAMPLES
from poussetaches.core.responses import RefusedSchedule
from tests.application import RecordingPusher, make_tasks


class RecordingServer:
    """Records declarations; refuses configured names and owners."""

    def __init__(self, refusals: Mapping[str, Exception] | None = None) -> None:
        self.queues: dict[str, dict[str, object]] = {}
        self.declarers: set[tuple[str, tuple[str, ...]]] = set()
        self.sets: list[tuple[str, int | None, Sequence[Mapping[str, object]]]] = []
        self.refusals = dict(refusals or {})

    def declare_queue(
        self, name: str, *, owner: str, modules: Sequence[str], **settings: object
    ) -> None:
        """Write a queue down, or refuse it."""
        self.declarers.add((owner, tuple(modules)))
        if name in self.refusals:
            raise self.refusals[name]
        self.queues[name] = settings

    def declare_schedules(
        self, owner: str, version: int | None, schedules: Sequence[Mapping[str, object]]
    ) -> DeclaredSchedules:
        """Write a set of schedules down, or refuse it or some of it."""
        if owner in self.refusals:
            raise self.refusals[owner]
        self.sets.append((owner, version, schedules))
        names = [str(schedule["name"]) for schedule in schedules]
        return DeclaredSchedules(
            (),
            tuple(
                RefusedSchedule(name, "task.url", str(self.refusals[name]))
                for name in names
                if name in self.refusals
            ),
        )


def refusal(kind: type[Refused], status: int, code: str) -> Refused:
    return kind(status, code=code, title="Refused", detail="because")


def test_queue_is_told_only_what_the_code_sets() -> None:
    tasks, server = make_tasks(), RecordingServer()
    tasks.queue("stripe", rate="2/s")
    tasks.queue("stripe", retry={"max_attempts": 3})
    tasks.queue(concurrency=2)

    tasks.declare(server)

    assert server.queues == {
        "stripe": {"rate": "2/s", "retry": {"max_attempts": 3}},
        "default": {"concurrency": 2},
    }
    assert server.sets == []


def test_schedules_are_told_as_one_set() -> None:
    tasks, server = make_tasks(), RecordingServer()

    @tasks.cron(
        "0 6 * * *",
        timezone="Europe/Paris",
        name="app.morning",
        queue="mail",
        max_attempts=3,
        misfire="skip",
        misfire_grace=60,
        overlap="allow",
    )
    def morning(size: int = 1) -> None: ...

    @tasks.cron("@hourly", name="app.hourly")
    async def hourly() -> None: ...

    tasks.declare(server)

    assert server.sets == [
        (
            "app",
            None,
            [
                {
                    "name": "app.morning",
                    "cron": "0 6 * * *",
                    "timezone": "Europe/Paris",
                    "task": {
                        "url": "/_poussetaches/app.morning",
                        "json": {},
                        "queue": "mail",
                        "retry": {"max_attempts": 3},
                    },
                    "misfire": "skip",
                    "misfire_grace": 60,
                    "overlap": "allow",
                },
                {
                    "name": "app.hourly",
                    "cron": "@hourly",
                    "timezone": "UTC",
                    "task": {"url": "/_poussetaches/app.hourly", "json": {}},
                },
            ],
        )
    ]


def test_application_with_a_name_declares_under_it() -> None:
    tasks = make_tasks(name="shop", version=7, base_url="http://127.0.0.1:5001")
    server = RecordingServer()
    tasks.queue("stripe", rate=2, base_url="http://other:5002")

    @tasks.task(queue="mail")
    def send() -> None: ...

    @tasks.cron("@daily", name="nightly")
    def nightly() -> None: ...

    tasks.declare(server)

    assert server.queues == {
        "shop.stripe": {"rate": 2, "base_url": "http://other:5002"},
        "shop.mail": {"base_url": "http://127.0.0.1:5001"},
        "shop": {"base_url": "http://127.0.0.1:5001"},
    }
    [(owner, version, [schedule])] = server.sets
    assert (owner, version, schedule["name"]) == ("shop", 7, "shop.nightly")
    assert schedule["task"] == {
        "url": "/_poussetaches/nightly",
        "json": {},
        "queue": "shop",
        "labels": {"app": "shop"},
    }


def test_last_schedule_is_taken_away_where_the_application_has_a_name() -> None:
    server = RecordingServer()

    make_tasks(name="shop").declare(server)

    assert server.sets == [("shop", None, [])]


def test_schedule_needs_a_task_without_required_arguments() -> None:
    with pytest.raises(DefinitionError, match=r"argument size: @tasks\.cron passes no arg"):

        @make_tasks().cron("@daily")
        def handler(size: int) -> None: ...


@pytest.mark.parametrize(
    ("expression", "timezone", "message"),
    [
        ("0 25 * * *", "UTC", "cron: '25' is not an hour; write 0 to 23"),
        ("*/90 * * * *", "UTC", "must be 1 to 60; write @every 90m"),
        ("@daily", "Europe/Pari", "timezone: 'Europe/Pari' is not the name of a time zone"),
    ],
)
def test_schedule_that_the_server_would_refuse_is_refused_where_it_is_written(
    expression: str, timezone: str, message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make_tasks().cron(expression, timezone=timezone)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "rate",
            "2/sec",
            "must be a number from 0.000001 to 1,000,000, or a text like"
            ' "2/s", "30/min" or "100/h"; for example rate=\'2/s\'',
        ),
        ("rate", "0/s", "from 0.000001 to 1,000,000 a second"),
        ("rate", -1, "a number from 0.000001 to 1,000,000"),
        ("rate", float("nan"), "JSON has no nan"),
        ("burst", 0, "burst=0 is not allowed: must be a whole number from 1 to 1,000,000"),
        ("burst", 1.5, "must be a whole number from 1 to 1,000,000; for example burst=5"),
        ("concurrency", "4", "must be a whole number from 1 to 10,000"),
        ("origin_concurrency", 0, "must be a whole number from 1 to 10,000"),
        ("timeout", 0, "must be a number from 0.1 to 86,400"),
        ("retry", 3, "must be an object with some of max_attempts, min_backoff"),
        ("retry", {"max_attempts": 0}, "retry.max_attempts must be a whole number from 1 to 1,0"),
        ("retry", {"tries": 3}, "retry.tries is unknown"),
        ("retry", {"dead_on": [99]}, "retry.dead_on[0] must be a whole number from 100 to 599"),
        ("retry", {"dead_on": ["4x"]}, 'from 100 to 599, or a class of statuses like "2xx"'),
        ("retry", {"min_backoff": 9, "max_backoff": 3}, "must not be longer than max_backoff"),
        ("base_url", "shop:80", "must begin with http:// or https://; for example base_url='http"),
        ("base_url", "http://shop?a=1", "must have no query and no fragment"),
        (
            "on_success",
            "done",
            "must begin with /, http:// or https://; for example on_success='/d",
        ),
        ("on_dead", "http://a b/", "contains a space"),
        ("keep_succeeded", {"count": -1}, "keep_succeeded.count must be a whole number from 0"),
        ("keep_dead", {"age": "a day"}, "keep_dead.age must be a number from 0"),
    ],
)
def test_queue_that_the_server_would_refuse_is_refused_where_it_is_written(
    setting: str, value: Any, message: str
) -> None:
    tasks = make_tasks()

    with pytest.raises(DefinitionError) as caught:
        tasks.queue("mail", **{setting: value})

    assert str(caught.value).startswith(f"queue 'mail': {setting}={value!r} is not allowed: ")
    assert message in str(caught.value)
    assert tasks.queues == {}


@pytest.mark.parametrize(("setting", "example"), EXAMPLES.items())
def test_example_in_a_refusal_is_allowed(setting: str, example: Any) -> None:
    make_tasks().queue(**{setting: example})


def test_name_and_base_url_of_queues_are_checked() -> None:
    tasks = make_tasks()

    with pytest.raises(DefinitionError, match="'a b' is not a valid name"):
        tasks.queue("a b")
    with pytest.raises(DefinitionError, match=r"base_url='shop'.*must begin with http"):
        make_tasks(base_url="shop")


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ("misfire", "never", "must be one of all, once, skip; for example misfire='skip'"),
        ("misfire_grace", -1, "must be a number from 0 to 315,360,000"),
        ("overlap", "queue", "must be one of allow, skip"),
    ],
)
def test_rule_of_runs_that_the_server_would_refuse_is_refused(
    rule: str, value: Any, message: str
) -> None:
    tasks = make_tasks()

    with pytest.raises(DefinitionError) as caught:
        tasks.cron("@daily", name="nightly", **{rule: value})(lambda: None)

    assert f"schedule 'nightly': {rule}={value!r} is not allowed: {message}" in str(caught.value)
    assert tasks.schedules == {}


def test_schedule_needs_a_name_that_the_server_allows() -> None:
    with pytest.raises(DefinitionError, match="'_private' is not a valid name"):
        make_tasks().cron("@daily", name="_private")(lambda: None)


def test_older_release_leaves_the_schedules_of_a_newer_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = make_tasks(name="shop", version=6)
    server = RecordingServer({"shop": refusal(Conflict, 409, "older-version")})

    with caplog.at_level(logging.INFO):
        tasks.declare(server)

    assert "schedules not declared: because" in caplog.text


def test_what_the_server_refuses_does_not_keep_it_from_the_rest() -> None:
    tasks = make_tasks(name="shop")
    server = RecordingServer(
        {
            "shop.mail": refusal(InvalidRequest, 403, "target-not-allowed"),
            "shop.nightly": Exception("belongs to another"),
        }
    )
    tasks.queue("mail", base_url="http://elsewhere.test")
    tasks.queue("sms", rate=1)
    for name in ("nightly", "hourly"):
        tasks.cron("@daily", name=name)(lambda: None)

    with pytest.raises(DeclarationRefused) as caught:
        tasks.declare(server)

    assert caught.value.refused == (
        Refusal("queue", "shop.mail", "because"),
        Refusal("schedule", "shop.nightly", "task.url: belongs to another"),
    )
    assert list(server.queues) == ["shop.sms"]
    assert len(server.sets) == 1


@pytest.mark.parametrize(
    "error",
    [refusal(Conflict, 409, "owned-by-another"), refusal(InvalidRequest, 422, "invalid-schedule")],
)
def test_older_server_that_refuses_the_whole_set_is_told_of(error: Exception) -> None:
    tasks, server = make_tasks(name="shop"), RecordingServer({"shop": error})
    tasks.queue("mail", rate=1)

    with pytest.raises(DeclarationRefused, match="schedules of 'shop': because"):
        tasks.declare(server)

    assert list(server.queues) == ["shop.mail"]


def test_nothing_more_is_declared_to_the_server_of_another_application() -> None:
    error = refusal(Conflict, 409, "owned-by-another")
    tasks, server = make_tasks(), RecordingServer({"mail": error})
    tasks.queue("mail", rate=1)
    tasks.queue("sms", rate=1)
    tasks.cron("@daily", name="shop.nightly")(lambda: None)

    with pytest.raises(DeclarationRefused, match="not declared: queue 'mail': because"):
        tasks.declare(server)

    assert (server.queues, server.sets) == ({}, [])


def test_queues_are_declared_with_the_owner_and_the_modules_of_its_tasks() -> None:
    tasks, server = make_tasks(), RecordingServer()
    tasks.queue("mail", rate=1)
    for name in ("web.a", "shop.b", "shop.c.d", "report"):
        tasks.task(name=name)(lambda: None)

    tasks.declare(server)

    assert server.declarers == {("app", ("shop", "web"))}


def test_refusal_without_a_detail_is_named_by_its_status() -> None:
    error = Conflict(409, title="answered in the server's place")
    tasks, server = make_tasks(), RecordingServer({"mail": error})
    tasks.queue("mail", rate=1)

    with pytest.raises(DeclarationRefused, match="queue 'mail': 409 answered in the server's"):
        tasks.declare(server)


def test_declaration_that_the_server_cannot_store_is_repeated_as_a_whole() -> None:
    tasks, server = make_tasks(), RecordingServer({"mail": refusal(Busy, 503, "busy")})
    tasks.queue("mail", rate=1)

    with pytest.raises(Busy):
        tasks.declare(server)


class Script:
    """Raises its errors one after another, and then does nothing."""

    def __init__(self, *errors: Exception) -> None:
        self.calls = 0
        self._errors = list(errors)

    def __call__(self) -> None:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)


def test_declaration_is_repeated_until_the_server_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits: list[float] = []
    script = Script(*[NoAnswer("away")] * 7, refusal(Refused, 401, "unauthorized"))

    with caplog.at_level(logging.INFO):
        declare_until_done(script, sleep=waits.append)

    assert script.calls == 9
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert caplog.messages[0] == "queues and schedules not declared yet: away; retrying in 1 s"
    assert caplog.messages[-1] == "queues and schedules declared"


@pytest.mark.parametrize(
    ("error", "messages", "status"),
    [
        pytest.param(
            DeclarationRefused([Refusal("queue", "mail", "no"), Refusal("schedule", "a", "no")]),
            ["not declared: queue 'mail': no", "not declared: schedule 'a': no"],
            DeclarationStatus(
                "done", None, (Refusal("queue", "mail", "no"), Refusal("schedule", "a", "no"))
            ),
            id="server",
        ),
        pytest.param(
            ArgumentError("size", "it is required"),
            ["queues and schedules not declared: argument size: it is required"],
            DeclarationStatus("failing", "argument size: it is required"),
            id="code",
        ),
    ],
)
def test_declaration_that_is_refused_for_good_is_not_repeated(
    error: Exception,
    messages: list[str],
    status: DeclarationStatus,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script, waits, statuses = Script(error), list[float](), list[DeclarationStatus]()

    declare_until_done(script, sleep=waits.append, note=statuses.append)

    assert (script.calls, waits) == (1, [])
    assert caplog.messages == messages
    assert statuses == [status]


def test_status_of_the_background_follows_its_declaration() -> None:
    script, process_ids, seen = Script(NoAnswer("away")), [1], list[DeclarationStatus]()
    background = Background(
        script,
        sleep=lambda _: seen.append(background.status),
        process_id=lambda: process_ids[-1],
    )

    before = background.status
    started(background)

    assert before == DeclarationStatus("none")
    assert seen == [DeclarationStatus("failing", "away")]
    assert background.status == DeclarationStatus("done")
    process_ids.append(2)  # as after a fork
    assert background.status == DeclarationStatus("none")


def started(background: Background) -> bool:
    """Return whether a new declaration began, and wait for its end."""
    thread = background.start()
    if thread is not None:
        thread.join()
    return thread is not None


def test_background_declares_once_in_each_process() -> None:
    script, process_ids = Script(), [1]
    background = Background(script, sleep=lambda _: None, process_id=lambda: process_ids[-1])

    first = [started(background), started(background)]
    process_ids.append(2)  # as after a fork

    assert first == [True, False]
    assert started(background)
    assert script.calls == 2


class Unconnected(Tasks):
    """Tasks whose declaration goes to a fake."""

    def __init__(self, *, environ: Mapping[str, str]) -> None:
        super().__init__(environ=environ)
        self.server = RecordingServer()

    def declare(self, client: object) -> None:
        super().declare(self.server)


@pytest.mark.parametrize(("mode", "begins"), [("push", True), ("immediate", False)])
def test_nothing_is_declared_without_a_server(mode: str, begins: bool) -> None:
    tasks = Unconnected(environ={"POUSSETACHES_MODE": mode})
    tasks.queue("mail", rate=1)

    with tasks.use(RecordingPusher()):
        assert tasks.declare_in_background() is None
    thread = tasks.declare_in_background()
    if thread is not None:
        thread.join()

    assert (thread is not None) is begins
    assert tasks.server.queues == ({"mail": {"rate": 1}} if begins else {})


def test_one_task_may_have_several_schedules() -> None:
    tasks = make_tasks(name="shop")

    @tasks.task(name="report", queue="slow")
    def report(region: str, days: int = 1) -> None: ...

    tasks.schedule("report-eu", report, cron="0 6 * * *", arguments={"region": "eu"})
    tasks.schedule(
        "report-us",
        report.options(priority=5),
        cron="0 6 * * mon",
        timezone="America/New_York",
        arguments={"region": "us", "days": 7},
        overlap="allow",
    )
    eu, us = tasks.declaration().schedules

    assert (eu["name"], eu["cron"], eu["timezone"]) == ("shop.report-eu", "0 6 * * *", "UTC")
    assert (us["name"], us["timezone"]) == ("shop.report-us", "America/New_York")
    assert (us["overlap"], "overlap" in eu) == ("allow", False)
    pushes = [cast("dict[str, object]", each["task"]) for each in (eu, us)]
    assert [push["json"] for push in pushes] == [{"region": "eu"}, {"region": "us", "days": 7}]
    assert [push["queue"] for push in pushes] == ["shop.slow"] * 2
    assert pushes[1]["priority"] == 5


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("a b", {}, "is not a valid name"),
        ("other", {"cron": "0 25 * * *"}, "25"),
        ("other", {"timezone": "Mars"}, "Mars"),
        ("other", {"arguments": {"region": 1}}, "schedule other: task tests"),
        ("other", {"arguments": {}}, "argument region: it is required"),
        ("other", {"arguments": {"area": "eu"}}, "argument area"),
        ("other", {"arguments": ("eu",)}, "schedule 'other': arguments=('eu',) is not allowed: g"),
        (
            "other",
            {"arguments": "eu"},
            "schedule 'other': arguments='eu' is not allowed: give them",
        ),
        (
            "other",
            {"timezon": "UTC"},
            "schedule 'other': unknown option 'timezon'; the options are",
        ),
        ("taken", {"cron": "0 7 * * *"}, "the schedule 'taken' is already defined"),
    ],
)
def test_schedule_that_cannot_be_declared_is_refused_where_it_is_written(
    name: str, given: dict[str, Any], reason: str
) -> None:
    tasks = make_tasks()

    @tasks.task
    def report(region: str) -> None: ...

    right: dict[str, Any] = {"cron": "0 6 * * *", "arguments": {"region": "eu"}}
    tasks.schedule("taken", report, **right)

    with pytest.raises(DefinitionError, match=re.escape(reason)):
        tasks.schedule(name, report, **{**right, **given})


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def plain() -> None: ...


@pytest.mark.parametrize(
    "given", [plain, "plain", None, 7], ids=["function", "name", "nothing", "number"]
)
def test_schedule_of_what_is_no_task_is_refused(given: Any) -> None:
    tasks = make_tasks()

    with pytest.raises(DefinitionError) as refused:
        tasks.schedule("nightly", given, cron="@daily")

    assert str(refused.value) == (
        f"schedule 'nightly': {given!r} is not a task; decorate the function with @tasks.task"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delay", 0),
        ("run_at", NOON),
        ("expires_at", NOON),
        ("key", "k"),
        ("unique", "u"),
        ("on_conflict", "keep"),
    ],
)
def test_option_of_one_push_is_refused_where_a_schedule_is_written(
    option: str, value: object
) -> None:
    tasks = make_tasks()
    report = tasks.task(name="app.report")(plain)
    given: dict[str, Any] = {"unique": "u"} if option == "on_conflict" else {}
    given[option] = value

    with pytest.raises(DefinitionError, match="cannot be set in a schedule, where it would be"):
        tasks.schedule("nightly", report.options(**given), cron="@daily")

    assert tasks.schedules == {}


def test_unknown_setting_of_a_queue_is_refused_by_name() -> None:
    tasks = make_tasks()
    unknown: dict[str, Any] = {"slots": 2}

    with pytest.raises(DefinitionError) as refused:
        tasks.queue("mail", **unknown)

    assert str(refused.value).startswith(
        "queue 'mail': unknown setting 'slots'; the settings are rate, burst, concurrency,"
    )
    assert tasks.queues == {}


def test_schedule_of_another_task_or_with_other_options_needs_another_name() -> None:
    tasks = make_tasks()

    @tasks.task
    def first() -> None: ...

    @tasks.task
    def second() -> None: ...

    tasks.schedule("nightly", first.options(queue="slow"), cron="0 6 * * *")
    tasks.schedule("nightly", first.options(queue="slow"), cron="0 6 * * *")

    for another in (first, second, first.options(queue="fast")):
        with pytest.raises(DefinitionError, match="the schedule 'nightly' is already defined"):
            tasks.schedule("nightly", another, cron="0 6 * * *")


def test_schedule_may_be_written_twice_when_it_says_the_same() -> None:
    tasks = make_tasks()

    @tasks.task
    def report() -> None: ...

    for _ in range(2):
        tasks.schedule("nightly", report, cron="0 6 * * *")

    assert list(tasks.schedules) == ["nightly"]
