"""``Middleware``: receives deliveries before anything else of the project sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from poussetaches.client.delivery_auth import PIECE, IncomingRequest, Intake, Reply
from poussetaches.client.receiver import Receiver
from poussetaches.django.project_tasks import Tasks, registry

GetResponse = (
    Callable[[HttpRequest], HttpResponseBase]
    | Callable[[HttpRequest], Awaitable[HttpResponseBase]]
)


class Middleware:
    """Responds to deliveries, and passes on other requests.

    It must come first: middleware before it could refuse deliveries.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Respond to a request."""
        if self._is_async:
            return self._aanswer(request)
        receiver = _begin(request)
        if receiver is None:
            return self._get_response(request)
        return _response(receiver.finish(_read_request(request, receiver)))

    async def _aanswer(self, request: HttpRequest) -> HttpResponseBase:
        receiver = _begin(request)
        if receiver is None:
            return await cast("Awaitable[HttpResponseBase]", self._get_response(request))
        return _response(await receiver.afinish(_read_request(request, receiver)))


def _begin(request: HttpRequest) -> Receiver | None:
    """Return the receiver for a delivery; None for other requests."""
    if not hasattr(mail, "outbox"):  # Django's test runner sets it; tests have no server
        for tasks in registry:
            tasks.declare_in_background()
    tasks_here = [tasks for tasks in registry if tasks.receiver().takes(request.path_info)]
    if not tasks_here:
        return None
    return _owner(tasks_here, request.path_info).receiver()


def _owner(candidates: list[Tasks], path: str) -> Tasks:
    """Return the Tasks() that has the delivered task, of several with one path."""
    known = (tasks for tasks in candidates if tasks.find(path.removeprefix(tasks.path + "/")))
    return next(known, candidates[0])


def _read_request(request: HttpRequest, receiver: Receiver) -> Intake:
    """Return the intake of a request, with its body read up to the intake's limit."""
    path = request.path_info
    intake = receiver.admit(
        IncomingRequest(
            request.method or "",
            path,
            request.headers,
            query=request.META.get("QUERY_STRING", ""),
            mount=request.path.removesuffix(path),
        )
    )
    while piece := request.read(PIECE):
        if not intake.feed(piece):
            break
    return intake


def _response(reply: Reply) -> HttpResponse:
    response = HttpResponse(reply.body, status=int(reply.status), headers=dict(reply.headers))
    # Django logs each 5xx as an error and mails it to ADMINS, but RetryLater is not an error.
    if "Retry-After" in reply.headers:
        response._has_been_logged = True  # type: ignore[attr-defined]  # what log_response reads
    return response
