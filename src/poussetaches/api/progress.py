"""Progress reports: handlers say how far they have come, with the token of their attempt."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, TaskId
from poussetaches.api.engine_view import EngineView
from poussetaches.api.events import EventHub
from poussetaches.api.problems import Problem
from poussetaches.api.reading import decode, read_body
from poussetaches.api.tasks import not_found
from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import ATTEMPT_TOKEN, LARGEST_AMOUNT, LONGEST_NOTE, Progress
from poussetaches.store.base import Store

_LIMITS = Meta(ge=0, le=LARGEST_AMOUNT)

Amount = Annotated[int, _LIMITS] | Annotated[float, _LIMITS]


class ProgressFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A progress report: ``done`` of ``total``, in any unit, and a note for people to read."""

    done: Amount
    total: Amount | None = None
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] | None = None


class ProgressRoutes:
    """Takes reports for the engine, and tells them to those who read events."""

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        events: EventHub,
        now: Callable[[], Moment],
        max_request: int,
    ) -> None:
        self._store = store
        self._engine = engine
        self._events = events
        self._now = now
        self._max_request = max_request
        self._reports = msgspec.json.Decoder(ProgressFields)

    def endpoints(self) -> list[Endpoint]:
        """Return the rows of the API."""
        return [
            Endpoint(
                method="POST",
                path="/v1/tasks/{id}/progress",
                handler=self.report,
                parameters={"id": TaskId},
                summary="Report the progress of a running attempt, with its token",
                tag="Tasks",
                body=ProgressFields,
                answers={204: None},
                problems=(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                has_own_token=True,
            )
        ]

    async def report(self, request: Request) -> Response:
        """Keep the latest report of a running attempt."""
        token = request.headers.get(ATTEMPT_TOKEN)
        if token is None:
            detail = f"{ATTEMPT_TOKEN} is missing; each delivery has one, for reports on it"
            raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail)
        fields = decode(self._reports, await read_body(request, limit=self._max_request))
        progress = Progress(done=fields.done, total=fields.total, note=fields.note, at=self._now())
        task_id: str = request.path_params["id"]
        task = self._engine.report_progress(task_id, token, progress)
        if await self._store.get(task_id) is None:  # its attempt may run on after it was deleted
            raise not_found(task_id)
        self._events.progressed(task, progress)
        return Response(status_code=HTTPStatus.NO_CONTENT)
