"""Clients for applications. Each name is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poussetaches.client.client import AsyncClient, Client
    from poussetaches.client.errors import (
        Busy,
        ClientError,
        Conflict,
        Full,
        InvalidRequest,
        NoAnswer,
        NotFound,
        NotUnderstood,
        OutcomeUnknown,
        PushFailed,
        Refused,
        Unauthorized,
    )
    from poussetaches.client.original_client import (
        POUSSETACHES_AUTH_KEY,
        GetTask,
        PousseTaches,
        Task,
    )
    from poussetaches.client.request_fields import NewTask
    from poussetaches.client.results import (
        AttemptInfo,
        BulkResult,
        EndedTask,
        Event,
        FailureGroup,
        LastAttempt,
        ProgressInfo,
        PushedTask,
        QueueInfo,
        ScheduleInfo,
        StatsInfo,
        TaskInfo,
    )

__all__ = [
    "POUSSETACHES_AUTH_KEY",
    "AsyncClient",
    "AttemptInfo",
    "BulkResult",
    "Busy",
    "Client",
    "ClientError",
    "Conflict",
    "EndedTask",
    "Event",
    "FailureGroup",
    "Full",
    "GetTask",
    "InvalidRequest",
    "LastAttempt",
    "NewTask",
    "NoAnswer",
    "NotFound",
    "NotUnderstood",
    "OutcomeUnknown",
    "PousseTaches",
    "ProgressInfo",
    "PushFailed",
    "PushedTask",
    "QueueInfo",
    "Refused",
    "ScheduleInfo",
    "StatsInfo",
    "Task",
    "TaskInfo",
    "Unauthorized",
]

_HOMES = {
    **dict.fromkeys(("AsyncClient", "Client"), "client"),
    "NewTask": "request_fields",
    **dict.fromkeys(
        ("POUSSETACHES_AUTH_KEY", "GetTask", "PousseTaches", "Task"), "original_client"
    ),
    **dict.fromkeys(
        (
            *("AttemptInfo", "BulkResult", "EndedTask", "Event", "FailureGroup", "LastAttempt"),
            *("ProgressInfo", "PushedTask", "QueueInfo", "ScheduleInfo"),
            *("StatsInfo", "TaskInfo"),
        ),
        "results",
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # most imports need few names

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
