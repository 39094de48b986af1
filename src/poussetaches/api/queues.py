"""The queues: their settings, their pauses, and the server's own pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.bulk import Bulk
from poussetaches.api.definitions import decode_definition, name_of, patched_overrides
from poussetaches.api.endpoint import Endpoint, answer, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import after_change
from poussetaches.api.reading import read_body
from poussetaches.api.views import WaitView, wait_view
from poussetaches.core.edits import Delete
from poussetaches.core.errors import InvalidQueue, QueueInUse, QueueNotFound, TooMany
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.queue import (
    CALLBACKS_QUEUE,
    DEFAULT_QUEUE,
    MAX_QUEUES,
    Name,
    Queue,
    QueueCounts,
    QueueOrigins,
    QueueOverrides,
    ShownQueue,
    origins_of,
    redeclared,
)
from poussetaches.core.queue_fields import QueueFields, check_queue
from poussetaches.core.target import is_path
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.core.task import TaskState
from poussetaches.store.base import Store

TAG = "Queues"
CODE = "invalid-queue"

_READ_ONLY = "is only to be read; leave it out"
HINTS = {
    "name": _READ_ONLY,
    "counts": _READ_ONLY,
    "oldest_due_age": _READ_ONLY,
    "waiting_for": _READ_ONLY,
    "origins": _READ_ONLY,
    "paused": "is changed by POST …/pause and …/resume only; leave it out",
}

NO_BASE = (
    f"is a path, but there is no base URL; set base_url of the queue "
    f"{CALLBACKS_QUEUE!r}, or POUSSETACHES_BASE_URL of the server"
)


class PatchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a patch is a declaration: all that the code sets on a queue."""

    declared: bool = False


class QueueView(ShownQueue, frozen=True, kw_only=True):
    """A queue in responses: its settings in force and its state."""

    counts: QueueCounts
    oldest_due_age: float | None  # seconds
    waiting_for: list[WaitView]
    origins: QueueOrigins


class QueueList(msgspec.Struct, frozen=True):
    """Every queue, by name."""

    queues: list[QueueView]


class Purged(msgspec.Struct, frozen=True):
    """How many waiting tasks were deleted."""

    count: int


class ServerPause(msgspec.Struct, frozen=True):
    """Whether the server is paused."""

    paused: bool


class QueueRoutes:
    """Serves the queues from the store and the engine's view of them."""

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        bulk: Bulk,
        now: Callable[[], Moment],
        max_request: int,
    ) -> None:
        self._store = store
        self._engine = engine
        self._bulk = bulk
        self._now = now
        self._max_request = max_request
        self._decoder = msgspec.json.Decoder(QueueFields)

    def endpoints(self) -> list[Endpoint]:
        """Return the rows of the API."""
        row = partial(Endpoint, tag=TAG)
        one = "/v1/queues/{name}"
        named = partial(row, parameters={"name": Name})
        known = partial(named, answers={200: QueueView}, problems=(404,))
        defined = partial(
            named, path=one, body=QueueFields, answers={201: QueueView, 200: QueueView}
        )
        return [
            row(
                method="GET",
                path="/v1/queues",
                handler=self.show_all,
                summary="List every queue, by name",
                answers={200: QueueList},
            ),
            known(method="GET", path=one, handler=self.show, summary="Show a queue"),
            defined(
                method="PUT",
                handler=self.put,
                summary="Set all of a queue's settings",
                problems=(409,),
            ),
            defined(
                method="PATCH",
                handler=self.patch,
                query=PatchQuery,
                summary="Change some of a queue's settings (RFC 7396)",
                problems=(409,),
            ),
            known(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete a queue that has nothing to do, with its ended tasks",
                answers={204: None},
                problems=(404, 409),
            ),
            known(
                method="POST",
                path=one + "/pause",
                handler=self.pause,
                summary="Start no more attempts of a queue's tasks",
            ),
            known(
                method="POST",
                path=one + "/resume",
                handler=self.resume,
                summary="Start attempts of a queue's tasks again",
            ),
            known(
                method="POST",
                path=one + "/purge",
                handler=self.purge,
                summary="Delete a queue's waiting tasks",
                answers={200: Purged},
            ),
            row(
                method="POST",
                path="/v1/pause",
                handler=self.pause_server,
                summary="Start no more attempts at all",
                answers={200: ServerPause},
            ),
            row(
                method="POST",
                path="/v1/resume",
                handler=self.resume_server,
                summary="Start attempts again",
                answers={200: ServerPause},
            ),
        ]

    async def show_all(self, request: Request) -> Response:
        """Answer every queue, by name."""
        counts = await self._store.counts()
        names = sorted(queue.name for queue in self._engine.queues)
        return answer(QueueList([self._view(name, counts) for name in names]))

    async def show(self, request: Request) -> Response:
        """Answer a queue."""
        return await self._answer(self._known(request))

    async def put(self, request: Request) -> Response:
        """Set a queue anew: what is not named is taken from the server."""
        name = name_of(request, code=CODE)
        overrides = self._decoded(await read_body(request, limit=self._max_request))
        return await self._set(
            name, lambda known: msgspec.structs.replace(known, overrides=overrides)
        )

    async def patch(self, request: Request) -> Response:
        """Change some settings of a queue; null resets one. An unknown queue is made."""
        name = name_of(request, code=CODE)
        is_declaration = read_query(request, PatchQuery).declared
        patch = await read_body(request, limit=self._max_request)
        given = self._decoded(patch)  # null has to name what there is, too
        if is_declaration:
            return await self._set(name, lambda known: redeclared(known, given))

        def change(known: Queue) -> Queue:
            overrides = patched_overrides(known.overrides, patch, given, code=CODE)
            return msgspec.structs.replace(known, overrides=overrides)

        return await self._set(name, change)

    async def delete(self, request: Request) -> Response:
        """Delete a queue that has nothing to do, with its ended tasks."""
        name = self._known(request)
        if name == DEFAULT_QUEUE:
            raise QueueInUse("the queue default is always there; it cannot be deleted")
        counts = (await self._store.counts()).get(name, QueueCounts())
        if counts.waiting or counts.running:
            raise QueueInUse(
                f"the queue has {counts.waiting} waiting and {counts.running} running tasks; "
                "purge it, or wait for them"
            )
        ended = frozenset({TaskState.SUCCEEDED, TaskState.DEAD})
        count = (await self._bulk.apply(TaskFilter(queue=name, states=ended), Delete())).count
        with after_change(f"{count} ended tasks were deleted", made=count > 0):
            await self._store.edit_queue(name, _deleted)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def pause(self, request: Request) -> Response:
        """Start no more attempts of a queue's tasks."""
        return await self._set_paused(request, True)

    async def resume(self, request: Request) -> Response:
        """Start attempts of a queue's tasks again."""
        return await self._set_paused(request, False)

    async def purge(self, request: Request) -> Response:
        """Delete a queue's waiting tasks."""
        waiting = frozenset({TaskState.WAITING})
        filter = TaskFilter(queue=self._known(request), states=waiting)
        count = (await self._bulk.apply(filter, Delete())).count
        return answer(Purged(count))

    async def pause_server(self, request: Request) -> Response:
        """Start no more attempts at all."""
        await self._store.set_paused(True)
        return answer(ServerPause(True))

    async def resume_server(self, request: Request) -> Response:
        """Start attempts again; queues that are paused by name stay paused."""
        await self._store.set_paused(False)
        return answer(ServerPause(False))

    def _known(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if self._engine.queues.get(name) is None:
            raise QueueNotFound(f"there is no queue {name!r}")
        return name

    def _decoded(self, body: bytes) -> QueueOverrides:
        return decode_definition(self._decoder, body, hints=HINTS, code=CODE).overrides()

    async def _set(self, name: str, change: Callable[[Queue], Queue]) -> Response:
        """Keep a queue with other settings, which depend on those that it has."""
        queues = self._engine.queues
        paths_lead = queues.settings_of(CALLBACKS_QUEUE).base_url is not None
        is_full = len(queues) >= MAX_QUEUES
        made = False

        def edit(known: Queue | None) -> Queue:
            nonlocal made
            made = known is None
            if made and is_full:
                raise TooMany(f"there are {MAX_QUEUES} queues already, which is the maximum")
            new = change(known or Queue(name=name))
            if new is not known:
                check_overrides(new.overrides, paths_lead=paths_lead, allowed=queues.allowed)
            return msgspec.structs.replace(new, configured=True)

        await self._store.edit_queue(name, edit)
        with after_change():
            return await self._answer(name, HTTPStatus.CREATED if made else HTTPStatus.OK)

    async def _set_paused(self, request: Request, paused: bool) -> Response:
        name = self._known(request)

        def edit(known: Queue | None) -> Queue:
            if known is None:
                raise QueueNotFound(f"there is no queue {name!r}")
            return msgspec.structs.replace(known, paused=paused)

        await self._store.edit_queue(name, edit)
        with after_change():
            return await self._answer(name)

    async def _answer(self, name: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
        return answer(self._view(name, await self._store.counts()), status)

    def _view(self, name: str, counts: Mapping[str, QueueCounts]) -> QueueView:
        queues = self._engine.queues
        due_at = self._engine.oldest_due_at(name)
        age = None if due_at is None else max(0.0, seconds_between(due_at, self._now()))
        return QueueView(
            **msgspec.structs.asdict(queues.settings_of(name)),
            name=name,
            paused=queues.is_paused(name),
            counts=counts.get(name, QueueCounts()),
            oldest_due_age=age,
            waiting_for=[wait_view(item) for item in self._engine.queue_waiting_for(name)],
            origins=msgspec.convert(
                origins_of(queues.get(name) or Queue(name=name)), QueueOrigins
            ),
        )


def check_overrides(
    overrides: QueueOverrides, *, paths_lead: bool, allowed: AllowedTargets
) -> None:
    """Check the settings of a queue, and that its URLs lead somewhere.

    ``paths_lead`` says whether callbacks that are paths have a base URL.

    Raises:
        InvalidQueue: a setting is not allowed.
        TargetNotAllowed: a URL is not allowed.
    """
    check_queue(overrides)
    for field, url in (("on_success", overrides.on_success), ("on_dead", overrides.on_dead)):
        if url is not None and is_path(url) and not paths_lead:
            raise InvalidQueue(field, NO_BASE)
    for field in ("base_url", "on_success", "on_dead"):
        url = getattr(overrides, field)
        if url and not is_path(url):
            allowed.check(field, url)


def _deleted(known: Queue | None) -> None:
    """Leave nothing of a queue."""
