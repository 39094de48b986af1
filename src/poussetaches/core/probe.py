"""What a receiver answers to a probe: that it is there, and what it has told the server."""

from __future__ import annotations

from typing import Literal

import msgspec

MOST_REFUSALS = 50  # in an answer, of which the server keeps 64 KiB
LONGEST_REASON = 500  # characters

State = Literal["none", "pending", "failing", "done"]


class Refusal(msgspec.Struct, frozen=True):
    """A queue or a schedule that the code declares and the server refused."""

    kind: Literal["queue", "schedule", "schedules of"]
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.reason}"


class DeclarationStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the declaration of queues and schedules has come in a process.

    ``none`` means that it declares nothing by itself; ``failing`` that an attempt failed for the
    ``reason`` and that others follow. Once it is ``done``, ``refused`` has what was not declared.
    """

    state: State = "none"
    reason: str | None = None
    refused: tuple[Refusal, ...] = ()


class ProbeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of a receiver that would take deliveries."""

    poussetaches: str  # the version
    tasks: int
    declaration: DeclarationStatus | None = None  # of receivers that declare by themselves


def shortened(status: DeclarationStatus) -> DeclarationStatus | None:
    """Return a status as it fits into an answer; None for the state ``none``."""
    if status.state == "none":
        return None
    refused = tuple(
        msgspec.structs.replace(refusal, reason=refusal.reason[:LONGEST_REASON])
        for refusal in status.refused[:MOST_REFUSALS]
    )
    reason = status.reason and status.reason[:LONGEST_REASON]
    return DeclarationStatus(status.state, reason, refused)


def declaration_in(answer: bytes | str) -> DeclarationStatus:
    """Return the status in an answer to a probe; ``none`` where an older receiver answered."""
    try:
        return msgspec.json.decode(answer, type=ProbeAnswer).declaration or DeclarationStatus()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return DeclarationStatus()
