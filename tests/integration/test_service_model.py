"""The API, the engine and the store together against a plain model, driven at random."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poussetaches.core.moment import Moment, rfc3339
from poussetaches.engine.request import Request
from tests.effort import examples
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import Answered, request
from tests.integration.service import Service
from tests.integration.service_calls import (
    BASE,
    FILTERS,
    PATHS,
    QUEUES,
    SCHEDULE,
    SEEN,
    attempts,
    crowds,
    patch_fields,
    patched,
    patches,
    push_fields,
    pushed,
    pushes,
    seen,
)
from tests.integration.service_model import DEAD_ON, Known, Model, Standing, Tried

R = TypeVar("R")

EDITS = ("run", "requeue", "requeue", "cancel", "delete")
LIMITS = st.sampled_from([1, 2, 8])  # of attempts at once
# Seconds that pass after something was done: rules that only wait would be too rare.
THEN = st.sampled_from([None, 0, 10, 30, 100])


class ServiceAgainstModel(RuleBasedStateMachine):
    """Makes the same calls to the service and the model, and compares everything visible."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="poussetaches-")
        self.clock, self.sender, self.random = FakeClock(), ScriptedSender(), seeded()
        self.model = Model(now=self.clock.now())
        self.service = self.opened()
        self.watching: dict[str, asyncio.Task[Answered]] = {}  # requests for tasks' ends

    def wait_for(self, call: Coroutine[Any, Any, R]) -> R:
        """Wait for the end of a call."""
        return self.loop.run_until_complete(call)

    def opened(self) -> Service:
        """Open the service on its folder."""
        path = Path(self.folder.name) / "tasks.db"
        return self.wait_for(
            Service.opened(path, clock=self.clock, sender=self.sender, random=self.random)
        )

    def closed(self) -> None:
        """Close the service, and cancel the requests that wait for a task."""
        for watching in self.watching.values():
            watching.cancel()
        self.wait_for(let_run())
        self.watching.clear()
        self.wait_for(self.service.close())

    def ask(self, method: str, path: str, body: object = None) -> Answered:
        """Make a request."""
        return self.wait_for(request(self.service.app, method, path, body))

    def answered(self, expected: int, method: str, path: str, body: object = None) -> Any:
        """Make a request that must have a status; return the body of its answer."""
        answer = self.ask(method, path, body)
        assert answer.status == expected, (method, path, body, answer)
        return answer.json if answer.body else None

    def drawn(self, data: st.DataObject) -> Known:
        """Return one of the tasks."""
        return self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]

    @initialize(many=crowds)
    def begin(self, many: list[dict[str, Any]]) -> None:
        """Create a queue with its own settings, and some tasks."""
        self.answered(201, "PUT", "/v1/queues/mail", {"retry": {"dead_on": [DEAD_ON]}})
        self.push_many(many)

    def teardown(self) -> None:
        """Close the service."""
        self.closed()
        self.loop.close()
        self.folder.cleanup()

    @rule(push=pushes)
    def push(self, push: dict[str, Any]) -> None:
        """Push a task, perhaps one that was pushed before."""
        queue, once = push["queue"], push["once"]
        key, unique = once.get("key"), once.get("unique")
        answer = self.ask("POST", "/v1/tasks", push_fields(push, now=self.model.now))
        content = (push["path"], push["body"])

        known = self.model.standing_for(queue, key) if key else None
        if known is not None:
            assert answer.status == (200 if known.content == content else 409), answer
            if known.content == content:
                state = self.model.tasks[known.id].state if known.id in self.model.tasks else None
                assert (answer.json["id"], answer.json["state"]) == (known.id, state or "pruned")
            return
        waiting = self.model.waiting_with(queue, unique) if unique else None
        if waiting is not None:
            assert (answer.status, answer.json["id"]) == (200, waiting.id)
            if "on_conflict" in once:
                run_at = self.model.after(push["delay"])
                self.model.change(waiting.id, body=push["body"], run_at=run_at)
            return
        assert answer.status == 201, answer
        self.model.add(pushed(answer.json["id"], push, self.model))
        if key:
            until = self.model.after(once["key_ttl"])
            self.model.keys[queue, key] = Standing(answer.json["id"], content, until)

    @rule(many=crowds, then=THEN)
    def push_many(self, many: list[dict[str, Any]], then: int | None = None) -> None:
        """Push tasks in a batch."""
        plain = [{**push, "once": {}} for push in many]
        tasks = [push_fields(push, now=self.model.now) for push in plain]
        ids = self.answered(201, "POST", "/v1/tasks/batch", {"tasks": tasks})["ids"]

        for id, push in zip(ids, plain, strict=True):
            self.model.add(pushed(id, push, self.model))
        self.pass_time(then)

    @rule(path=st.sampled_from(PATHS), status=st.sampled_from([500, 500, 200, DEAD_ON]))
    def application_changes(self, path: str, status: int) -> None:
        """Change the answers of the application."""
        self.sender.always(status, to=BASE + path)
        self.model.replies[path] = status

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data())
    def watch(self, data: st.DataObject) -> None:
        """Wait for the end of a task."""
        id = self.drawn(data).id
        if id not in self.watching:
            watching = request(self.service.app, "GET", f"/v1/tasks/{id}?wait=60")
            self.watching[id] = self.loop.create_task(watching)

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), edit=st.sampled_from(EDITS), patch=st.none() | patches, then=THEN)
    def edit_one(
        self, data: st.DataObject, edit: str, patch: dict[str, Any] | None, then: int | None
    ) -> None:
        """Run or requeue a task, perhaps with a patch; cancel or delete it."""
        task = self.drawn(data)
        is_allowed = self.allows(edit, task)
        carried = patch if edit in ("run", "requeue") else None
        if edit == "delete":
            self.answered(204, "DELETE", f"/v1/tasks/{task.id}")
        else:
            body = None if carried is None else patch_fields(carried, now=self.model.now)
            status = 200 if is_allowed else 409
            self.answered(status, "POST", f"/v1/tasks/{task.id}/{edit}", body)
        if is_allowed:
            self.apply(edit, task, self.model.now)
            if carried:
                self.model.change(task.id, **patched(carried, self.model))
        self.pass_time(then)

    @rule(
        edit=st.sampled_from(EDITS),
        name=st.sampled_from(sorted(FILTERS)),
        spread=st.sampled_from([7, 7, None]),
        patch=patches,
        is_dry=st.sampled_from([False, False, True]),
    )
    def edit_many(
        self, edit: str, name: str, spread: int | None, patch: dict[str, Any], is_dry: bool
    ) -> None:
        """Run, requeue, cancel or delete all tasks of a filter, or make a dry run of that."""
        filter, is_meant = FILTERS[name]
        meant = self.model.selected(is_meant)[::-1]
        call: dict[str, object] = {"filter": filter, "dry_run": is_dry}
        carried: dict[str, Any] = {}
        if edit in ("run", "requeue"):
            carried = {field: patch[field] for field in patch if field != "run_in"}
            call |= {"set": patch_fields(carried, now=self.model.now), "spread": spread}
        done = self.answered(200, "POST", f"/v1/tasks/{edit}", call)

        allowed = [task for task in meant if self.allows(edit, task)]
        assert done["count"] == len(allowed)
        assert sum(skipped["count"] for skipped in done["skipped"]) == len(meant) - len(allowed)
        for place, task in enumerate(meant):
            if task in allowed and not is_dry:
                self.apply(edit, task, self.model.after((spread or 0) * place / len(meant)))
                if carried:
                    self.model.change(task.id, **patched(carried, self.model))

    def allows(self, edit: str, task: Known) -> bool:
        """Return whether a task's state allows an edit."""
        if edit == "delete":
            return True
        return task.has_ended if edit == "requeue" else task.state == "waiting"

    def apply(self, edit: str, task: Known, at: int) -> None:
        """Make an edit in the model."""
        match edit:
            case "run":
                self.model.run(task, at)
            case "requeue":
                self.model.requeue(task, at)
            case "cancel":
                self.model.cancel(task)
            case "delete":
                self.model.delete(task)

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), patch=patches)
    def patch(self, data: st.DataObject, patch: dict[str, Any]) -> None:
        """Change a task."""
        task = self.drawn(data)
        fields = patch_fields(patch, now=self.model.now)
        status = 409 if task.state == "succeeded" else 200
        self.answered(status, "PATCH", f"/v1/tasks/{task.id}", fields)

        if status == 200:
            self.model.change(task.id, **patched(patch, self.model))

    @rule(queue=st.sampled_from(QUEUES), most=attempts, limit=LIMITS)
    def set_queue(self, queue: str, most: int | None, limit: int) -> None:
        """Change a queue's settings."""
        fields = {"retry": {"max_attempts": most}, "concurrency": limit}
        self.answered(200, "PATCH", f"/v1/queues/{queue}", fields)
        self.model.max_attempts[queue] = most

    @rule(queue=st.sampled_from(QUEUES), action=st.sampled_from(["pause", "resume", "purge"]))
    def act_on_queue(self, queue: str, action: str) -> None:
        """Pause, resume or purge a queue."""
        answer = self.answered(200, "POST", f"/v1/queues/{queue}/{action}")
        if action == "pause":
            self.model.paused.add(queue)
        elif action == "resume":
            self.model.paused.discard(queue)
        else:
            assert answer["count"] == self.model.purge(queue)

    @rule(paused=st.booleans())
    def pause_server(self, paused: bool) -> None:
        """Pause or resume the server."""
        self.answered(200, "POST", "/v1/pause" if paused else "/v1/resume")
        self.model.server_paused = paused

    @rule(
        action=st.sampled_from(["put", "put", "run", "pause", "pause", "resume", "delete"]),
        then=THEN,
    )
    def act_on_schedule(self, action: str, then: int | None) -> None:
        """Declare the schedule, make a run of it by hand, pause, resume or delete it."""
        path, is_known = "/v1/schedules/s", self.model.next_run_at is not None
        match action:
            case "put":
                self.answered(200 if is_known else 201, "PUT", path, SCHEDULE)
                self.model.put_schedule()
            case _ if not is_known:
                return
            case "run":
                self.model.add_run(self.answered(201, "POST", f"{path}/run")["id"])
            case "pause":
                self.answered(200, "POST", f"{path}/pause")
                self.model.schedule_paused = True
            case "resume":
                self.pass_time(then)
                self.answered(200, "POST", f"{path}/resume")
                self.model.resume_schedule()
            case "delete":
                self.answered(204, "DELETE", path)
                self.model.delete_schedule()
        self.pass_time(then)

    @rule(seconds=st.sampled_from([0, 1, 10, 30, 100]))
    def pass_time(self, seconds: int | None) -> None:
        """Advance the time, and check that due attempts run in order within each lane."""
        if seconds is None:
            return
        self.sender.requests.clear()
        self.wait_for(self.service.advance(seconds))

        runs = self.answered(200, "GET", "/v1/tasks?schedule=s&limit=1000")["tasks"]
        new = [run["id"] for run in reversed(runs) if run["id"] not in self.model.tasks]
        expected = self.model.advance(seconds, iter(new))
        tried = received(self.sender.requests)
        assert len(tried) == sum(map(len, expected.values()))
        for lane in expected.values():
            assert [one for one in tried if one in lane] == lane

    @rule()
    def restart(self) -> None:
        """Stop the service, and start it on the same folder."""
        self.closed()
        self.service = self.opened()

    @invariant()
    def tasks_are_the_same(self) -> None:
        """Compare every task."""
        found = self.answered(200, "GET", "/v1/tasks?limit=1000")["tasks"]

        expected = [seen(task) for task in self.model.selected(lambda _: True)]
        assert [{name: task[name] for name in SEEN} for task in found] == expected

    @rule()
    def look_through_filters(self) -> None:
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

    @invariant()
    def schedule_is_the_same(self) -> None:
        """Compare the next occurrence of the schedule."""
        found = self.answered(200, "GET", "/v1/schedules")["schedules"]
        is_known = self.model.next_run_at is not None

        assert [one["paused"] for one in found] == [self.model.schedule_paused] * is_known
        if is_known and not self.model.schedule_paused:
            assert found[0]["next_runs"][0]["utc"] == rfc3339(Moment(self.model.next_run_at or 0))

    @invariant()
    def watched_tasks_are_answered_at_their_end(self) -> None:
        """Check that exactly the requests whose task has ended or was deleted were answered."""
        self.wait_for(let_run())
        for id, watching in list(self.watching.items()):
            task = self.model.tasks.get(id)
            assert watching.done() == (task is None or task.has_ended), task
            if watching.done():
                answer = self.watching.pop(id).result()
                assert answer.status == (404 if task is None else 200)
                assert task is None or answer.json["state"] == task.state


def received(requests: Sequence[Request]) -> list[Tried]:
    """Return the attempts that the receiver saw, in order."""
    return [
        Tried(
            id=request.headers["Poussetaches-Task-ID"],
            path=request.url.removeprefix(BASE),
            body=json.loads(request.body) if request.body else None,
            round=int(request.headers["Poussetaches-Round"]),
            number=int(request.headers["Poussetaches-Attempt"]),
        )
        for request in requests
    ]


ServiceAgainstModel.TestCase.settings = settings(
    max_examples=examples(40),
    stateful_step_count=30,
    deadline=None,  # how long a step takes is the machine's affair
    derandomize=True,  # the same each time: a failure is the change's that it is seen with
    suppress_health_check=[HealthCheck.too_slow],
)
TestServiceAgainstModel = ServiceAgainstModel.TestCase
