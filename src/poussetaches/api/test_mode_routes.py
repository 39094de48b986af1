"""Test mode: time passes, and tasks run, when a request says so."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, answer
from poussetaches.api.problems import Problem
from poussetaches.api.request_body import decode, read_body
from poussetaches.core.errors import TooManyAttempts
from poussetaches.core.moment import Moment, rfc3339
from poussetaches.core.retry import TEN_YEARS

MAX_REQUEST = 64 * 1024  # bytes

TAG = "Test mode"


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much time to let pass."""

    seconds: Annotated[float, Meta(ge=0, le=TEN_YEARS)]


class Settled(msgspec.Struct, frozen=True):
    """The virtual time at the end of a call, and the attempts that the call made."""

    now: str
    attempt_count: int


class TestMode(Protocol):
    """A server whose clock stands still. One call at a time is carried out."""

    def now(self) -> Moment:
        """Return the virtual time."""

    async def run_until_idle(self) -> int:
        """Make what is due now and all that comes of it; return how many attempts that took."""

    async def advance(self, seconds: float) -> int:
        """Let time pass, and make what becomes due; return how many attempts that took."""

    async def reset(self) -> None:
        """Begin as after a start, with nothing."""


class TestModeRoutes:
    """Serves the routes that there are in test mode alone."""

    def __init__(self, test_mode: TestMode) -> None:
        self._test_mode = test_mode
        self._decoder = msgspec.json.Decoder(Advance)

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints."""
        return [
            Endpoint(
                method="POST",
                path="/v1/test/run-until-idle",
                handler=self.run_until_idle,
                summary="Start what is due now and what that pushes, and wait for the answers",
                tag=TAG,
                answers={200: Settled},
                problems=[409],
            ),
            Endpoint(
                method="POST",
                path="/v1/test/advance",
                handler=self.advance,
                summary="Move the clock from one due moment to the next, and settle at each",
                tag=TAG,
                answers={200: Settled},
                body=Advance,
                problems=[400, 409, 413, 422],
            ),
            Endpoint(
                method="POST",
                path="/v1/test/reset",
                handler=self.reset,
                summary="Delete everything, and begin again at the real time",
                tag=TAG,
                answers={200: Settled},
            ),
        ]

    async def run_until_idle(self, request: Request) -> Response:
        """Come to rest at the present moment."""
        try:
            return self._settled(await self._test_mode.run_until_idle())
        except TooManyAttempts as exc:
            raise _restless(exc) from None

    async def advance(self, request: Request) -> Response:
        """Let time pass."""
        body = await read_body(request, limit=MAX_REQUEST)
        given = decode(self._decoder, body, code="invalid-advance")
        try:
            return self._settled(await self._test_mode.advance(given.seconds))
        except TooManyAttempts as exc:
            raise _restless(exc) from None

    async def reset(self, request: Request) -> Response:
        """Begin anew."""
        await self._test_mode.reset()
        return self._settled(0)

    def _settled(self, attempt_count: int) -> Response:
        return answer(Settled(rfc3339(self._test_mode.now()), attempt_count))


def _restless(exc: TooManyAttempts) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "too-many-attempts", str(exc))
