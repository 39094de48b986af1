"""Health, statistics and metrics, for those who run the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, answer, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import unavailable
from poussetaches.api.views import shown
from poussetaches.core.errors import QueueNotFound
from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.queue import Name, QueueCounts, total_of
from poussetaches.core.responses import HeldOrigin, MinuteResponse, StatsResponse, StoreState
from poussetaches.core.task import TaskState
from poussetaches.core.task_fields import ShownTime
from poussetaches.engine.stats import ALL_QUEUES, Stats
from poussetaches.store.base import Store
from poussetaches.store.minute_row import MinuteRow

TAG = "Operations"
MOST_MINUTES = 1440  # a day: the store keeps no more


class Health(msgspec.Struct, frozen=True):
    """All is well."""

    status: Literal["ok"] = "ok"


class Liveness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The server works. Counts begin at its start, and are left out while they are 0."""

    status: Literal["ok"]
    unreadable_rows: int = 0  # rows set aside because they could not be read
    internal_errors: int = 0  # such as those that ended a task or an attempt
    shortage: str | None = None  # the resource that attempts lacked within the last minute


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many minutes to look back, and at which queue."""

    minutes: Annotated[int, Meta(ge=1, le=MOST_MINUTES)] = 60
    queue: Name | None = None


class StoreView(StoreState, frozen=True, kw_only=True):
    """How the store does."""


class MinuteView(MinuteResponse[ShownTime], frozen=True, kw_only=True):
    """What happened in the minute that began at ``minute``. Spans are seconds."""


class StatsView(StatsResponse[ShownTime], frozen=True, kw_only=True):
    """The server at a glance. Counts, age and minutes are of the queue that was asked for."""

    counts: QueueCounts
    held_origins: list[HeldOrigin]
    store: StoreView
    minutes: list[MinuteView]


class Operations:
    """Serves what those who run the server look at. ``pruned`` tells the tasks pruned so far."""

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        stats: Stats,
        pruned: Mapping[TaskState, int],
        dropped_log_lines: Callable[[], int],
        now: Callable[[], Moment],
    ) -> None:
        self._store = store
        self._engine = engine
        self._stats = stats
        self._pruned = pruned
        self._dropped_log_lines = dropped_log_lines
        self._now = now

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints."""
        return [
            Endpoint(
                method="GET",
                path="/healthz",
                handler=self.healthz,
                is_open=True,
                summary="Tell whether the server does its work; if not, a restart would cure it",
                tag=TAG,
                answers={200: Liveness},
                problems=[503],
            ),
            Endpoint(
                method="GET",
                path="/readyz",
                handler=self.readyz,
                is_open=True,
                summary="Tell whether the store can be written and is whole",
                tag=TAG,
                answers={200: Health},
                problems=[503],
            ),
            Endpoint(
                method="GET",
                path="/v1/stats",
                handler=self.stats,
                summary="Show the server at a glance, and what happened in the last minutes",
                tag=TAG,
                query=StatsQuery,
                answers={200: StatsView},
                problems=[404, 503],
            ),
            Endpoint(
                method="GET",
                path="/metrics",
                handler=self.metrics,
                summary="Show the numbers that Prometheus collects",
                tag=TAG,
                answers={200: str},
                answer_media_type="text/plain",
                problems=[503],
            ),
        ]

    async def healthz(self, request: Request) -> Response:
        """Answer 503 only for what a restart can cure."""
        stuck = self._engine.stuck()
        if stuck:
            raise unavailable("stuck", "; ".join(stuck))
        store, engine = self._store, self._engine
        return answer(
            Liveness(
                status="ok",
                unreadable_rows=store.unreadable_count,
                internal_errors=store.internal_error_count + engine.internal_error_count,
                shortage=engine.shortage,
            )
        )

    async def readyz(self, request: Request) -> Response:
        """Answer 503 while the store is in trouble, or holds a row that nobody could read."""
        trouble, unreadable = self._store.trouble, self._store.unreadable_count
        if trouble is not None:
            raise unavailable(
                "store-full" if trouble.full else "store-unavailable", trouble.reason
            )
        if unreadable:
            detail = (
                f"{unreadable} unreadable rows were set aside since the start; the log names "
                "them, the table unreadable has them, a restart takes note of them"
            )
            raise unavailable("unreadable-rows", detail)
        return answer(Health())

    async def stats(self, request: Request) -> Response:
        """Show how the server does, and how one queue or all have done lately."""
        query = read_query(request, StatsQuery)
        if query.queue is not None and self._engine.queues.get(query.queue) is None:
            raise QueueNotFound(f"there is no queue {query.queue!r}")
        counts = await self._store.counts()
        size, trouble = await self._store.size(), self._store.trouble
        rows = await self._stats.rows(query.queue or ALL_QUEUES, minutes=query.minutes)
        view = StatsView(
            now=shown(self._now()),
            counts=(
                total_of(counts.values())
                if query.queue is None
                else counts.get(query.queue, QueueCounts())
            ),
            oldest_due_age=self._oldest_due_age(query.queue),
            in_flight=self._engine.in_flight,
            paused=self._engine.paused,
            clock_leap=self._engine.clock_leap,
            held_origins=[HeldOrigin(*item) for item in sorted(self._engine.held().items())],
            store=StoreView(
                used_bytes=size.used,
                free_bytes=size.free,
                trouble=None if trouble is None else trouble.reason,
            ),
            minutes=[_minute_view(row) for row in rows],
        )
        return answer(view)

    async def metrics(self, request: Request) -> Response:
        """Show the numbers that Prometheus collects."""
        # At the first request only: a server that nobody scrapes goes without the library.
        from poussetaches.api.metrics import Numbers, expose  # noqa: PLC0415

        counts = await self._store.counts()
        # Those that were configured come first, so that series do not come and go with the load.
        queues = sorted(self._engine.queues, key=lambda queue: (not queue.configured, queue.name))
        numbers = Numbers(
            queues={queue.name: counts.get(queue.name, QueueCounts()) for queue in queues},
            totals=self._stats.totals,
            pruned=self._pruned,
            in_flight=self._engine.in_flight,
            held_origin_count=len(self._engine.held()),
            paused=self._engine.paused,
            store_bytes=(await self._store.size()).used,
            oldest_due_age=self._oldest_due_age(None) or 0.0,
            dropped_log_lines=self._dropped_log_lines(),
        )
        exposition = expose(numbers, accept=request.headers.get("accept", ""))
        return Response(exposition.body, headers={"Content-Type": exposition.media_type})

    def _oldest_due_age(self, queue: str | None) -> float | None:
        due_at = self._engine.oldest_due_at(queue)
        return None if due_at is None else max(0.0, seconds_between(due_at, self._now()))


def _minute_view(row: MinuteRow) -> MinuteView:
    fields = msgspec.structs.asdict(row)
    del fields["queue"]
    return MinuteView(**{**fields, "minute": shown(row.minute)})
