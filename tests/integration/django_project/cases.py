"""The project's tests, by Django's own runner."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.http import HttpResponse
from django.test import (
    AsyncClient,
    Client,
    RequestFactory,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.utils import translation

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.client import Client as Poussetaches
from poussetaches.client.delivery_auth import MAX_REFUSED_BODY, PIECE
from poussetaches.client.errors import InvalidRequest, NoAnswer, PushFailed
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo
from poussetaches.django import RetryLater, Tasks, push_on_commit
from poussetaches.django.checks import check_middleware, check_names, check_settings
from poussetaches.django.management.commands.poussetaches_dev import command_line
from poussetaches.django.project_tasks import registry
from poussetaches.testing import testing
from tests.application import RecordingPusher, delivery, signed
from tests.integration.django_project.tasks import double, greet, tasks
from tests.integration.strangers import LENGTH, Endless, little_memory

HEADERS = {"Poussetaches-Auth-Key": "the key", "Poussetaches-Task-ID": "1"}


class Away:
    """A server that accepts nothing."""

    def __init__(self) -> None:
        self.calls = 0

    def push(self, task: NewTask) -> PushedTask:
        raise PushFailed([task], NoAnswer("it is away"))

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        self.calls += 1
        raise PushFailed(tasks, NoAnswer("it is away"))

    async def apush(self, task: NewTask) -> PushedTask:
        return self.push(task)

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        raise NoAnswer("it is away")

    def get(self, id: str) -> TaskInfo:
        raise NoAnswer("it is away")

    def wait(self, id: str, timeout: float) -> TaskInfo:
        return self.get(id)

    async def aget(self, id: str) -> TaskInfo:
        return self.get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # the seam
        return self.get(id)


class Strict(RecordingPusher):
    """A server that refuses a priority, and every batch with it."""

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        if any(task.priority for task in tasks):
            raise InvalidRequest(422, code="invalid-task", title="", detail="priority: too high")
        super().push_all(tasks)


class ReceiverTests(TestCase):
    """The receiver accepts deliveries, and nothing else."""

    def deliver(self, name: str, body: str = "{}", **headers: str) -> HttpResponse:
        client = Client(enforce_csrf_checks=True)
        answer: Any = client.post(
            f"/_poussetaches/{name}",
            body,
            content_type="application/json",
            headers={**HEADERS, **headers},
        )
        found: HttpResponse = answer
        return found

    def test_delivery_passes_csrf_https_hosts_and_login(self) -> None:
        answer = self.deliver("double", '{"number": 21}')
        self.assertEqual((answer.status_code, answer.content), (200, b"42"))

    def test_everything_else_does_not(self) -> None:
        client = Client(enforce_csrf_checks=True)
        self.assertEqual(client.get("/", headers={"host": "evil.example"}).status_code, 400)
        self.assertEqual(client.get("/", headers={"host": "shop.example"}).status_code, 301)

    def test_nothing_is_declared_by_the_requests_of_a_test(self) -> None:
        self.deliver("count")
        names = [thread.name for thread in threading.enumerate()]
        self.assertNotIn("poussetaches-declare", names)

    def test_request_without_the_key_is_refused(self) -> None:
        self.assertEqual(Client().post("/_poussetaches/double").status_code, 401)

    def test_empty_key_lets_nobody_in(self) -> None:
        with override_settings(POUSSETACHES={"AUTH_KEY": ""}):
            self.assertEqual(Client().post("/_poussetaches/double").status_code, 503)

    def test_handler_uses_the_database(self) -> None:
        user = User.objects.create(username="ada")
        answer = self.deliver("greet", f'{{"user_id": {user.pk}}}')
        self.assertEqual(answer.content, b'"hello ada"')

    def test_asynchronous_handler_is_run(self) -> None:
        self.assertEqual(self.deliver("count").content, b"0")

    async def test_asynchronous_stack_delivers_too(self) -> None:
        client = AsyncClient()
        for name, body, expected in (("double", '{"number": 2}', b"4"), ("count", "{}", b"0")):
            answer: Any = await client.post(
                f"/_poussetaches/{name}", body, content_type="application/json", headers=HEADERS
            )
            self.assertEqual(answer.content, expected)

    def test_wait_that_a_handler_asks_for_is_no_error_of_the_project(self) -> None:
        fresh = Tasks()
        self.addCleanup(registry.remove, fresh)

        @fresh.task(name="later")
        def later() -> None:
            raise RetryLater(after=60)

        with self.assertNoLogs("django.request", "WARNING"):
            self.assertEqual(self.deliver("later").status_code, 503)

    def test_task_that_fails_is_an_error_of_the_project(self) -> None:
        fresh = Tasks()
        self.addCleanup(registry.remove, fresh)

        @fresh.task(name="fails")
        def fails() -> None:
            raise ValueError

        with self.assertLogs("django.request", "ERROR"):
            self.assertEqual(self.deliver("fails").status_code, 500)

    def test_second_set_of_tasks_at_the_same_path_is_found(self) -> None:
        other = Tasks(name="other")
        self.addCleanup(registry.remove, other)

        @other.task(name="only_there")
        def only_there() -> str:
            return "there"

        self.assertEqual(self.deliver("only_there").content, b'"there"')


SECRET = "a secret of twenty-four bytes"
SIGNING = {"SIGNING_SECRET": SECRET}


class SignatureTests(SimpleTestCase):
    """Signed deliveries, and unauthenticated requests in their place."""

    def deliver(self) -> int:
        sent = delivery("double", {"number": 21})
        sent = signed(replace(sent, query="x=%41"), SECRET, at=time.time(), prefix="/shop")
        return (
            Client()
            .generic(
                "POST",
                sent.target,
                sent.body,
                content_type="application/json",
                headers=dict(sent.headers),
            )
            .status_code
        )

    def test_path_is_signed_with_the_prefix_that_it_was_sent_with(self) -> None:
        with override_settings(POUSSETACHES=SIGNING):
            self.assertEqual(self.deliver(), 401)
        with override_settings(POUSSETACHES=SIGNING, FORCE_SCRIPT_NAME="/shop"):
            self.assertEqual(self.deliver(), 200)
        with override_settings(POUSSETACHES={**SIGNING, "PUBLIC_PREFIX": "/shop"}):
            self.assertEqual(self.deliver(), 200)
            self.assertEqual(list(check_settings()), [])

    def test_body_of_a_stranger_is_dropped_as_it_comes(self) -> None:
        body = Endless()
        environ = {
            **RequestFactory().post("/_poussetaches/double").environ,
            "CONTENT_LENGTH": str(LENGTH),
            "wsgi.input": body,
        }
        with override_settings(POUSSETACHES=SIGNING):
            WSGIHandler()(environ, start_response)
            body.count = 0
            with little_memory():
                answer = WSGIHandler()(environ, start_response)

        self.assertEqual(answer.status_code, 401)
        self.assertLessEqual(body.count, MAX_REFUSED_BODY + PIECE)


def start_response(*_: object) -> Callable[[bytes], object]:
    """Record the head of a response."""
    return lambda _: None


class CommitTests(TestCase):
    """push_on_commit within a TestCase, which never commits."""

    def test_function_that_is_not_a_task_is_refused(self) -> None:
        function: Any = len

        with self.assertRaisesMessage(DefinitionError, "push_on_commit: <built-in function len>"):
            push_on_commit(function)

    def test_push_of_a_transaction_that_is_rolled_back_is_none(self) -> None:
        with testing(tasks, "record") as box:
            try:
                with transaction.atomic():
                    push_on_commit(double)(1)
                    raise ValueError
            except ValueError:
                push_on_commit(double)(2)
            pushed = box.pushed(double)

        self.assertEqual([record.arguments for record in pushed], [{"number": 2}])

    def test_push_waits_for_the_end_of_its_transaction(self) -> None:
        with testing(tasks, "record") as box:
            with transaction.atomic():
                push_on_commit(double.options(delay=60))(1)
                within = box.all
            after = box.all

        self.assertEqual((len(within), len(after)), (0, 1))
        self.assertEqual(after[0].task.delay, 60)

    def test_task_runs_and_sees_what_the_test_wrote(self) -> None:
        with testing(tasks, "run") as box:
            with transaction.atomic():
                user = User.objects.create(username="ada")
                push_on_commit(greet)(user.pk)
            box.run_until_idle()
            [task] = box.of(greet)

        self.assertEqual(task.state, "succeeded")

    def test_task_that_a_handler_pushes_on_commit_runs_in_the_same_go(self) -> None:
        fresh = Tasks()
        self.addCleanup(registry.remove, fresh)

        @fresh.task(name="second")
        def second() -> None: ...

        @fresh.task(name="first")
        def first() -> None:
            with transaction.atomic():
                push_on_commit(second)()

        with testing(fresh, "run") as box:
            push_on_commit(first)()
            self.assertEqual(box.run_until_idle(), 2)
            self.assertEqual([task.state for task in box.of(second)], ["succeeded"])

    def test_argument_that_does_not_fit_is_refused_at_the_call(self) -> None:
        with self.assertRaises(ArgumentError):
            push_on_commit(double)("x")  # type: ignore[arg-type]

    def test_pushes_are_recorded_also_when_they_are_asked_for_after_the_block(self) -> None:
        with testing(tasks, "record") as box:
            push_on_commit(double)(1)

        self.assertEqual([record.arguments for record in box.pushed(double)], [{"number": 1}])

    def test_callback_that_is_called_after_its_test_reaches_no_server(self) -> None:
        with tasks.use(server := Away()):
            with (
                self.captureOnCommitCallbacks() as callbacks,
                testing(tasks, "record") as box,
            ):
                push_on_commit(double)(1)
            for callback in callbacks:
                callback()

        self.assertEqual((server.calls, len(box.pushed(double))), (0, 1))

    def test_callback_that_django_captures_and_calls_pushes_once(self) -> None:
        with testing(tasks, "run") as box:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                push_on_commit(double)(1)
                push_on_commit(double)(2)
            box.run_until_idle()

            self.assertEqual((len(callbacks), len(box.of(double))), (2, 2))

    def test_task_function_pushes_on_commit_by_itself(self) -> None:
        with testing(tasks, "record") as box:
            with transaction.atomic():
                double.push_on_commit(1)
                double.options(delay=60).push_on_commit(2)
            pushed = box.pushed(double)

        self.assertEqual([record.arguments["number"] for record in pushed], [1, 2])
        self.assertEqual([record.task.delay for record in pushed], [None, 60])


class FailedCommitTests(TransactionTestCase):
    """push_on_commit with real commits, while the server is unreachable."""

    def test_push_that_fails_is_logged_without_its_arguments(self) -> None:
        logged = self.assertLogs("poussetaches.django", "ERROR")
        with tasks.use(Away()), logged as logs, transaction.atomic():
            push_on_commit(double)(123456)
        [line] = logs.output
        self.assertIn("/_poussetaches/double with 17 bytes of arguments was not pushed", line)
        self.assertNotIn("123456", line)

    def test_push_that_fails_is_raised_on_demand(self) -> None:
        with tasks.use(Away()), self.assertRaises(PushFailed), transaction.atomic():
            push_on_commit(double, on_error="raise")(1)

    def test_unknown_option_of_push_on_commit_is_refused(self) -> None:
        wrong: Any = {"on_error": "rais"}
        with self.assertRaisesRegex(DefinitionError, "on_error='rais' is not allowed: use 'log'"):
            push_on_commit(double, **wrong)
        with self.assertRaisesRegex(DefinitionError, "using='other' is not a database: use 'def"):
            push_on_commit(double, using="other")

    def test_pushes_of_a_commit_are_one_batch(self) -> None:
        logged = self.assertLogs("poussetaches.django", "ERROR")
        with tasks.use(away := Away()), logged as logs, transaction.atomic():
            for number in range(20):
                push_on_commit(double)(number)

        self.assertEqual((away.calls, len(logs.output)), (1, 20))

    def test_savepoints_share_the_outage_of_their_commit(self) -> None:
        logged = self.assertLogs("poussetaches.django", "ERROR")
        with tasks.use(away := Away()), logged as logs, transaction.atomic():
            for number in range(5):
                with transaction.atomic():
                    push_on_commit(double)(number)

        self.assertEqual((away.calls, len(logs.output)), (1, 5))

    def test_savepoint_that_is_rolled_back_pushes_nothing(self) -> None:
        with testing(tasks, "record") as box, transaction.atomic():
            push_on_commit(double)(1)
            with suppress(ValueError), transaction.atomic():
                push_on_commit(double)(2)
                raise ValueError
            push_on_commit(double)(3)

        arguments = [record.arguments["number"] for record in box.pushed(double)]
        self.assertEqual(arguments, [1, 3])

    def test_refused_task_does_not_keep_the_others_of_its_commit(self) -> None:
        with (
            tasks.use(strict := Strict()),
            self.assertLogs("poussetaches.django", "ERROR") as logs,
            transaction.atomic(),
        ):
            push_on_commit(double)(1)
            push_on_commit(double.options(priority=100))(2)
            push_on_commit(double)(3)

        self.assertEqual([task.json for task in strict.pushed], [{"number": 1}, {"number": 3}])
        self.assertEqual(len(logs.output), 1)

    def test_push_without_a_transaction_is_made_at_once(self) -> None:
        with testing(tasks, "record") as box:
            push_on_commit(double)(1)
            self.assertEqual(len(box.pushed(double)), 1)


class ProjectTests(SimpleTestCase):
    """Settings, checks and commands."""

    def test_name_of_the_settings_sets_the_project_apart(self) -> None:
        self.assertEqual(tasks.name, "shop")

    def test_check_wants_the_middleware_first(self) -> None:
        self.assertEqual(list(check_middleware()), [])
        with override_settings(MIDDLEWARE=["another", "poussetaches.django.Middleware"]):
            self.assertEqual([error.id for error in check_middleware()], ["poussetaches.E001"])
        with override_settings(MIDDLEWARE=[]):
            [error] = check_middleware()
        self.assertIn("is missing in MIDDLEWARE", error.msg)
        self.assertIn("add it at the top", str(error.hint))

    def test_check_tells_of_two_sets_of_tasks_with_one_name(self) -> None:
        self.assertEqual(list(check_names()), [])
        for _ in range(2):
            self.addCleanup(registry.remove, Tasks(name="twice"))
        self.assertEqual([error.msg for error in check_names()], ["2 Tasks() are 'twice'"])

    def test_check_tells_of_settings_that_nothing_reads(self) -> None:
        self.assertEqual(list(check_settings()), [])
        with override_settings(POUSSETACHES={"AUTHKEY": "x", "URL": 8000}):
            self.assertEqual(
                [error.msg for error in check_settings()],
                [
                    "POUSSETACHES has no setting 'AUTHKEY'; did you mean 'AUTH_KEY'?",
                    "POUSSETACHES['URL'] is not a string",
                ],
            )
        with override_settings(POUSSETACHES="http://localhost:7991"):
            self.assertEqual(
                [error.msg for error in check_settings()], ["POUSSETACHES is not a dictionary"]
            )

    def test_handlers_have_the_language_of_the_project(self) -> None:
        @tasks.task(name="language")
        def language() -> str:
            return translation.get_language() or ""

        self.addCleanup(translation.activate, translation.get_language())
        translation.activate("fr")
        self.assertEqual(self.deliver_language(), b'"en-us"')
        self.assertEqual(translation.get_language(), "fr")

    def deliver_language(self) -> bytes:
        answer = Client().post(
            "/_poussetaches/language", "{}", "application/json", headers=HEADERS
        )
        content: bytes = answer.content
        return content

    def test_immediate_mode_runs_handlers_at_once(self) -> None:
        with override_settings(POUSSETACHES={"MODE": "immediate"}):
            fresh = Tasks()
            self.addCleanup(registry.remove, fresh)

            @fresh.task
            def triple(number: int) -> int:
                return 3 * number

            self.assertEqual(triple.push(3).result(timeout=0), 9)

    def test_command_declares_for_all(self) -> None:
        with testing(tasks, "run") as box:
            declared = told(box.client)
            self.addCleanup(registry.remove, declared)
            out = io.StringIO()
            registry.remove(tasks)
            try:
                call_command("poussetaches_sync", stdout=out)
            finally:
                registry.insert(0, tasks)
            names = [schedule.name for schedule in box.client.schedules()]
        self.assertEqual(out.getvalue(), "declared 1 queue and 1 schedule of told\n")
        self.assertIn("told.report", names)

    def test_command_says_what_is_wrong(self) -> None:
        # No process listens on port 9.
        lost = Tasks(name="lost", url="http://127.0.0.1:9")
        lost.queue("mail", rate="2/s")
        registry.insert(0, registry.pop())
        self.addCleanup(registry.remove, lost)
        with self.assertRaisesMessage(CommandError, "127.0.0.1:9"):
            call_command("poussetaches_sync")

    def test_development_server_is_run_with_the_sidecar(self) -> None:
        # These tests are started by `python -m django`.
        python = sys.executable
        server = [python, "-m", "django", "runserver", "8080"]
        self.assertEqual(
            command_line(["8080"]), [python, "-m", "poussetaches", "run", "--", *server]
        )


def told(client: Poussetaches) -> Tasks:
    """Return tasks with a queue and a schedule to declare."""
    tasks = Tasks(name="told", client=client)
    tasks.queue("mail", rate="2/s")

    @tasks.cron("@daily", name="report")
    def report() -> None: ...

    return tasks
