"""The routes of test mode, in which requests advance time and run tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, json_response
from poussetaches.api.request_body import decode, read_body
from poussetaches.core.moment import Moment, rfc3339
from poussetaches.core.retry import TEN_YEARS

MAX_REQUEST = 64 * 1024  # bytes

TAG = "Test mode"


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds by which the clock advances."""

    seconds: Annotated[float, Meta(ge=0, le=TEN_YEARS)]


class Settled(msgspec.Struct, frozen=True):
    """The virtual time at the end of a call, and the attempts that the call made."""

    now: str
    attempt_count: int


class TestMode(Protocol):
    """A server whose clock stands still. Calls are serialized."""

    def now(self) -> Moment:
        """Return the virtual time."""

    async def run_until_idle(self) -> int:
        """Run the due tasks and the tasks that they push; return the number of attempts."""

    async def advance(self, seconds: float) -> int:
        """Advance the clock and run the tasks that become due; return the number of attempts."""

    async def reset(self) -> None:
        """Delete everything and restart."""


_ADVANCE = msgspec.json.Decoder(Advance)


@dataclass(frozen=True)
class TestModeRoutes:
    """Serves the routes that exist in test mode only."""

    test_mode: TestMode

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path="/v1/test/run-until-idle",
                handler=self.run_until_idle,
                summary="Run the due tasks and the tasks that they push, until none is due",
                tag=TAG,
                responses={200: Settled},
                problems=[409],
            ),
            Endpoint(
                method="POST",
                path="/v1/test/advance",
                handler=self.advance,
                summary="Advance the clock from one due moment to the next, and run the due tasks",
                tag=TAG,
                responses={200: Settled},
                body=Advance,
                problems=[400, 409, 413, 422],
            ),
            Endpoint(
                method="POST",
                path="/v1/test/reset",
                handler=self.reset,
                summary="Delete everything, and restart at the real time",
                tag=TAG,
                responses={200: Settled},
            ),
        ]

    async def run_until_idle(self, request: Request) -> Response:
        return self._settled(await self.test_mode.run_until_idle())

    async def advance(self, request: Request) -> Response:
        body = await read_body(request, limit=MAX_REQUEST)
        given = decode(_ADVANCE, body, code="invalid-advance")
        return self._settled(await self.test_mode.advance(given.seconds))

    async def reset(self, request: Request) -> Response:
        await self.test_mode.reset()
        return self._settled(0)

    def _settled(self, attempt_count: int) -> Response:
        return json_response(Settled(rfc3339(self.test_mode.now()), attempt_count))
