"""The receiver: who may call, which handler runs, and what is answered."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from inspect import Parameter

import pytest

from poussetaches import __version__
from poussetaches.client.client import Client
from poussetaches.client.current_task import NoCurrentTask, current_task
from poussetaches.client.declaration_sender import DeclarationRefused
from poussetaches.client.delivery_auth import (
    MAX_BODY,
    MAX_REFUSED_BODY,
    TOLERANCE,
    IncomingRequest,
    Reply,
)
from poussetaches.client.errors import NoAnswer
from poussetaches.client.handler_exception import GiveUp, RetryLater
from poussetaches.client.receiver import Delivery, Receiver
from poussetaches.client.results import EndedTask, ProgressReport
from poussetaches.client.tasks import Tasks
from poussetaches.core.probe_answer import Refusal, declaration_in, probe_answer_in
from poussetaches.core.signature import body_hash, sign
from tests.application import KEY, NOW, RecordingPusher, delivery, make_tasks, signed

NEW_SECRET, OLD_SECRET = "the newer of two secrets", "the older of two secrets"
Run = Callable[[Receiver, IncomingRequest], Awaitable[Reply]]
place: ContextVar[str] = ContextVar("place", default="outside")


async def run_sync(receiver: Receiver, request: IncomingRequest) -> Reply:
    """Answer as a WSGI server has it: in a thread without a loop."""
    return await asyncio.to_thread(receiver.run, request)


async def run_async(receiver: Receiver, request: IncomingRequest) -> Reply:
    """Answer as an ASGI server has it."""
    return await receiver.arun(request)


@pytest.fixture(params=[run_sync, run_async])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


def receiver_of(tasks: Tasks) -> Receiver:
    return Receiver(tasks, clock=lambda: NOW)


def text_of(reply: Reply) -> str:
    return reply.body.decode()


async def test_handler_gets_its_arguments_and_what_it_returns_is_answered(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task
    def double(number: int) -> int:
        return 2 * number

    reply = await run(receiver_of(tasks), delivery(double, {"number": 21}))

    assert reply == Reply(200, b"42", {"Content-Type": "application/json"})


async def test_asynchronous_handler_is_awaited(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task
    async def double(number: int) -> int:
        return 2 * number

    reply = await run(receiver_of(tasks), delivery(double, {"number": 21}))

    assert (reply.status, reply.body) == (200, b"42")


async def test_awaitable_that_an_ordinary_handler_returns_is_awaited(run: Run) -> None:
    tasks = make_tasks()

    async def later() -> int:
        return 42

    @tasks.task
    def handler() -> Awaitable[int]:
        return later()

    assert (await run(receiver_of(tasks), delivery(handler))).body == b"42"


async def test_ordinary_handler_does_not_hold_up_the_loop() -> None:
    tasks = make_tasks()
    seen: list[tuple[str, bool]] = []

    @tasks.task
    def handler() -> None:
        seen.append((place.get(), threading.current_thread() is threading.main_thread()))

    place.set("inside")
    await receiver_of(tasks).arun(delivery(handler))

    assert seen == [("inside", False)]


def test_asynchronous_handler_runs_also_under_a_running_loop() -> None:
    tasks = make_tasks()

    @tasks.task
    async def handler() -> str:
        return place.get()

    async def main() -> Reply:
        place.set("inside")
        return receiver_of(tasks).run(delivery(handler))

    assert asyncio.run(main()).body == b'"inside"'


async def test_handler_without_a_result_answers_null(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task
    def handler() -> None: ...

    assert (await run(receiver_of(tasks), delivery(handler, body=b""))).body == b"null"


@pytest.mark.parametrize(
    ("value", "reason"),
    [(object(), "values of object cannot be"), ([None, math.nan], "JSON has no nan")],
    ids=["object", "nan"],
)
async def test_result_that_has_no_json_does_not_make_the_task_fail(
    run: Run, caplog: pytest.LogCaptureFixture, value: object, reason: str
) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler")
    def handler() -> object:
        return value

    reply = await run(receiver_of(tasks), delivery(handler))

    assert reply == Reply(200)
    assert f"task app.handler: its return value was not sent: {reason}" in caplog.text


# Who may call


@pytest.mark.parametrize("given", ["", "wrong", KEY + "x", "é"])
async def test_wrong_key_is_refused(run: Run, given: str) -> None:
    tasks = make_tasks()
    request = delivery("app.handler", Poussetaches_Auth_Key=given)

    reply = await run(receiver_of(tasks), request)

    line, code, _ = text_of(reply).split("\n")
    assert (reply.status, code) == (401, "poussetaches-refusal: wrong-key")
    fault, advice = ("wrong", "different values of") if given else ("missing", "--key-target")
    assert line.startswith(f"the header Poussetaches-Auth-Key is {fault}: ")
    assert advice in line


def test_missing_key_is_refused_before_anything_else_is_told() -> None:
    request = IncomingRequest("GET", "/_poussetaches/app.handler")

    assert receiver_of(make_tasks()).run(request).status == 401


def test_key_is_found_whatever_the_case_of_its_header() -> None:
    request = delivery("_check")
    lower = {name.lower(): value for name, value in request.headers.items()}

    assert receiver_of(make_tasks()).run(replace(request, headers=lower)).status == 200


async def test_without_a_key_everything_is_refused_and_the_log_says_what_to_set(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await run(receiver_of(make_tasks(auth_key=None)), delivery("app.handler"))

    assert reply.status == 503
    assert "no key is configured; set POUSSETACHES_AUTH_KEY" in caplog.text


def test_empty_key_lets_nobody_in() -> None:
    class Empty(Tasks):
        def setting(self, name: str) -> str | None:
            return ""

    for headers in ({}, {"Poussetaches-Auth-Key": ""}):
        request = IncomingRequest("POST", "/_poussetaches/app.handler", headers)
        assert receiver_of(Empty(auth_key="")).run(request).status == 503


def test_key_is_read_when_it_is_needed() -> None:
    environ: dict[str, str] = {}
    receiver = receiver_of(Tasks(environ=environ))

    environ["POUSSETACHES_AUTH_KEY"] = KEY

    assert receiver.run(delivery("_check")).status == 200


def test_key_that_cannot_be_read_refuses_everything(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"POUSSETACHES_AUTH_KEY": KEY, "POUSSETACHES_AUTH_KEY_FILE": "/key"}

    reply = receiver_of(Tasks(environ=environ)).run(delivery("_check"))

    assert reply.status == 503
    assert "both POUSSETACHES_AUTH_KEY and POUSSETACHES_AUTH_KEY_FILE are set" in caplog.text


CHECK = delivery("_check", body=b"{}")


@pytest.mark.parametrize(
    ("secrets", "request_", "status"),
    [
        (NEW_SECRET, signed(CHECK, NEW_SECRET), 200),
        (NEW_SECRET, signed(CHECK, OLD_SECRET), 401),
        (NEW_SECRET, CHECK, 401),
        (NEW_SECRET, signed(CHECK, NEW_SECRET, at=NOW - TOLERANCE), 200),
        (NEW_SECRET, signed(CHECK, NEW_SECRET, at=NOW - TOLERANCE - 1), 401),
        (NEW_SECRET, signed(CHECK, NEW_SECRET, at=NOW + TOLERANCE), 200),
        (NEW_SECRET, signed(CHECK, NEW_SECRET, at=NOW + TOLERANCE + 1), 401),
        # The server changes first, or the receiver does; at the end both know the new one.
        (OLD_SECRET, signed(CHECK, NEW_SECRET, OLD_SECRET), 200),
        (f"{NEW_SECRET},{OLD_SECRET}", signed(CHECK, OLD_SECRET), 200),
        (f"{NEW_SECRET},{OLD_SECRET}", signed(CHECK, NEW_SECRET), 200),
    ],
)
async def test_signature_is_checked(
    run: Run, secrets: str, request_: IncomingRequest, status: int
) -> None:
    reply = await run(receiver_of(make_tasks(signing_secrets=secrets)), request_)

    assert reply.status == status


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/hooks/shop"},
        {"path": "/_poussetaches/app.other"},
        {"query": "x=1"},
        {"id": "task-2"},
        {"body_hash": body_hash(b"other")},
    ],
    ids=str,
)
def test_signature_is_good_for_its_own_request_alone(changes: dict[str, str]) -> None:
    """A third party that was sent a signed task cannot have another one run with it."""
    request = signed(CHECK, NEW_SECRET, changes=changes)

    reply = receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(request)

    assert reply.status == 401
    assert text_of(reply).startswith("the signature is")


@pytest.mark.parametrize("stamp", ["", "x", "-1", "1" * 40, "1e9", "\u0661"])
def test_timestamp_that_is_no_number_is_refused(stamp: str) -> None:
    request = signed(CHECK, NEW_SECRET)
    request = replace(request, headers={**request.headers, "webhook-timestamp": stamp})

    assert receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(request).status == 401


@pytest.mark.parametrize("id", ["", "task\n1", "task 1", "\u00e9", "x" * 201])
def test_id_that_could_not_be_sent_is_refused(id: str) -> None:
    request = signed(CHECK, NEW_SECRET, changes={"id": id})
    headers = {**request.headers, "webhook-id": id, "Poussetaches-Task-ID": id}

    reply = receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(
        replace(request, headers=headers)
    )

    assert "malformed" in text_of(reply)


def test_task_id_must_be_the_signed_one() -> None:
    """Handlers recognise repetitions by it."""
    request = signed(CHECK, NEW_SECRET)
    request = replace(request, headers={**request.headers, "Poussetaches-Task-ID": "task-2"})

    reply = receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(request)

    assert (reply.status, text_of(reply)) == (
        401,
        "the signature is for a different task than Poussetaches-Task-ID\n"
        "poussetaches-refusal: wrong-signature\n",
    )


def test_server_that_signs_no_requests_is_said_to_be_too_old() -> None:
    older = {
        "webhook-id": "task-1",
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": sign(
            [NEW_SECRET.encode()], id="task-1", timestamp=int(NOW), body=CHECK.body
        ),
    }
    request = replace(CHECK, headers={**CHECK.headers, **older})

    reply = receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(request)

    assert reply.status == 401
    assert "webhook-signature is not enough: upgrade the server" in text_of(reply)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            CHECK,
            "Poussetaches-Signature is missing; set POUSSETACHES_SIGNING_SECRET on the server",
        ),
        (signed(CHECK, OLD_SECRET), "the path or the query of '/_poussetaches/_check'"),
        (
            signed(CHECK, NEW_SECRET, at=NOW - 3600),
            "is 3600 s from this clock",
        ),
    ],
    ids=["unsigned", "wrong", "late"],
)
def test_refusal_says_what_is_wrong_with_the_signature(
    request_: IncomingRequest, words: str
) -> None:
    reply = receiver_of(make_tasks(signing_secrets=NEW_SECRET)).run(request_)

    assert words in text_of(reply)


@pytest.mark.parametrize(
    ("sent_below", "mount", "public_prefix", "status"),
    [
        ("", "", None, 200),
        # The application server, or the framework, knows the prefix.
        ("/shop", "/shop", None, 200),
        ("/caf%C3%A9", "/caf\u00e9", None, 200),
        # It knows one, and the server delivers directly.
        ("", "/shop", None, 200),
        # A proxy removed it, or put another one in its place.
        ("/shop", "", "/shop/", 200),
        ("/shop", "/inner", "/shop", 200),
        ("/shop", "", None, 401),
        ("/shop", "/inner", None, 401),
        ("/other", "/inner", "/shop", 401),
    ],
)
def test_path_is_signed_with_the_prefix_that_it_was_sent_with(
    sent_below: str, mount: str, public_prefix: str | None, status: int
) -> None:
    tasks = make_tasks(signing_secrets=NEW_SECRET, public_prefix=public_prefix)
    request = signed(replace(CHECK, mount=mount), NEW_SECRET, prefix=sent_below)

    assert receiver_of(tasks).run(request).status == status


def test_public_prefix_that_is_no_path_refuses_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = make_tasks(signing_secrets=NEW_SECRET, public_prefix="shop")

    assert receiver_of(tasks).run(signed(CHECK, NEW_SECRET)).status == 503
    assert "POUSSETACHES_PUBLIC_PREFIX is 'shop'" in caplog.text


def test_signature_is_enough_where_no_key_is_configured() -> None:
    environ = {"POUSSETACHES_SIGNING_SECRET": NEW_SECRET}
    receiver = receiver_of(Tasks(environ=environ))

    assert receiver.run(signed(CHECK, NEW_SECRET)).status == 200
    assert receiver.run(CHECK).status == 401


# How much is read


STRANGER = IncomingRequest("POST", "/_poussetaches/_check")
PIECE_OF_BODY = bytes(64 * 1024)


def fed(receiver: Receiver, head: IncomingRequest, *, most: int = 2 * MAX_BODY) -> int:
    """Feed a request with a body without end; return how many bytes of it were wanted."""
    intake, count = receiver.admit(head), 0
    while count < most:
        count += len(PIECE_OF_BODY)
        if not intake.feed(PIECE_OF_BODY):
            break
    return count


@pytest.mark.parametrize(
    ("keys", "head"),
    [
        ({"auth_key": KEY}, STRANGER),
        ({"auth_key": KEY}, replace(STRANGER, headers={"Poussetaches-Auth-Key": "another"})),
        ({}, STRANGER),
        ({"signing_secrets": NEW_SECRET}, STRANGER),
        ({"signing_secrets": NEW_SECRET}, signed(STRANGER, "made up")),
        ({"signing_secrets": NEW_SECRET}, signed(STRANGER, NEW_SECRET, at=0)),
        ({"signing_secrets": "whsec_not base64"}, STRANGER),
    ],
    ids=["no key", "another key", "keyless", "unsigned", "made up", "too late", "settings"],
)
def test_body_of_a_stranger_is_read_a_little_and_not_kept(
    keys: dict[str, str], head: IncomingRequest
) -> None:
    receiver = receiver_of(Tasks(environ={}, **keys))  # type: ignore[arg-type]  # by name

    fed(receiver, head)
    tracemalloc.start()
    wanted = fed(receiver, head)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert wanted <= MAX_REFUSED_BODY + len(PIECE_OF_BODY)
    assert peak < len(PIECE_OF_BODY)


@pytest.mark.parametrize(
    ("keys", "head"),
    [
        ({"auth_key": KEY}, CHECK),
        ({"signing_secrets": NEW_SECRET}, signed(CHECK, NEW_SECRET)),
    ],
    ids=["the key", "the signature"],
)
def test_body_of_the_server_is_read_up_to_its_limit(
    keys: dict[str, str], head: IncomingRequest
) -> None:
    receiver = receiver_of(Tasks(environ={}, **keys))  # type: ignore[arg-type]  # by name
    intake = receiver.admit(head)

    wanted = fed(receiver, head)
    intake.feed(bytes(MAX_BODY + 1))

    assert MAX_BODY < wanted <= MAX_BODY + len(PIECE_OF_BODY)
    assert receiver.finish(intake).status == 413


async def test_body_that_was_not_signed_is_refused(run: Run) -> None:
    tasks = make_tasks(signing_secrets=NEW_SECRET)
    ran: list[int] = []

    @tasks.task(name="app.handler")
    def handler(number: int) -> None:
        ran.append(number)

    request = signed(delivery(handler, {"number": 1}), NEW_SECRET)
    changed = replace(request, body=b'{"number": 2}')

    assert (await run(receiver_of(tasks), changed)).status == 401
    assert (await run(receiver_of(tasks), request)).status == 200
    assert ran == [1]


def test_body_may_come_in_pieces() -> None:
    tasks = make_tasks(signing_secrets=NEW_SECRET)

    @tasks.task
    def double(number: int) -> int:
        return 2 * number

    receiver = receiver_of(tasks)
    request = signed(delivery(double, {"number": 21}), NEW_SECRET)
    intake = receiver.admit(replace(request, body=b""))
    for at in range(len(request.body)):
        assert intake.feed(request.body[at : at + 1])

    assert text_of(receiver.finish(intake)) == "42"


# Which handler


def test_probe_answers_the_version_and_the_number_of_tasks() -> None:
    tasks = make_tasks()

    @tasks.task(aliases=["app.former"])
    def handler() -> None: ...

    reply = receiver_of(tasks).run(CHECK)

    assert text_of(reply) == (f'{{"poussetaches":"{__version__}","tasks":1,"queues":["default"]}}')


def queues_in_answer(tasks: Tasks) -> tuple[str, ...]:
    answer = probe_answer_in(receiver_of(tasks).run(CHECK).body)
    assert answer is not None
    return answer.queues


@pytest.mark.parametrize(
    ("name", "queues"),
    [(None, ("stripe", "default", "mail")), ("shop", ("shop.stripe", "shop", "shop.mail"))],
)
def test_probe_answers_the_queues_of_the_tasks(name: str | None, queues: tuple[str, ...]) -> None:
    tasks = make_tasks(name=name)

    @tasks.task
    def report() -> None: ...

    @tasks.task(queue="mail")
    def welcome() -> None: ...

    tasks.queue("stripe", rate=1)

    assert queues_in_answer(tasks) == queues


@pytest.mark.parametrize(
    ("callback", "expected"), [("/done", True), ("http://log.example/", False), ("", False)]
)
def test_queue_of_the_callbacks_is_used_if_one_leads_to_the_application(
    callback: str, expected: bool
) -> None:
    of_task, of_queue = make_tasks(), make_tasks()
    of_queue.queue("mail", on_dead=callback)

    @of_task.task(on_success=callback)
    def handler() -> None: ...

    assert ("callbacks" in queues_in_answer(of_task)) is expected
    assert ("callbacks" in queues_in_answer(of_queue)) is expected


def test_queue_of_the_callbacks_is_used_if_a_task_is_one() -> None:
    tasks = make_tasks()

    @tasks.task
    def after(ended: EndedTask) -> None: ...

    @tasks.task(on_success=after)
    def handler() -> None: ...

    assert queues_in_answer(tasks) == ("default", "callbacks")


def test_number_of_queues_in_the_answer_is_limited() -> None:
    tasks = make_tasks()
    for number in range(300):
        tasks.queue(f"q{number}", rate=1)

    assert len(queues_in_answer(tasks)) == 200


def test_probe_answers_and_the_log_tells_the_queues_that_look_misspelt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = make_tasks(name="shop")
    tasks.queue("stripe", rate=1)
    tasks.queue("stripes")
    for queue in ("strype", "stripe", "stripes", "images", None):
        tasks.task(name=f"shop.{queue}", queue=queue)(lambda: None)

    answer = probe_answer_in(receiver_of(tasks).run(CHECK).body)
    with Client("http://127.0.0.1:9") as client, pytest.raises(NoAnswer):
        tasks.declare(client)

    assert answer is not None
    assert list(answer.warnings) == caplog.messages
    assert caplog.messages == [
        "the queue 'strype' of the task shop.strype is not declared; did you mean 'stripe'?"
        " If not, declare it: tasks.queue('strype')"
    ]


def test_queues_are_not_suspicious_if_the_code_declares_none() -> None:
    tasks = make_tasks()
    tasks.task(name="a", queue="strype")(lambda: None)
    tasks.task(name="b", queue="stripe")(lambda: None)

    assert tasks.misspelt_queues() == []


def test_probe_answers_what_the_server_refused_of_the_declaration() -> None:
    refusals = [Refusal("queue", f"q{number}", "x" * 600) for number in range(60)]

    class Declared(Tasks):
        def declare(self, client: object) -> None:
            raise DeclarationRefused(refusals)

    tasks = Declared(auth_key=KEY, environ={})
    thread = tasks.declare_in_background()
    assert thread is not None
    thread.join()

    status = declaration_in(receiver_of(tasks).run(CHECK).body)

    assert status.state == "done"
    assert status.refused == tuple(Refusal("queue", f"q{it}", "x" * 500) for it in range(50))


def test_receiver_takes_what_is_below_its_path_alone() -> None:
    receiver = receiver_of(make_tasks(path="/tasks/"))

    assert receiver.takes("/tasks/app.handler")
    assert not receiver.takes("/tasks")
    assert not receiver.takes("/tasksapp.handler")


async def test_alias_finds_the_task(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.new", aliases=["app.old"])
    def handler() -> str:
        return current_task().name

    assert (await run(receiver_of(tasks), delivery("app.old"))).body == b'"app.new"'


@pytest.mark.parametrize("name", ["app.gone", "", "a/b", "../x"])
async def test_unknown_task_is_not_found(run: Run, name: str) -> None:
    reply = await run(receiver_of(make_tasks()), delivery(name))

    assert (reply.status, text_of(reply)) == (404, f"there is no task {name!r}\n")


def test_other_methods_are_not_allowed() -> None:
    reply = receiver_of(make_tasks()).run(replace(delivery("app.handler"), method="GET"))

    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_arguments_that_do_not_fit_are_named_in_the_answer(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task
    def handler(user_id: int) -> None: ...

    reply = await run(receiver_of(tasks), delivery(handler, {"user": 1}))

    assert (reply.status, text_of(reply)) == (422, "argument user_id: it is required\n")


def test_handler_whose_types_cannot_be_read_fails() -> None:
    tasks = make_tasks()

    @tasks.task
    def handler(it: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    reply = receiver_of(tasks).run(delivery(handler, {"it": 1}))

    assert reply.status == 500
    assert "name 'Unheard' is not defined" in text_of(reply)


# How it ends


@pytest.mark.parametrize(("after", "seconds"), [(0, "0"), (1.2, "2"), (60, "60")])
async def test_task_that_asks_for_a_wait_gets_it(run: Run, after: float, seconds: str) -> None:
    tasks = make_tasks()

    @tasks.task
    def handler() -> None:
        raise RetryLater(after=after)

    reply = await run(receiver_of(tasks), delivery(handler))

    assert (reply.status, reply.headers["Retry-After"]) == (503, seconds)
    assert text_of(reply) == "retry later\n"


@pytest.mark.parametrize("after", [-1, float("inf"), float("nan")])
def test_wait_that_cannot_be_is_refused(after: float) -> None:
    with pytest.raises(ValueError, match="use a number of seconds"):
        RetryLater(after=after)


@pytest.mark.parametrize(
    ("after", "of_task", "of_queue", "cut_to"),
    [
        (3600, None, None, None),
        (3601, None, None, "3600 s"),
        (3601, None, 7200, None),
        (7201, None, 7200, "7200 s"),
        (61, 60, 7200, "60 s"),
    ],
)
def test_wait_that_the_server_cuts_is_logged(
    caplog: pytest.LogCaptureFixture,
    after: float,
    of_task: float | None,
    of_queue: float | None,
    cut_to: str | None,
) -> None:
    tasks = make_tasks()
    if of_queue is not None:
        tasks.queue("slow", retry={"max_retry_after": of_queue})

    @tasks.task(queue="slow", retry=None if of_task is None else {"max_retry_after": of_task})
    def handler() -> None:
        raise RetryLater(after=after)

    receiver_of(tasks).run(delivery(handler, Poussetaches_Queue="slow"))

    found = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert bool(found) is (cut_to is not None)
    assert all(line.endswith(f"max_retry_after limits the wait to {cut_to}") for line in found)


async def test_task_that_gives_up_is_not_tried_again(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task
    def handler() -> None:
        raise GiveUp("no such customer\nand more")

    reply = await run(receiver_of(tasks), delivery(handler))

    assert (reply.status, reply.headers["Poussetaches-Retry"]) == (500, "no")
    assert text_of(reply) == "no such customer\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no good\nsecond line"), "ValueError: no good"),
        (KeyError(), "KeyError: "),
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("x" * 600), "ValueError: " + "x" * 488),
    ],
)
async def test_error_fails_the_attempt_and_is_logged_with_its_traceback(
    run: Run, error: Exception, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler")
    def handler() -> None:
        raise error

    reply = await run(receiver_of(tasks), delivery(handler))

    assert (reply.status, text_of(reply)) == (500, line + "\n")
    [record] = caplog.records
    assert record.getMessage() == "task app.handler (task-1) failed at attempt 2"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


# What is raised, and the line of the answer. None of it may end the worker or hang the server.
ENDS: list[tuple[BaseException, str]] = [
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt:"),
    (GeneratorExit(), "GeneratorExit:"),
    (asyncio.CancelledError("stop"), "CancelledError: stop"),
    (StopIteration(7), "StopIteration: 7"),
    (StopAsyncIteration(), "StopAsyncIteration:"),
]


@pytest.mark.parametrize(("raised", "line"), ENDS, ids=[line for _, line in ENDS])
async def test_handler_that_would_end_more_than_itself_fails(
    run: Run, raised: BaseException, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler")
    def handler() -> None:
        raise raised

    reply = await run(receiver_of(tasks), delivery(handler))

    assert (reply.status, text_of(reply).strip()) == (500, line)
    assert caplog.records[-1].exc_info is not None
    assert caplog.records[-1].exc_info[1] is raised


# A coroutine that is closed gets a GeneratorExit, and Python itself replaces the StopIterations.
@pytest.mark.parametrize(
    ("raised", "line"), [ENDS[0], ENDS[1], ENDS[3]], ids=[ENDS[0][1], ENDS[1][1], ENDS[3][1]]
)
async def test_asynchronous_handler_that_would_end_more_than_itself_fails(
    run: Run, raised: BaseException, line: str
) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler")
    async def handler() -> None:
        raise raised

    reply = await run(receiver_of(tasks), delivery(handler))

    assert (reply.status, text_of(reply).strip()) == (500, line)


async def test_cancelled_request_cancels_its_handler() -> None:
    tasks, begun = make_tasks(), asyncio.Event()

    @tasks.task(name="app.handler")
    async def handler() -> None:
        begun.set()
        await asyncio.Event().wait()

    request = asyncio.create_task(run_async(receiver_of(tasks), delivery(handler)))
    await begun.wait()
    request.cancel()

    with pytest.raises(asyncio.CancelledError):
        await request


@pytest.mark.parametrize("name", ["of_generator", "of_async_generator"])
async def test_generator_that_a_handler_returns_is_a_failure(run: Run, name: str) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.of_generator")
    def of_generator() -> object:
        return (number for number in range(3))

    async def numbers() -> AsyncIterator[int]:
        yield 1

    @tasks.task(name="app.of_async_generator")
    def of_async_generator() -> object:
        return numbers()

    reply = await run(receiver_of(tasks), delivery(f"app.{name}"))

    assert reply.status == 500
    assert text_of(reply).startswith("NothingRan: the handler returned a generator")


async def test_argument_may_have_any_name(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler")
    def handler(self: int, delivery: int, function: int, args: int, kwargs: int) -> int:
        return self + delivery + function + args + kwargs

    names = ("self", "delivery", "function", "args", "kwargs")
    task = handler.prepare(**dict.fromkeys(names, 1))
    reply = await run(receiver_of(tasks), delivery(handler, task.json))

    assert text_of(reply) == "5"


# What a handler knows


async def test_handler_knows_its_task(run: Run) -> None:
    tasks = make_tasks()

    @tasks.task(name="app.handler", timeout=30)
    def handler() -> list[object]:
        it = current_task()
        seconds = it.deadline and (it.deadline - datetime.fromtimestamp(NOW, UTC)).seconds
        return [it.id, it.name, it.queue, it.attempt, it.round, it.request_id, seconds]

    reply = await run(receiver_of(tasks), delivery(handler))

    assert text_of(reply) == '["task-1","app.handler","mail",2,3,"0123456789ab",30]'
    with pytest.raises(NoCurrentTask):
        current_task()


@pytest.mark.parametrize("given", [None, 20.0])
def test_deadline_comes_from_the_queue_of_the_delivery_or_is_not_known(
    given: float | None,
) -> None:
    tasks = make_tasks()
    tasks.queue(timeout=10)
    if given is not None:
        tasks.queue("mail", timeout=given)

    @tasks.task
    def handler() -> datetime | None:
        return current_task().deadline

    reply = receiver_of(tasks).run(delivery(handler))

    deadline = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=given or 0)
    expected = f'"{deadline.isoformat().replace("+00:00", "Z")}"' if given else "null"
    assert text_of(reply) == expected


def test_headers_that_are_missing_or_odd_do_not_matter_to_a_handler() -> None:
    tasks = make_tasks()

    @tasks.task
    def handler() -> list[object]:
        return [current_task().id, current_task().attempt, current_task().round]

    request = IncomingRequest(
        "POST",
        f"/_poussetaches/{handler.name}",
        {"Poussetaches-Auth-Key": KEY, "Poussetaches-Attempt": "many"},
    )

    assert text_of(receiver_of(tasks).run(request)) == '["",1,1]'


class Injecting(Tasks):
    """Tasks of a framework that fills in what is named ``factor``."""

    def is_injected(self, parameter: Parameter, hint: object) -> bool:
        return parameter.name == "factor"


async def test_framework_may_fill_in_what_did_not_travel(run: Run) -> None:
    tasks = Injecting(auth_key=KEY)

    @tasks.task
    def handler(number: int, factor: int = 1, more: int = 0) -> int:
        return number * factor + more

    def call(it: Delivery) -> object:
        return it.call(factor=3)

    async def acall(it: Delivery) -> object:
        return it.call(factor=3)

    receiver = Receiver(tasks, call=call, acall=acall)

    assert (await run(receiver, delivery(handler, {"number": 14}))).body == b"42"


async def test_progress_is_reported_with_the_token_of_the_delivery(run: Run) -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task
    def work() -> None:
        current_task().progress(1, 2)
        current_task().progress(2, 2, "done")
        raise ValueError

    with tasks.use(pusher):
        reply = await run(
            receiver_of(tasks), delivery(work, Poussetaches_Attempt_Token="token-of-attempt")
        )

    assert reply.status == 500
    assert pusher.reports == [
        ("task-1", "token-of-attempt", ProgressReport(1, 2)),
        ("task-1", "token-of-attempt", ProgressReport(2, 2, "done")),
    ]


async def test_progress_of_a_delivery_without_a_token_is_dropped(run: Run) -> None:
    tasks, pusher = make_tasks(), RecordingPusher()

    @tasks.task
    async def work() -> None:
        current_task().progress(1)

    with tasks.use(pusher, keys=tasks.keys()):
        reply = await run(receiver_of(tasks), delivery(work))

    assert (reply.status, pusher.reports) == (200, [])
