"""The routes of health, statistics and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, json_response, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import unavailable
from poussetaches.api.views import age, shown_time
from poussetaches.core.errors import QueueNotFound
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Name, total_of
from poussetaches.core.responses import (
    HeldOrigin,
    MinuteResponse,
    QueueCounts,
    StatsResponse,
    StoreState,
)
from poussetaches.core.task import TaskState
from poussetaches.core.task_fields import ShownTime
from poussetaches.engine.stats import ALL_QUEUES, Stats
from poussetaches.store.base import Store
from poussetaches.store.minute_row import MinuteRow

TAG = "Operations"
MAX_MINUTES = 1440  # one day, which is what the store keeps


class Health(msgspec.Struct, frozen=True):
    """The server is ready."""

    status: Literal["ok"] = "ok"


class Liveness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The server works. Counts begin at its start, and are omitted while they are 0."""

    status: Literal["ok"]
    unreadable_rows: int = 0  # rows set aside because they could not be read
    internal_errors: int = 0  # which may have ended a task or an attempt
    shortage: str | None = None  # the resource that attempts lacked within the last minute


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The number of minutes, and the queue, if any."""

    minutes: Annotated[int, Meta(ge=1, le=MAX_MINUTES)] = 60
    queue: Name | None = None


class StoreView(StoreState, frozen=True, kw_only=True):
    """The size and the trouble of the store."""


class MinuteView(MinuteResponse[ShownTime], frozen=True, kw_only=True):
    """The counts and durations, in seconds, of the minute that began at ``minute``."""


class StatsView(StatsResponse[ShownTime], frozen=True, kw_only=True):
    """The state of the server. Counts, age and minutes are those of the requested queue."""

    counts: QueueCounts
    held_origins: list[HeldOrigin]
    store: StoreView
    minutes: list[MinuteView]


@dataclass(frozen=True, kw_only=True)
class MonitoringRoutes:
    """Serves health, statistics and metrics. ``pruned`` has the numbers of pruned tasks."""

    store: Store
    engine: EngineView
    stats: Stats
    pruned: Mapping[TaskState, int]
    dropped_log_lines: Callable[[], int]
    now: Callable[[], Moment]

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/healthz",
                handler=self.healthz,
                is_open=True,
                summary="Return whether the server works; if not, a restart helps",
                tag=TAG,
                responses={200: Liveness},
                problems=[503],
            ),
            Endpoint(
                method="GET",
                path="/readyz",
                handler=self.readyz,
                is_open=True,
                summary="Return whether the store is writable and intact",
                tag=TAG,
                responses={200: Health},
                problems=[503],
            ),
            Endpoint(
                method="GET",
                path="/v1/stats",
                handler=self.show_stats,
                summary="Show the state of the server, and statistics of the last minutes",
                tag=TAG,
                query=StatsQuery,
                responses={200: StatsView},
                problems=[404, 503],
            ),
            Endpoint(
                method="GET",
                path="/metrics",
                handler=self.metrics,
                summary="Show metrics for Prometheus",
                tag=TAG,
                responses={200: str},
                response_media_type="text/plain",
                problems=[503],
            ),
        ]

    async def healthz(self, request: Request) -> Response:
        """Respond with 503 only if a restart helps."""
        stuck = self.engine.stuck()
        if stuck:
            raise unavailable("stuck", "; ".join(stuck))
        store, engine = self.store, self.engine
        return json_response(
            Liveness(
                status="ok",
                unreadable_rows=store.unreadable_count,
                internal_errors=store.internal_error_count + engine.internal_error_count,
                shortage=engine.shortage,
            )
        )

    async def readyz(self, request: Request) -> Response:
        """Respond with 503 while the store has trouble, or after it set a row aside."""
        trouble, unreadable = self.store.trouble, self.store.unreadable_count
        if trouble is not None:
            raise unavailable(
                "store-full" if trouble.full else "store-unavailable", trouble.reason
            )
        if unreadable:
            detail = (
                f"{unreadable} unreadable rows were moved to the table unreadable since the "
                "start; see the log, then restart the server to acknowledge them"
            )
            raise unavailable("unreadable-rows", detail)
        return json_response(Health())

    async def show_stats(self, request: Request) -> Response:
        query = read_query(request, StatsQuery)
        if query.queue is not None and self.engine.queues.get(query.queue) is None:
            raise QueueNotFound(f"there is no queue {query.queue!r}; GET /v1/queues lists all")
        counts = await self.store.counts()
        size, trouble = await self.store.size(), self.store.trouble
        rows = await self.stats.rows(query.queue or ALL_QUEUES, minutes=query.minutes)
        stats = StatsView(
            now=shown_time(self.now()),
            counts=(
                total_of(counts.values())
                if query.queue is None
                else counts.get(query.queue, QueueCounts())
            ),
            oldest_due_age=self._oldest_due_age(query.queue),
            in_flight=self.engine.in_flight,
            paused=self.engine.paused,
            clock_leap=self.engine.clock_leap,
            held_origins=[HeldOrigin(*item) for item in sorted(self.engine.held().items())],
            store=StoreView(
                used_bytes=size.used,
                free_bytes=size.free,
                trouble=None if trouble is None else trouble.reason,
            ),
            minutes=[_minute_view(row) for row in rows],
        )
        return json_response(stats)

    async def metrics(self, request: Request) -> Response:
        # Imported here so that a server without a scraper does not load the library.
        from poussetaches.api.metrics import Measurements, expose  # noqa: PLC0415

        counts = await self.store.counts()
        # Configured queues first, so that series do not appear and disappear with the load.
        queues = sorted(self.engine.queues, key=lambda queue: (not queue.configured, queue.name))
        measurements = Measurements(
            queues={queue.name: counts.get(queue.name, QueueCounts()) for queue in queues},
            totals=self.stats.totals,
            pruned=self.pruned,
            in_flight=self.engine.in_flight,
            held_origin_count=len(self.engine.held()),
            paused=self.engine.paused,
            store_bytes=(await self.store.size()).used,
            oldest_due_age=self._oldest_due_age(None) or 0.0,
            dropped_log_lines=self.dropped_log_lines(),
        )
        exposition = expose(measurements, accept=request.headers.get("accept", ""))
        return Response(exposition.body, headers={"Content-Type": exposition.media_type})

    def _oldest_due_age(self, queue: str | None) -> float | None:
        return age(self.engine.oldest_due_at(queue), now=self.now())


def _minute_view(row: MinuteRow) -> MinuteView:
    fields = msgspec.structs.asdict(row)
    del fields["queue"]
    return MinuteView(**{**fields, "minute": shown_time(row.minute)})
