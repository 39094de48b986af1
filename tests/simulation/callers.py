"""Random requests to the simulated server: pushes, edits, queues, schedules, reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from poussetaches.core.moment import SECOND, Moment, moment_of, rfc3339
from tests.integration.asgi import Answered
from tests.simulation.ledger import SERVER, Backoff, Deletion
from tests.simulation.world import RATED_BURST, RATED_RATE, World

QUEUES = ("default", "mail", "reports", "hooks", "slow")
HOSTS = ("app.test:5000", "shop.test:5000", "mail.test:25000", "hooks.test", "old.test:8080")
HEALTHY_ORIGIN = "http://well.test:9000"  # always answers; for callbacks and canaries
CANARIES = "canaries"  # a queue that no operation changes
RATED = "rated"  # a queue with a constant rate
RATED_LIMITS = {"rate": RATED_RATE, "burst": RATED_BURST}
LONG_AGO = Moment(0)
KEY_TTL = 300.0  # seconds
SCHEDULES = ("nightly", "often", "seldom")
RARE = ("30 2 * * *", "@every 36h")  # at most a few hundred runs a year
CRONS = ("@every 7s", "@every 90s", "*/5 * * * *", "@hourly", *RARE)
STATES = ("waiting", "dead", "succeeded", "running")
# Problems that changed nothing, so the request may be repeated.
UNCHANGED_PROBLEMS = ("store-unavailable", "store-full", "busy")
READ_PATHS = (
    *("/v1/tasks", "/v1/tasks?state=dead", "/v1/tasks?queue=mail&state=waiting", "/v1/stats"),
    *("/v1/failures", "/v1/queues", "/v1/schedules", "/metrics", "/waiting", "/dead", "/cron"),
    *("/healthz", "/readyz", "/v1/tasks?text=app.test"),
)


class Callers:
    """Sends requests, and records the server's promises in the ledger."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = world.ledger
        self.clock = world.clock
        self.random = world.random
        self.fail = world.fail

    async def push(self) -> None:
        """Push a task."""
        fields = self._fields()
        begun, begun_at = self.clock.now(), self.clock.monotonic()
        if fields.get("on_conflict") == "replace":
            self.ledger.changed_at = begun_at
        answer = await self._request("POST", "/v1/tasks", fields)
        self._note_refusal(answer, [fields])
        if answer.status == 200:
            self.ledger.seen["push that found an earlier task"] += 1
        if answer.status == 201:
            self._record_push(answer.json, fields, begun)
            self._check_run_at(answer.json, fields, begun, begun_at)

    async def push_batch(self) -> None:
        """Push a batch."""
        pushes = [self._fields() for _ in range(self.random.randint(2, 40))]
        self.ledger.changed_at = self.clock.monotonic()
        begun = self.clock.now()
        answer = await self._request("POST", "/v1/tasks/batch", {"tasks": pushes})
        self._note_refusal(answer, pushes)
        if answer.status in (200, 201):
            existing = set(answer.json["existing"])
            for place, (task_id, fields) in enumerate(
                zip(answer.json["ids"], pushes, strict=True)
            ):
                if place not in existing:
                    self._record_push({"id": task_id}, fields, begun)

    async def push_as_the_original(self) -> None:
        """Push a task, or a schedule, on the original's route."""
        schedule = self.random.choice(("", "", "", "@every 45s", "@every 1h"))
        fields = {
            "url": f"http://{self.random.choice(HOSTS)}/original",
            "payload": "cGF5bG9hZA==",
            "delay": self.random.choice((0, 0, 0, 1, 30)),
            "schedule": schedule,
        }
        answer = await self._request("POST", "/", fields)
        if answer.status == 201 and not schedule:
            promised = {"queue": "default", "delay": fields["delay"]}
            self._record_push({"id": answer.headers["poussetaches-task-id"]}, promised)

    async def limit_the_rated_queue(self) -> None:
        """Set the rate of the queue ``rated``."""
        answer = await self._request("PUT", f"/v1/queues/{RATED}", RATED_LIMITS)
        if answer.status < 300:
            self.ledger.rated.is_limited = True

    async def push_rated(self) -> None:
        """Push some tasks to the queue with a constant rate."""
        if not self.ledger.rated.is_limited:
            await self.limit_the_rated_queue()
            return
        fields = {"url": f"{HEALTHY_ORIGIN}/rated", "queue": RATED}
        tasks = [fields] * self.random.randint(1, 15)
        answer = await self._request("POST", "/v1/tasks/batch", {"tasks": tasks})
        if answer.status == 201:
            for task_id in answer.json["ids"]:
                self._record_push({"id": task_id}, fields)

    def _fields(self) -> dict[str, Any]:
        """Return a push."""
        random = self.random
        shortest, multiplier = random.choice((0.1, 1.0, 7.3333333)), random.choice((1.0, 2.0))
        fields: dict[str, Any] = {
            "url": f"http://{random.choice(HOSTS)}/{random.randint(0, 3)}",
            "queue": random.choice(QUEUES),
            "json": random.randint(0, 9),
            "retry": {
                "max_attempts": random.randint(1, 6),
                "min_backoff": shortest,
                "multiplier": multiplier,
                "max_backoff": 600.0,
                "jitter": 0.0,
            },
        }
        chance = random.random()
        if chance < 0.35:
            # Most are not whole microseconds.
            fields["delay"] = random.choice((random.random(), random.random() * 60, 600.0, 8e6))
        elif chance < 0.4:
            fields["run_at"] = rfc3339(Moment(self.clock.now() + random.randint(-60, 60) * SECOND))
        if random.random() < 0.3:
            fields["priority"] = random.randint(-100, 100)
        if random.random() < 0.1:
            ahead = random.randint(1, 900) * SECOND
            fields["expires_at"] = rfc3339(Moment(self.clock.now() + ahead))
        if random.random() < 0.1:
            fields["timeout"] = random.choice((0.5, 5.0))
        if random.random() < 0.05:
            fields["key"], fields["key_ttl"] = f"key {random.randint(0, 5)}", KEY_TTL
        elif random.random() < 0.05:
            fields["unique"] = f"unique {random.randint(0, 3)}"
            fields["on_conflict"] = random.choice(("keep", "replace"))
        if random.random() < 0.05:
            fields["on_success"] = fields["on_dead"] = f"{HEALTHY_ORIGIN}/told"
        fields["labels"] = {"push": self.ledger.next_push()}
        if random.random() < 0.2:
            fields["labels"]["kind"] = random.choice("xy")
        return fields

    def _note_refusal(self, answer: Answered, pushes: Sequence[dict[str, Any]]) -> None:
        """Record pushes that were refused, or whose outcome is unknown."""
        if answer.status in (503, 507):
            found = self.ledger.refused if _is_unchanged(answer) else self.ledger.unknown
            found.update(push["labels"]["push"] for push in pushes)

    def _record_push(
        self, task: dict[str, Any], fields: dict[str, Any], begun: Moment = LONG_AGO
    ) -> None:
        retry = fields.get("retry")
        backoff = None
        if retry is not None:
            backoff = Backoff(retry["min_backoff"], retry["multiplier"], retry["max_backoff"])
        is_delayed = "run_at" in fields or bool(fields.get("delay"))
        is_immediate = not is_delayed and "unique" not in fields
        self.ledger.acknowledged(task["id"], fields["queue"], backoff, is_immediate=is_immediate)
        if "key" in fields:
            name = (fields["queue"], fields["key"])
            self.ledger.key_accepted(name, task["id"], begun=begun, ttl=KEY_TTL)
        self.world.task_ids.append(task["id"])

    def _check_run_at(
        self, task: dict[str, Any], fields: dict[str, Any], begun: Moment, begun_at: float
    ) -> None:
        delay = fields.get("delay")
        if delay is None or self.clock.jumped_at >= begun_at:
            return
        run_at = moment_of(datetime.fromisoformat(task["run_at"]))
        if run_at < begun + delay * SECOND:
            self.fail(f"task {task['id']} is due before its delay of {delay} s has passed")
        if run_at > self.clock.now() + delay * SECOND + 1:
            self.fail(f"task {task['id']} is due long after its delay of {delay} s has passed")

    async def edit(self) -> None:
        """Edit one task."""
        task_id = self._random_task()
        if task_id is None:
            return
        self._record_change(task_id)
        what = self.random.choice(("patch", "patch", "run", "requeue", "requeue", "cancel"))
        if what == "patch":
            await self._request("PATCH", f"/v1/tasks/{task_id}", self._patch())
        else:
            await self._request("POST", f"/v1/tasks/{task_id}/{what}", None)

    async def delete(self) -> None:
        """Delete one task."""
        task_id = self._random_task()
        if task_id is not None:
            await self._request_deletion(
                lambda id, _: id == task_id, "DELETE", f"/v1/tasks/{task_id}", None
            )

    async def edit_many(self) -> None:
        """Edit all tasks that a filter selects."""
        self.ledger.changed_at = self.clock.monotonic()
        what = self.random.choice(("run", "requeue", "requeue", "cancel"))
        fields: dict[str, object] = {"filter": self._filter()}
        if what in ("run", "requeue") and self.random.random() < 0.3:
            fields["spread"] = self.random.random() * 100
        await self._request("POST", f"/v1/tasks/{what}", fields)

    async def delete_many(self) -> None:
        """Delete all tasks that a filter selects."""
        filter = self._filter()
        queue = filter["queue"]
        await self._request_deletion(
            lambda _, of: of == queue, "POST", "/v1/tasks/delete", {"filter": filter}
        )

    def _filter(self) -> dict[str, object]:
        return {
            "queue": self.random.choice(QUEUES),
            "state": self.random.choice(STATES),
            **({"label": "kind:x"} if self.random.random() < 0.3 else {}),
        }

    def _patch(self) -> dict[str, object]:
        ahead = Moment(self.clock.now() + self.random.randint(0, 300) * SECOND)
        patches: list[dict[str, object]] = [
            {"priority": self.random.randint(-100, 100)},
            {"run_at": rfc3339(ahead)},
            {"json": "another body"},
            {"url": f"http://{self.random.choice(HOSTS)}/patched"},
            {"expires_at": rfc3339(ahead)},
            {"timeout": 3.0, "labels": {"kind": "y"}},
        ]
        return self.random.choice(patches)

    def _random_task(self) -> str | None:
        if not self.world.task_ids:
            return None
        # Prefer recent tasks: they are more often still waiting or running.
        place = min(int(self.random.expovariate(0.05)), len(self.world.task_ids) - 1)
        return self.world.task_ids[-1 - place]

    def _record_change(self, task_id: str) -> None:
        entry = self.ledger.entries.get(task_id)
        if entry is not None:
            entry.changed_at = self.clock.monotonic()

    async def set_queue(self) -> None:
        """Change the limits of a queue."""
        limits = {
            "concurrency": self.random.choice((None, 1, 3, 20)),
            "rate": self.random.choice((None, None, "2/s", "50/s", "30/min")),
            "burst": self.random.choice((None, 1, 5)),
            "origin_concurrency": self.random.choice((None, None, 1, 2)),
            "keep_succeeded": self.random.choice((None, {"count": 3}, {"age": 60})),
        }
        await self._request("PATCH", f"/v1/queues/{self.random.choice(QUEUES)}", limits)

    async def pause(self) -> None:
        """Pause a queue, or the server."""
        name = self.random.choice((SERVER, *QUEUES))
        path = "/v1/pause" if name is SERVER else f"/v1/queues/{name}/pause"
        begun = self.ledger.pauses.begin(name)
        answer = await self._request("POST", path, None)
        if answer.status == 200:
            self.ledger.seen["pause"] += 1
            self.ledger.pauses.answered(name, begun, self.clock.monotonic())

    async def resume(self) -> None:
        """Resume a queue, or the server."""
        await self.resume_one(self.random.choice((SERVER, *QUEUES)))

    async def resume_one(self, name: str) -> Answered:
        """Resume the named queue, or the server."""
        path = "/v1/resume" if name is SERVER else f"/v1/queues/{name}/resume"
        with self.ledger.pauses.resumes(name):
            return await self._request("POST", path, None)

    async def purge(self) -> None:
        """Purge a queue."""
        queue = self.random.choice(QUEUES)
        await self._request_deletion(
            lambda _, of: of == queue, "POST", f"/v1/queues/{queue}/purge", None
        )

    async def delete_queue(self) -> None:
        """Delete a queue, which is refused if it has tasks."""
        queue = self.random.choice(QUEUES)
        with self.ledger.pauses.resumes(queue):
            await self._request_deletion(
                lambda _, of: of == queue, "DELETE", f"/v1/queues/{queue}", None
            )

    async def schedule(self) -> None:
        """Create, change, run or delete a schedule."""
        name = self.random.choice(SCHEDULES)
        path = f"/v1/schedules/{name}"
        what = self.random.choice(("put", "put", "pause", "resume", "run", "delete", "cron"))
        if what == "put":
            await self._request("PUT", path, self._schedule_fields())
        elif what == "delete":
            await self._request("DELETE", path, None)
        elif what == "cron":
            answer = await self._request("DELETE", "/cron", None)
            self.ledger.seen["DELETE /cron"] += answer.status == 200
        else:
            await self._request("POST", f"{path}/{what}", None)

    def _schedule_fields(self) -> dict[str, object]:
        misfire = self.random.choice(("once", "skip", "all"))
        return {
            "cron": self.random.choice(RARE if misfire == "all" else CRONS),
            "timezone": self.random.choice(("UTC", "Europe/Paris", "America/New_York")),
            "misfire": misfire,
            "overlap": self.random.choice(("skip", "allow")),
            "task": {
                "url": f"http://{self.random.choice(HOSTS)}/run",
                "queue": self.random.choice(QUEUES),
                "retry": {"max_attempts": 2, "min_backoff": 1, "max_backoff": 600},
            },
        }

    async def read(self) -> None:
        """Read something."""
        task_id = self._random_task()
        paths = READ_PATHS if task_id is None else (*READ_PATHS, f"/v1/tasks/{task_id}")
        await self._request("GET", self.random.choice(paths), None)

    async def push_canary(self) -> str | None:
        """Push a task that no limit delays; return its id."""
        fields = {"url": f"{HEALTHY_ORIGIN}/canary", "queue": CANARIES}
        answer = await self._request("POST", "/v1/tasks", fields)
        if answer.status != 201:
            return None
        self._record_push(answer.json, fields)
        task_id: str = answer.json["id"]
        return task_id

    async def _request_deletion(
        self, covers: Callable[[str, str], bool], method: str, path: str, body: object
    ) -> None:
        """Send a request that deletes tasks; without an answer, they may be deleted or not."""
        deletion = Deletion(covers)
        self.ledger.deletion_requested(deletion)
        answer = await self._request(method, path, body)
        if answer.status < 500 or _is_unchanged(answer):
            self.ledger.deletions.discard(deletion)

    async def _request(self, method: str, path: str, body: object) -> Answered:
        answer = await self.world.request(method, path, body)
        self.ledger.seen[f"answer {answer.status}"] += 1
        if answer.status >= 500 and answer.status not in (503, 507):
            self.fail(f"{method} {path} was answered with {answer.status}: {answer.body[:500]!r}")
        if answer.status in (400, 405, 413, 415, 422):
            self.fail(f"{method} {path} {body} was refused: {answer.body[:500]!r}")
        return answer


def _is_unchanged(answer: Answered) -> bool:
    """Return whether a problem says that nothing was changed."""
    return (
        answer.status in (503, 507)
        and answer.json["type"].rpartition(":")[2] in UNCHANGED_PROBLEMS
    )
