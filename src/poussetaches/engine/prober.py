"""Probes the origins that are held."""

from __future__ import annotations

import asyncio
import logging

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.defects import Defects, raise_end
from poussetaches.engine.origins import Origins
from poussetaches.engine.sender import Sender
from poussetaches.engine.shortage import Shortage

log = logging.getLogger(__name__)


class Prober:
    """Connects to held origins when their probes are due, within the limits of ``origins``."""

    def __init__(
        self,
        *,
        origins: Origins,
        sender: Sender,
        shortage: Shortage,
        clock: Clock,
        bell: Bell,
        dispatch_bell: Bell,
        defects: Defects,
    ) -> None:
        self._origins = origins
        self._sender = sender
        self._shortage = shortage
        self._clock = clock
        self._bell = bell
        self._dispatch_bell = dispatch_bell
        self._defects = defects
        self._probes: set[asyncio.Task[None]] = set()

    async def tick(self) -> float | None:
        """Begin the probes that are due; return when the next one is."""
        pause_ends_at = self._shortage.pause_ends_at
        if pause_ends_at is not None:
            return pause_ends_at
        for origin in self._origins.begin_probes(self._clock.monotonic()):
            probe = asyncio.create_task(self._probe(origin))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)
        return self._origins.next_probe_at()

    async def stop(self) -> None:
        """Cancel the probes under way."""
        for probe in self._probes:
            probe.cancel()
        if self._probes:
            await asyncio.wait(self._probes)

    async def settle(self) -> None:
        """Wait until no probe is under way."""
        while self._probes:
            await asyncio.wait(self._probes)

    async def _probe(self, origin: str) -> None:
        begun_at = self._clock.monotonic()
        try:
            outcome = await self._sender.probe(origin)
        except BaseException as exc:  # a defect must cost one probe, not all later ones
            raise_end(exc)
            error = self._defects.note("probe failed with an internal error", exc, origin=origin)
            outcome = Outcome(
                error=f"poussetaches could not probe: {error}", cause=Cause.INTERNAL_ERROR
            )
        now = self._clock.monotonic()
        if outcome is None:
            self._origins.probed(origin, None, now)
            log.info("origin released", extra={"origin": origin})
            self._dispatch_bell.ring()
            return
        error = outcome.error or ""
        if outcome.out_of_resources:
            self._shortage.met(outcome)
        if outcome.out_of_resources and not outcome.unreachable:
            self._origins.not_probed(origin, now)
        else:
            self._origins.probed(origin, error, now, took=now - begun_at)
        log.debug("origin still unreachable", extra={"origin": origin, "error": error})
        self._bell.ring()
