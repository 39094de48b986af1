"""Reasons why tasks and queues wait."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from poussetaches.core.moment import Moment


class WaitReason(StrEnum):
    """What a task waits for."""

    PAUSED = "paused"
    SERVER_PAUSED = "server_paused"
    NOT_DUE = "not_due"
    BACKOFF = "backoff"
    CLOCK = "clock"
    RATE = "rate"
    CONCURRENCY = "concurrency"
    ORIGIN_SLOTS = "origin_slots"
    ORIGIN_HELD = "origin_held"
    ASKED_TO_WAIT = "asked_to_wait"
    OUT_OF_RESOURCES = "out_of_resources"
    BEHIND = "behind"
    STORE_FULL = "store_full"
    STARTING = "starting"
    DRAINING = "draining"


class WaitingFor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the reasons why a task waits, and until when, if that is known."""

    reason: WaitReason
    detail: str
    until: Moment | None = None
    count: int | None = None  # the number of tasks ahead of it
