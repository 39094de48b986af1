"""poussetaches runs an application's background tasks by calling it over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poussetaches.client import (
        POUSSETACHES_AUTH_KEY,
        AsyncClient,
        Client,
        ClientError,
        GetTask,
        NewTask,
        NoAnswer,
        PousseTaches,
        PushFailed,
        Refused,
        Task,
    )

__version__ = "2.0.0.dev0"

__all__ = [
    "POUSSETACHES_AUTH_KEY",
    "AsyncClient",
    "Client",
    "ClientError",
    "GetTask",
    "NewTask",
    "NoAnswer",
    "PousseTaches",
    "PushFailed",
    "Refused",
    "Task",
    "__version__",
]


def __getattr__(name: str) -> object:
    # The server, which imports this package too, must not wait for what only applications use.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from poussetaches import client  # noqa: PLC0415  # see above

    return getattr(client, name)


def __dir__() -> list[str]:
    return __all__
