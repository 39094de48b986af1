"""Waits until the application answers a probe, and reports whether it accepts deliveries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from poussetaches.core.errors import AddressTaken
from poussetaches.core.probe import DeclarationStatus, ProbeAnswer, probe_answer_in
from poussetaches.core.target import joined, may_have_key, without_credentials
from poussetaches.core.task import Outcome
from poussetaches.engine.clock import Clock, SystemClock
from poussetaches.engine.request import (
    KEY_HEADER,
    USER_AGENT,
    Request,
    Unsigned,
    signature_headers,
)
from poussetaches.engine.sender import HttpSender, Sender
from poussetaches.settings import Settings

# After this, deliveries begin: tasks for an unreachable receiver are held, and tasks for other
# receivers must not wait for an application that never answers.
LIMIT = 30.0  # seconds
DECLARATION_LIMIT = 5.0  # seconds
INTERVAL = 0.05  # seconds between two probes
PROBE = "/_poussetaches/_check"
# The response to the probe of an application without our receiver.
NO_RECEIVER = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Listener:
    """The program that listens at the address of the application."""

    is_application: bool
    name: str = ""  # for messages about another program


FindListener = Callable[[], Listener | None]


async def application_answers(
    settings: Settings, find_listener: FindListener
) -> ProbeAnswer | None:
    """Wait until the application answers a probe, with any status, or for at most 30 seconds.

    Return the answer of a receiver; None if there is none.

    Nothing is sent until ``find_listener`` says that the application listens. It is called in a
    thread.

    A connection is not enough: gunicorn listens before its workers can answer. For a receiver the
    probe is the first request, at which it declares its queues and schedules.

    Raises:
        AddressTaken: another program listens in place of the application.
    """
    clock = SystemClock()
    sender = HttpSender(connect_timeout=settings.delivery.connect_timeout, now=clock.now)
    try:
        async with asyncio.timeout(LIMIT):
            outcome = await _answer(sender, settings, clock, find_listener)
        answer, status = await _declared(outcome, sender, settings, clock)
    except TimeoutError:
        listener = await asyncio.to_thread(find_listener)
        if listener is not None and not listener.is_application:
            raise AddressTaken(
                f"{listener.name} listens at {_shown_url(settings)} in place of the application;"
                " nothing was sent to it. Stop it, give the application another port, or name the"
                " address with --base-url to deliver tasks there"
            ) from None
        fields = {"url": _shown_url(settings), "after": LIMIT}
        log.warning("no answer from the application, deliveries begin anyway", extra=fields)
        return None
    else:
        _report(outcome, settings)
        _report_declaration(status)
        return answer
    finally:
        await sender.close()


async def _answer(
    sender: Sender, settings: Settings, clock: Clock, find_listener: FindListener
) -> Outcome:
    reported = None
    while True:
        listener = await asyncio.to_thread(find_listener)
        if listener is not None and listener.is_application:
            outcome = await sender.send(probe_request(settings, clock))
            if outcome.status is not None:
                return outcome
        elif listener is not None and listener != reported:
            fields = {"program": listener.name, "url": _shown_url(settings)}
            log.warning("another program listens in place of the application", extra=fields)
            reported = listener
        await asyncio.sleep(INTERVAL)


async def _declared(
    outcome: Outcome, sender: Sender, settings: Settings, clock: Clock
) -> tuple[ProbeAnswer | None, DeclarationStatus]:
    """Wait for the declaration that the first request starts; return the last answer and it."""
    answer = probe_answer_in(outcome.body)
    try:
        async with asyncio.timeout(DECLARATION_LIMIT):
            while answer and answer.declaration and answer.declaration.state == "pending":
                await asyncio.sleep(INTERVAL)
                outcome = await sender.send(probe_request(settings, clock))
                answer = probe_answer_in(outcome.body)
    except TimeoutError:
        return answer, DeclarationStatus("failing", f"no answer within {DECLARATION_LIMIT:g} s")
    return answer, (answer and answer.declaration) or DeclarationStatus()


def probe_request(settings: Settings, clock: Clock) -> Request:
    """Return the probe: an empty delivery, with the key and the signatures."""
    url = joined(settings.queue.base_url or "", PROBE)
    headers = {"User-Agent": USER_AGENT}
    if settings.security.auth_key is not None and may_have_key(
        url, frozenset(settings.security.key_target)
    ):
        headers[KEY_HEADER] = settings.security.auth_key
    if settings.security.signing_secret:
        unsigned = Unsigned(method="POST", url=url, id="probe", body=b"", now=clock.now())
        headers |= signature_headers(
            unsigned, secrets=settings.security.signing_secret, is_ours=True
        )
    return Request(method="POST", url=url, headers=headers, body=b"", timeout=LIMIT)


def _report(outcome: Outcome, settings: Settings) -> None:
    fields = {"url": _shown_url(settings), "status": outcome.status}
    if outcome.status == HTTPStatus.OK or outcome.status in NO_RECEIVER:
        log.info("application answers", extra=fields)
    else:
        log.warning("application refuses the probe; `poussetaches check` says why", extra=fields)


def _shown_url(settings: Settings) -> str:
    return without_credentials(settings.queue.base_url or "")


def _report_declaration(status: DeclarationStatus) -> None:
    if status.state == "failing":
        log.warning(
            "queues and schedules of the application not declared", extra={"reason": status.reason}
        )
    for refusal in status.refused:
        log.warning("declaration refused", extra={"declared": str(refusal)})
