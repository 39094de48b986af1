"""``outcome_of``: the outcome of an application's answer, for the sender and ``testing``."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from datetime import UTC
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.core.moment import Moment, moment_of, seconds_between
from poussetaches.core.task import Outcome
from poussetaches.engine.redirect import REDIRECTS, redirect_error
from poussetaches.engine.secret_mask import SecretMask

MAX_BODY = 64 * 1024  # bytes of an answer: error pages are read by people; more is noise

_ASKS_TO_WAIT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Answer(NamedTuple):
    """An HTTP response to a delivery.

    ``header`` returns the value of a header by its name in any case, empty if it is missing.
    ``body`` may be cut off after ``MAX_BODY`` bytes, the margin of the mask and one more.
    """

    status: int
    header: Callable[[str], str]
    body: bytes


def outcome_of(answer: Answer, *, url: str, now: Moment, secret_mask: SecretMask) -> Outcome:
    """Return the outcome of an attempt that was answered; ``url`` is the one it was sent to."""
    retry_after = None
    if answer.status in _ASKS_TO_WAIT:
        retry_after = seconds_to_wait(answer.header("Retry-After"), now=now)
    return Outcome(
        status=answer.status,
        body=secret_mask.cut(answer.body, MAX_BODY),
        truncated=len(answer.body) > MAX_BODY,
        retry_after=retry_after,
        refused=answer.header("Poussetaches-Retry").strip().lower() == "no",
        redirect=_redirect(answer, url, secret_mask),
    )


def seconds_to_wait(value: str, *, now: Moment) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date (RFC 9110, 10.2.3)."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds_between(now, moment_of(date.replace(tzinfo=date.tzinfo or UTC))))


def _redirect(answer: Answer, url: str, secret_mask: SecretMask) -> str | None:
    if answer.status not in REDIRECTS:
        return None
    location = answer.header("Location").strip()
    return secret_mask.masked(redirect_error(url, location)) if location else None
