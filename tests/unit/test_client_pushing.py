"""Pushing over a transport that a test has in its hands."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.batch_push import MAX_BYTES, MAX_TASKS, slices
from poussetaches.client.call import Call
from poussetaches.client.client import Client
from poussetaches.client.errors import (
    Busy,
    Conflict,
    InvalidRequest,
    NoAnswer,
    NotUnderstood,
    OutcomeUnknown,
    PushFailed,
    Refused,
    Unauthorized,
)
from poussetaches.client.request_fields import NewTask
from poussetaches.client.server_answer import Answer
from poussetaches.client.transport import Stream

TASK: dict[str, object] = {
    "id": "1",
    "queue": "default",
    "state": "waiting",
    "url": "http://app/",
    "method": "POST",
    "created_at": "2026-11-25T06:00:00Z",
    "run_at": "2026-11-25T06:00:00Z",
    "round": 1,
    "attempt_count": 0,
}

KEY = f"{1:032x}"  # the first that a client makes

Reply = Answer | NoAnswer


class Script:
    """A transport that answers as told, in order, and a clock that its timeouts move."""

    def __init__(self, *replies: Reply) -> None:
        self.calls: list[Call] = []
        self.timeouts: list[float] = []
        self.now = 0.0
        self._replies = list(replies)

    def send(self, call: Call, *, timeout: float) -> Answer:
        self.calls.append(call)
        self.timeouts.append(timeout)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, NoAnswer):
            self.now += timeout
            raise reply
        return reply

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        raise AssertionError("a push asks for no stream")

    def close(self) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def sent(self) -> list[Any]:
        """The bodies of the calls."""
        return [json.loads(call.body) for call in self.calls]


def client_of(script: Script) -> Client:
    numbers = itertools.count(1)
    return Client(
        transport=script,
        monotonic=lambda: script.now,
        sleep=script.sleep,
        entropy=lambda length: next(numbers).to_bytes(length, "big"),
    )


def answered(status: int, document: object, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(document).encode())


def problem(status: int, code: str) -> Answer:
    return answered(status, {"type": f"urn:poussetaches:problem:{code}", "detail": "why"})


def ids(count: int, existing: tuple[int, ...] = ()) -> Answer:
    document = {"ids": [str(number) for number in range(count)], "existing": existing}
    return answered(201, document)


def keys() -> Callable[[], str]:
    return map(str, itertools.count()).__next__


def test_push_gets_a_key_that_stays_when_it_is_repeated() -> None:
    script = Script(NoAnswer(), problem(503, "busy"), answered(201, TASK))

    pushed = client_of(script).push("http://app/", json={"a": 1})

    assert pushed.id == "1"
    assert (
        script.sent == [{"url": "http://app/", "json": {"a": 1}, "key": KEY, "key_ttl": 600.0}] * 3
    )


def test_push_whose_outcome_is_unknown_is_repeated_with_its_key() -> None:
    own = {**TASK, "key": KEY}
    script = Script(problem(503, "outcome-unknown"), answered(200, own))

    pushed = client_of(script).push("http://app/")

    assert pushed.id == "1"
    assert [sent["key"] for sent in script.sent] == [KEY, KEY]


def test_change_whose_outcome_is_unknown_is_left_to_the_caller() -> None:
    script = Script(problem(503, "outcome-unknown"))

    with pytest.raises(OutcomeUnknown) as caught:
        client_of(script).requeue("1")

    assert isinstance(caught.value, Busy)
    assert len(script.calls) == 1


def test_own_push_that_was_repeated_is_not_called_existing() -> None:
    own = {**TASK, "key": KEY}
    script = Script(NoAnswer(), answered(200, own, **{"poussetaches-existing": "true"}))

    assert not client_of(script).push("http://app/").existing


def test_task_of_another_push_is_existing() -> None:
    script = Script(answered(200, {**TASK, "key": "k"}, **{"poussetaches-existing": "true"}))

    assert client_of(script).push("http://app/", key="k").existing
    assert "key_ttl" not in script.sent[0]


def test_pruned_task_that_answers_for_a_push_has_an_id_only() -> None:
    pushed = client_of(Script(answered(200, {"id": "1", "state": "pruned"}))).push("/", key="k")

    assert (pushed.id, pushed.existing, pushed.task) == ("1", True, None)


@pytest.mark.parametrize(
    "reply",
    [
        NoAnswer(),
        problem(500, "unexpected"),
        problem(503, "stopping"),
        problem(503, "outcome-unknown"),
        problem(507, "store-full"),
        Answer(502, {}, b"<html>Bad Gateway"),
    ],
    ids=["silence", "500", "503", "unknown", "507", "a proxy's 502"],
)
def test_push_ends_in_time_with_the_task_in_the_error(reply: Reply) -> None:
    script = Script(reply)

    with pytest.raises(PushFailed) as failed:
        client_of(script).push("http://app/", json=1)

    # With its key: pushing it once more, later, is the same push still.
    assert failed.value.task == NewTask("http://app/", json=1, key=KEY, key_ttl=600.0)
    assert isinstance(failed.value.__cause__, NoAnswer | Refused)
    assert len(script.calls) > 1
    assert script.now <= 2.0


def test_refused_push_is_not_repeated() -> None:
    script = Script(problem(422, "invalid-task"))

    with pytest.raises(InvalidRequest) as refused:
        client_of(script).push("http://app/")

    assert (refused.value.code, refused.value.detail) == ("invalid-task", "why")
    assert len(script.calls) == 1


SERVER = "http://127.0.0.1:8000"
# Answers of programs that are not poussetaches, and how the error ends.
FOREIGN = {
    "page": (Answer(200, {}, b"<html>", SERVER), "JSON is malformed"),
    "other JSON": (Answer(201, {}, b'{"id": 7}', SERVER), "Expected `str`, got `int`"),
    "no content": (Answer(204, {}, b"", SERVER), "Input data was truncated"),
    "redirect": (Answer(302, {"location": "/login"}, b"", SERVER), ": redirect to /login"),
    "bad request": (Answer(400, {}, b"", SERVER), "any proxy in front of it)"),
    "unauthorized": (Answer(401, {}, b"who?", SERVER), ": who?"),
    "forbidden": (Answer(403, {}, b"no", SERVER), ": no"),
    "not found": (Answer(404, {}, b'{"detail": "Not Found"}', SERVER), ": Not Found"),
    "not allowed": (Answer(405, {}, b"other", SERVER), ": other"),
    "conflict": (Answer(409, {}, b"\xff", SERVER), ": \N{REPLACEMENT CHARACTER}"),
    "too large": (Answer(413, {}, b"<html>too large", SERVER), ": <html>too large"),
    "other problem": (Answer(422, {}, b'{"type": "about:blank"}', SERVER), "in front of it)"),
}


@pytest.mark.parametrize(("answer", "says"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("is_batch", [False, True], ids=["push", "push_many"])
def test_push_that_another_program_answers_has_failed(
    answer: Answer, says: str, is_batch: bool
) -> None:
    script = Script(answer)
    client = client_of(script)

    with pytest.raises(PushFailed) as failed:
        client.push_many([NewTask("/run")]) if is_batch else client.push("/run")

    assert failed.value.task == NewTask("/run", key=KEY, key_ttl=600.0)
    assert isinstance(failed.value.__cause__, NotUnderstood)
    assert failed.value.__cause__.status == answer.status
    begin = f"the task was not pushed: {answer.status} from {SERVER} is not a poussetaches respo"
    assert str(failed.value).startswith(begin)
    assert "POUSSETACHES_URL" in str(failed.value)
    if not is_batch:
        assert says in str(failed.value)
    assert len(script.calls) == 1


def test_proxy_that_cannot_reach_the_server_is_named_by_its_url() -> None:
    script = Script(Answer(502, {}, b"Bad Gateway", SERVER))

    with pytest.raises(PushFailed, match=f"502 from {SERVER} is not .*POUSSETACHES_URL.*Bad Ga"):
        client_of(script).push("/run")


CALLS: dict[str, Callable[[Client], object]] = {
    "get": lambda client: client.get("id"),
    "cancel": lambda client: client.cancel("id"),
    "delete": lambda client: client.delete("id"),
    "list": lambda client: list(client.list()),
    "queue": lambda client: client.queue("mail"),
    "put_queue": lambda client: client.put_queue("mail", rate=1),
    "purge_queue": lambda client: client.purge_queue("mail"),
    "declare_schedules": lambda client: client.declare_schedules("app", None, []),
    "stats": lambda client: client.stats(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [200, 302, 401, 404, 409, 422])
def test_answer_of_another_program_is_no_refusal(
    call: Callable[[Client], object], status: int
) -> None:
    with pytest.raises(
        NotUnderstood, match=f"{status} from {SERVER} is not a poussetaches response"
    ):
        call(client_of(Script(Answer(status, {}, b"other", SERVER))))


def test_body_of_bytes_is_sent_as_base64() -> None:
    script = Script(answered(201, TASK))

    client_of(script).push("/", body=b"\x00", key="k")

    assert script.sent == [{"url": "/", "body_base64": "AA==", "key": "k"}]


def test_slices_have_no_more_than_the_server_takes() -> None:
    tasks = [NewTask("/")] * (2 * MAX_TASKS + 1)

    found = list(slices(tasks, new_key=keys()))

    assert [len(one.tasks) for one in found] == [MAX_TASKS, MAX_TASKS, 1]


def test_slices_of_large_tasks_are_cut_by_their_bytes() -> None:
    tasks = [NewTask("/", text="x" * (MAX_BYTES // 3))] * 5

    found = list(slices(tasks, new_key=keys()))

    assert [len(one.tasks) for one in found] == [2, 2, 1]
    assert all(len(one.call.body) <= MAX_BYTES for one in found)


def test_many_are_pushed_as_lines_and_only_own_keys_tell_what_existed() -> None:
    script = Script(ids(3, existing=(0, 1)))
    tasks = [NewTask("/a"), NewTask("/b", key="k"), NewTask("/c")]

    pushed = client_of(script).push_many(tasks)

    assert [(one.id, one.existing) for one in pushed] == [("0", False), ("1", True), ("2", False)]
    assert script.calls[0].content_type == "application/x-ndjson"
    assert [json.loads(line)["url"] for line in script.calls[0].body.splitlines()] == [
        "/a",
        "/b",
        "/c",
    ]


def test_failing_slice_tells_what_was_pushed_and_what_was_not() -> None:
    def tasks() -> Iterator[NewTask]:
        for number in range(2 * MAX_TASKS + 5):
            yield NewTask(f"/{number}")

    with pytest.raises(PushFailed) as failed:
        client_of(Script(ids(MAX_TASKS), problem(409, "key-conflict"))).push_many(tasks())

    assert len(failed.value.pushed) == MAX_TASKS
    assert [task.url for task in failed.value.tasks] == [
        f"/{number}" for number in range(MAX_TASKS, 2 * MAX_TASKS + 5)
    ]
    assert isinstance(failed.value.__cause__, Conflict)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (NewTask("/x", json=object()), r"argument tasks\[10001\]\.json: values of object cannot"),
        (
            NewTask("/x", json={"a": [math.nan]}),
            r"argument tasks\[10001\]\.json\.a\[0\]: JSON has",
        ),
        ({"url": "/x"}, r"argument tasks\[10001\]: {'url': '/x'} is not a NewTask"),
        ("/x", r"argument tasks\[10001\]: '/x' is not a NewTask"),
    ],
)
def test_nothing_is_pushed_if_one_of_many_cannot_be_encoded(last: Any, message: str) -> None:
    script = Script()

    with pytest.raises(ArgumentError, match=message):
        client_of(script).push_many([*[NewTask("/")] * (MAX_TASKS + 1), last])

    assert script.calls == []


@pytest.mark.parametrize("count", [0, 1])
def test_refusal_of_one_of_many_has_its_place_in_the_list(count: int) -> None:
    refused = Answer(
        422,
        {},
        json.dumps(
            {
                "type": "urn:poussetaches:problem:invalid-task",
                "detail": "line 3: queue: is not line 3: of anything",
                "errors": [{"field": "line 3: queue", "reason": "no"}, {"field": "line 3"}],
            }
        ).encode(),
    )
    script = Script(*[ids(MAX_TASKS)] * count, refused)

    with pytest.raises((InvalidRequest, PushFailed)) as failed:
        client_of(script).push_many([NewTask("/")] * (count * MAX_TASKS + 5))

    cause = failed.value.__cause__ if count else failed.value
    place = f"tasks[{count * MAX_TASKS + 2}]"
    assert isinstance(cause, InvalidRequest)
    assert cause.detail == f"{place}.queue: is not line 3: of anything"
    assert [error.field for error in cause.errors] == [f"{place}.queue", place]
    assert str(failed.value).endswith(f"422 invalid-task: {cause.detail}")


def test_missing_token_is_told_with_its_variable_and_argument() -> None:
    with pytest.raises(Unauthorized, match=r"; set POUSSETACHES_API_TOKEN, or token= in the code"):
        client_of(Script(problem(401, "unauthorized"))).push("/")


def test_first_slice_that_is_refused_is_a_refusal() -> None:
    with pytest.raises(InvalidRequest):
        client_of(Script(problem(422, "invalid-task"))).push_many([NewTask("")])


def test_pushing_none_makes_no_call() -> None:
    script = Script(NoAnswer())

    assert list(client_of(script).push_many([])) == []
    assert script.calls == []


def test_waiting_goes_on_over_a_restart_of_the_server() -> None:
    ended = {**TASK, "state": "succeeded"}
    script = Script(NoAnswer(), problem(503, "stopping"), answered(200, ended))

    assert client_of(script).wait("1", 100.0).has_ended
    assert [call.query[0][1] for call in script.calls] == ["60.000", "29.950", "29.850"]


def test_waiting_returns_the_task_as_it_is_when_the_time_is_over() -> None:
    assert client_of(Script(answered(200, TASK))).wait("1", 0.0).state == "waiting"


def test_unknown_fields_of_a_newer_server_are_passed_over() -> None:
    task = {**TASK, "new": 1, "reason": "a new one", "retry": {"max_attempts": 1, "new": 2}}

    found = client_of(Script(answered(200, task))).get("1")

    assert (found.reason, found.retry) == ("a new one", {"max_attempts": 1})
