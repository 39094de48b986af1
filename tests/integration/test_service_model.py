"""The API, the engine and the store together against a plain model, driven at random."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poussetaches.core.moment import Moment, rfc3339
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import Answered, request
from tests.integration.service import Service
from tests.integration.service_model import BACKOFF, DEAD_ON, EVERY, MULTIPLIER, Known, Model

R = TypeVar("R")

BASE = "http://app.test"
QUEUES = ("default", "mail")
PATHS = ("/a", "/b", "/c")
LABELS = ("x", "y")
EXACT = {"min_backoff": BACKOFF, "multiplier": MULTIPLIER, "jitter": 0}
SCHEDULE = {
    "cron": f"@every {EVERY}s",
    "task": {"url": f"{BASE}/a", "retry": {"max_attempts": 2, **EXACT}},
}

pushes = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "path": st.sampled_from(PATHS),
        "body": st.sampled_from([1, 2]),
        "delay": st.sampled_from([0, 0, 0, 30]),
        "max_attempts": st.integers(1, 3),
        "expires_in": st.sampled_from([None, None, None, 25, 100]),
        "label": st.sampled_from([None, *LABELS]),
        "once": st.sampled_from(
            [
                *([{}] * 4),
                {"key": "k"},
                {"unique": "u"},
                {"unique": "u", "on_conflict": "replace"},
            ]
        ),
    }
)

# A filter as the API takes it, and as the model does.
FILTERS: dict[str, tuple[dict[str, object], Callable[[Known], bool]]] = {
    "dead": ({"state": "dead"}, lambda task: task.state == "dead"),
    "waiting in mail": (
        {"state": "waiting", "queue": "mail"},
        lambda task: (task.state, task.queue) == ("waiting", "mail"),
    ),
    "ended": ({"state": "dead,succeeded"}, lambda task: task.has_ended),
    "failing": ({"failing": True}, lambda task: task.is_failing),
    "label": ({"label": "kind:x"}, lambda task: task.label == "x"),
    "url": ({"url": f"{BASE}/b"}, lambda task: task.path == "/b"),
    "exhausted": ({"reason": "exhausted"}, lambda task: task.reason == "exhausted"),
    "runs": ({"schedule": "s"}, lambda task: task.schedule == "s"),
    "text": ({"text": "APP.test/c"}, lambda task: task.path == "/c"),
}
EDITS = ("run", "requeue", "cancel", "delete")


class ServiceAgainstModel(RuleBasedStateMachine):
    """Calls the service and the model alike, and compares all that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="poussetaches-")
        self.clock, self.sender, self.random = FakeClock(), ScriptedSender(), seeded()
        self.model = Model(now=self.clock.now())
        self.service = self.opened()

    def wait_for(self, call: Coroutine[Any, Any, R]) -> R:
        """Wait for the end of a call."""
        return self.loop.run_until_complete(call)

    def opened(self) -> Service:
        """Open the service on its folder."""
        path = Path(self.folder.name) / "tasks.db"
        return self.wait_for(
            Service.opened(path, clock=self.clock, sender=self.sender, random=self.random)
        )

    def ask(self, method: str, path: str, body: object = None) -> Answered:
        """Make a request."""
        return self.wait_for(request(self.service.app, method, path, body))

    def answered(self, expected: int, method: str, path: str, body: object = None) -> Any:
        """Make a request that must have a status; return the body of its answer."""
        answer = self.ask(method, path, body)
        assert answer.status == expected, (method, path, body, answer)
        return answer.json if answer.body else None

    @initialize()
    def configure(self) -> None:
        """Have one queue with settings of its own."""
        self.answered(201, "PUT", "/v1/queues/mail", {"retry": {"dead_on": [DEAD_ON]}})

    def teardown(self) -> None:
        """Close the service."""
        self.wait_for(self.service.close())
        self.loop.close()
        self.folder.cleanup()

    # What applications do

    @rule(push=pushes)
    def push(self, push: dict[str, Any]) -> None:
        """Push a task, perhaps one that was pushed before."""
        queue, once = push["queue"], push["once"]
        key, unique = once.get("key"), once.get("unique")
        answer = self.ask("POST", "/v1/tasks", self.fields_of(push))
        content = (push["path"], push["body"])

        if key and (queue, key) in self.model.keys:
            id, known = self.model.keys[queue, key]
            assert answer.status == (200 if known == content else 409), answer
            if known == content:
                state = self.model.tasks[id].state if id in self.model.tasks else "pruned"
                assert (answer.json["id"], answer.json["state"]) == (id, state)
            return
        standing = self.model.waiting_with(queue, unique) if unique else None
        if standing is not None:
            assert (answer.status, answer.json["id"]) == (200, standing.id)
            if "on_conflict" in once:
                run_at = self.model.now + push["delay"] * 1_000_000
                self.model.change(standing.id, body=push["body"], run_at=run_at)
            return
        assert answer.status == 201, answer
        self.model.add(self.known(answer.json["id"], push))
        if key:
            self.model.keys[queue, key] = (answer.json["id"], content)

    @rule(first=pushes, second=pushes)
    def push_both(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        """Push two tasks in a batch."""
        plain = [{**push, "once": {}} for push in (first, second)]
        tasks = [self.fields_of(push) for push in plain]
        ids = self.answered(201, "POST", "/v1/tasks/batch", {"tasks": tasks})["ids"]

        for id, push in zip(ids, plain, strict=True):
            self.model.add(self.known(id, push))

    def fields_of(self, push: dict[str, Any]) -> dict[str, object]:
        """Return a push as the API takes it."""
        fields: dict[str, object] = {
            "queue": push["queue"],
            "url": BASE + push["path"],
            "json": push["body"],
            "delay": push["delay"],
            "retry": {"max_attempts": push["max_attempts"], **EXACT},
            **push["once"],
        }
        if push["expires_in"] is not None:
            moment = Moment(self.model.now + push["expires_in"] * 1_000_000)
            fields["expires_at"] = rfc3339(moment)
        if push["label"] is not None:
            fields["labels"] = {"kind": push["label"]}
        return fields

    def known(self, id: str, push: dict[str, Any]) -> Known:
        """Return a push as the model knows it."""
        expires_in = push["expires_in"]
        return Known(
            id=id,
            queue=push["queue"],
            path=push["path"],
            body=push["body"],
            order=self.model.next_order(),
            run_at=self.model.now + push["delay"] * 1_000_000,
            max_attempts=push["max_attempts"],
            expires_at=None if expires_in is None else self.model.now + expires_in * 1_000_000,
            label=push["label"],
            key=push["once"].get("key"),
            unique=push["once"].get("unique"),
        )

    @rule(path=st.sampled_from(PATHS), status=st.sampled_from([200, 500, DEAD_ON]))
    def application_changes(self, path: str, status: int) -> None:
        """Have the application answer differently from now on."""
        self.sender.always(status, to=BASE + path)
        self.model.replies[path] = status

    # What people do

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), edit=st.sampled_from(EDITS))
    def edit_one(self, data: st.DataObject, edit: str) -> None:
        """Run, requeue, cancel or delete a task."""
        task = self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]
        is_allowed = self.allows(edit, task)
        if edit == "delete":
            self.answered(204, "DELETE", f"/v1/tasks/{task.id}")
        else:
            self.answered(200 if is_allowed else 409, "POST", f"/v1/tasks/{task.id}/{edit}")
        if is_allowed:
            self.apply(edit, task)

    @rule(edit=st.sampled_from(EDITS), name=st.sampled_from(sorted(FILTERS)))
    def edit_many(self, edit: str, name: str) -> None:
        """Run, requeue, cancel or delete all tasks of a filter."""
        filter, is_meant = FILTERS[name]
        meant = list(self.model.selected(is_meant))
        done = self.answered(200, "POST", f"/v1/tasks/{edit}", {"filter": filter})

        allowed = [task for task in meant if self.allows(edit, task)]
        assert done["count"] == len(allowed)
        assert sum(skipped["count"] for skipped in done["skipped"]) == len(meant) - len(allowed)
        for task in allowed:
            self.apply(edit, task)

    def allows(self, edit: str, task: Known) -> bool:
        """Tell whether a task's state allows an edit."""
        if edit == "delete":
            return True
        return task.has_ended if edit == "requeue" else task.state == "waiting"

    def apply(self, edit: str, task: Known) -> None:
        """Have the model make an edit."""
        match edit:
            case "run":
                self.model.run(task, self.model.now)
            case "requeue":
                self.model.requeue(task, self.model.now)
            case "cancel":
                self.model.cancel(task)
            case "delete":
                del self.model.tasks[task.id]

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), path=st.sampled_from(PATHS), label=st.sampled_from([None, *LABELS]))
    def patch(self, data: st.DataObject, path: str, label: str | None) -> None:
        """Change where a task goes, and its label."""
        task = self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]
        status = 409 if task.state == "succeeded" else 200
        patch = {"url": BASE + path, "labels": {"kind": label}}
        self.answered(status, "PATCH", f"/v1/tasks/{task.id}", patch)

        if status == 200:
            self.model.change(task.id, path=path, label=label)

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause_queue(self, queue: str, paused: bool) -> None:
        """Pause or resume a queue."""
        self.answered(200, "PATCH", f"/v1/queues/{queue}", {"concurrency": 8})
        self.answered(200, "POST", f"/v1/queues/{queue}/{'pause' if paused else 'resume'}")
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    @rule(paused=st.booleans())
    def pause_server(self, paused: bool) -> None:
        """Pause or resume the server."""
        self.answered(200, "POST", "/v1/pause" if paused else "/v1/resume")
        self.model.server_paused = paused

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        """Delete what waits in a queue."""
        count = self.answered(200, "POST", f"/v1/queues/{queue}/purge")["count"]

        waiting = [
            task
            for task in self.model.tasks.values()
            if (task.queue, task.state) == (queue, "waiting")
        ]
        assert count == len(waiting)
        for task in waiting:
            del self.model.tasks[task.id]

    @rule()
    def put_schedule(self) -> None:
        """Declare the schedule, which changes nothing when it is known."""
        is_new = self.model.next_run_at is None
        self.answered(201 if is_new else 200, "PUT", "/v1/schedules/s", SCHEDULE)
        if is_new:
            self.model.next_run_at = self.model.now + EVERY * 1_000_000

    @precondition(lambda self: self.model.next_run_at is not None)
    @rule()
    def run_schedule(self) -> None:
        """Make a run of the schedule by hand."""
        self.add_run(self.answered(201, "POST", "/v1/schedules/s/run")["id"])

    @precondition(lambda self: self.model.next_run_at is not None)
    @rule()
    def delete_schedule(self) -> None:
        """Delete the schedule with its waiting runs."""
        self.answered(204, "DELETE", "/v1/schedules/s")
        self.model.next_run_at = None
        for task in list(self.model.tasks.values()):
            if task.schedule and task.state == "waiting":
                del self.model.tasks[task.id]

    def add_run(self, id: str) -> None:
        """Have the model add a run of the schedule."""
        order = self.model.next_order()
        self.model.add(Known(id, "default", "/a", self.model.now, order, 2, schedule="s"))

    # What happens by itself

    @rule(seconds=st.sampled_from([0, 1, 10, 30, 100]))
    def wait(self, seconds: int) -> None:
        """Let time pass, and all that is due be done."""
        self.clock.advance(seconds)
        self.model.now = self.clock.now()
        self.wait_for(self.service.settle())

        self.model.expire()
        if self.model.fires():
            self.add_run(self.answered(200, "GET", "/v1/schedules/s")["last_task_id"])
        self.model.settle()

    @rule()
    def restart(self) -> None:
        """Stop the service, and start it on the same folder."""
        self.wait_for(self.service.close())
        self.service = self.opened()

    # What is compared

    @invariant()
    def tasks_are_the_same(self) -> None:
        """Compare every task."""
        found = self.answered(200, "GET", "/v1/tasks?limit=1000")["tasks"]

        expected = [seen(task) for task in self.model.selected(lambda _: True)]
        assert [{name: task[name] for name in SEEN} for task in found] == expected

    @invariant()
    def filters_select_the_same(self) -> None:
        """Compare the lists of all filters, two tasks a page."""
        for name, (filter, is_meant) in FILTERS.items():
            query = "&".join(f"{field}={value}" for field, value in filter.items())
            page = self.answered(200, "GET", f"/v1/tasks?limit=2&{query.lower()}")
            ids = [task["id"] for task in page["tasks"]]
            while page["next_cursor"] is not None:
                further = f"limit=2&{query.lower()}&cursor={page['next_cursor']}"
                page = self.answered(200, "GET", f"/v1/tasks?{further}")
                ids += [task["id"] for task in page["tasks"]]
            assert ids == [task.id for task in self.model.selected(is_meant)], name

    @invariant()
    def counts_are_the_same(self) -> None:
        """Compare the counts of the queues, and of the failure groups."""
        queues = self.answered(200, "GET", "/v1/queues")["queues"]
        counts = {
            queue["name"]: {state: count for state, count in queue["counts"].items() if count}
            for queue in queues
        }
        expected = {
            queue: {state: count for state, count in counts.items() if count}
            for queue, counts in self.model.counts().items()
        }
        assert {name: count for name, count in counts.items() if count} == expected
        groups: dict[tuple[str, str, int | None], int] = {}
        for group in self.answered(200, "GET", "/v1/failures?state=dead")["groups"]:
            key = (group["queue"], group["url_path"], group["status"])
            groups[key] = groups.get(key, 0) + group["count"]
        assert groups == self.model.failures()


SEEN = (
    *("id", "queue", "url", "state", "reason", "run_at", "round", "attempt_count"),
    *("last_status", "expires_at", "labels", "unique", "key", "schedule"),
)


def seen(task: Known) -> dict[str, object]:
    """Return what the API should show of a task."""
    return {
        "id": task.id,
        "queue": task.queue,
        "url": BASE + task.path,
        "state": task.state,
        "reason": task.reason,
        "run_at": rfc3339(Moment(task.run_at)),
        "round": task.round,
        "attempt_count": task.attempt_count,
        "last_status": task.last_status,
        "expires_at": None if task.expires_at is None else rfc3339(Moment(task.expires_at)),
        "labels": {} if task.label is None else {"kind": task.label},
        "unique": task.unique,
        "key": task.key,
        "schedule": task.schedule,
    }


ServiceAgainstModel.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,  # how long a step takes is the machine's affair
    derandomize=True,  # the same each time: a failure is the change's that it is seen with
    suppress_health_check=[HealthCheck.too_slow],
)
TestServiceAgainstModel = ServiceAgainstModel.TestCase
