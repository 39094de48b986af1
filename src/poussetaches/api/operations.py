"""Health: is the process alive and turning, and can it take tasks."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import RETRY_AFTER, Problem
from poussetaches.store.base import Store


class Operations:
    """Serves what those who run the server look at."""

    def __init__(self, *, store: Store, engine: EngineView) -> None:
        self._store = store
        self._engine = engine

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]

    async def healthz(self, request: Request) -> Response:
        """Answer 503 only for what a restart can cure."""
        stuck = self._engine.stuck()
        return _refuse("stuck", "; ".join(stuck)) if stuck else _well()

    async def readyz(self, request: Request) -> Response:
        """Answer 503 while the store is in trouble, or holds a row that nobody could read."""
        trouble, unreadable = self._store.trouble, self._store.unreadable_count
        if trouble is not None:
            return _refuse("store-full" if trouble.full else "store-unavailable", trouble.reason)
        if unreadable:
            detail = (
                f"{unreadable} unreadable rows were set aside since the start; the log names "
                "them, the table unreadable has them, a restart takes note of them"
            )
            return _refuse("unreadable-rows", detail)
        return _well()


def _well() -> Response:
    return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")


def _refuse(code: str, detail: str) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers=headers).response()
