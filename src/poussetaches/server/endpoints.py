"""All endpoints of the API, built from the parts of the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from poussetaches.api.batch_routes import BatchRoutes
from poussetaches.api.bulk_edit import BulkEditor
from poussetaches.api.bulk_routes import BulkRoutes
from poussetaches.api.dialect import Dialects
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.event_hub import EventHub
from poussetaches.api.event_routes import EventRoutes
from poussetaches.api.failure_routes import FailureRoutes
from poussetaches.api.monitoring_routes import MonitoringRoutes
from poussetaches.api.openapi import OpenApiRoutes
from poussetaches.api.original_routes import ORIGINAL, OriginalRoutes
from poussetaches.api.progress_routes import ProgressRoutes
from poussetaches.api.queue_routes import QueueRoutes
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.schedule_routes import ScheduleRoutes
from poussetaches.api.task_pusher import TaskPusher
from poussetaches.api.task_routes import TaskRoutes
from poussetaches.api.task_wait import TaskWaiters
from poussetaches.api.test_mode_routes import TestMode, TestModeRoutes
from poussetaches.api.views import SECRET_HEADERS
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import TaskLimits
from poussetaches.engine.engine import Engine
from poussetaches.engine.stats import Stats
from poussetaches.logs import dropped_line_count
from poussetaches.settings import Settings
from poussetaches.store.base import Store

# The dialects of the endpoints below. All other paths have that of /v1.
DIALECTS = Dialects(ORIGINAL)


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of the server that the endpoints use."""

    store: Store
    engine: Engine
    stats: Stats
    bulk: BulkEditor
    waiters: TaskWaiters
    hub: EventHub
    request_limits: RequestLimits
    now: Callable[[], Moment]
    random: Random


def endpoints_of(
    services: Services, settings: Settings, *, test_mode: TestMode | None
) -> list[Endpoint]:
    """Return all endpoints; the most frequent ones come first."""
    endpoints = [
        *_of_pushes(services, settings),
        *_of_definitions(services, settings),
        *ProgressRoutes(
            store=services.store,
            engine=services.engine,
            events=services.hub,
            now=services.now,
            max_request=settings.requests.max_request,
        ).endpoints(),
        *EventRoutes(services.hub, services.request_limits).endpoints(),
        *_of_operations(services),
    ]
    if test_mode is not None:
        endpoints += TestModeRoutes(test_mode).endpoints()
    described = OpenApiRoutes(endpoints, has_token=settings.security.api_token is not None)
    return [*endpoints, *described.endpoints()]


def _of_pushes(services: Services, settings: Settings) -> list[Endpoint]:
    requests = settings.requests
    store, engine, now, random = services.store, services.engine, services.now, services.random
    pusher = TaskPusher(
        store=store, engine=engine, now=now, random=random, limits=_limits(settings)
    )
    groups = (
        OriginalRoutes(
            store=store,
            engine=engine,
            now=now,
            random=random,
            max_body=requests.max_body,
            max_request=requests.max_request,
        ),
        TaskRoutes(
            store=store,
            engine=engine,
            pusher=pusher,
            waiters=services.waiters,
            request_limits=services.request_limits,
            now=now,
            max_body=requests.max_body,
            max_request=requests.max_request,
            secret_headers=_secret_headers(settings),
        ),
        BatchRoutes(pusher, max_request=requests.max_request, max_batch=requests.max_batch),
        BulkRoutes(
            services.bulk,
            engine,
            now=now,
            max_body=requests.max_body,
            max_request=requests.max_request,
        ),
        FailureRoutes(store),
    )
    return [endpoint for group in groups for endpoint in group.endpoints()]


def _of_definitions(services: Services, settings: Settings) -> list[Endpoint]:
    queues = QueueRoutes(
        store=services.store,
        engine=services.engine,
        bulk=services.bulk,
        now=services.now,
        max_request=settings.requests.max_request,
    )
    schedules = ScheduleRoutes(
        store=services.store,
        engine=services.engine,
        limits=_limits(settings),
        now=services.now,
        random=services.random,
        secret_headers=_secret_headers(settings),
        max_request=settings.requests.max_request,
    )
    return [*queues.endpoints(), *schedules.endpoints()]


def _of_operations(services: Services) -> list[Endpoint]:
    return MonitoringRoutes(
        store=services.store,
        engine=services.engine,
        stats=services.stats,
        pruned=services.engine.maintenance.pruned,
        dropped_log_lines=dropped_line_count,
        now=services.now,
    ).endpoints()


def _limits(settings: Settings) -> TaskLimits:
    return TaskLimits(
        max_body=settings.requests.max_body, declared_only=settings.queue.queues == "declared"
    )


def _secret_headers(settings: Settings) -> frozenset[str]:
    return SECRET_HEADERS | frozenset(settings.security.secret_header)
