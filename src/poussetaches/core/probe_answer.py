"""The answer to a probe: the receiver's version, and the status of its declarations."""

from __future__ import annotations

from typing import Literal

import msgspec

MOST_REFUSALS = 50  # per answer; the server keeps the first 64 KiB of an answer
LONGEST_REASON = 500  # characters
MOST_WARNINGS = 10  # per answer
MOST_QUEUES = 200  # per answer, at most 100 characters each

State = Literal["none", "pending", "failing", "done"]


class Refusal(msgspec.Struct, frozen=True):
    """A queue or a schedule that the code declares and the server refused."""

    kind: Literal["queue", "schedule", "schedules of"]
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.reason}"


class DeclarationStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of a process in declaring its queues and schedules.

    ``none`` means that it declares nothing by itself; ``failing`` that the last try failed for
    ``reason`` and is repeated. Once it is ``done``, ``refused`` lists what was not declared.
    """

    state: State = "none"
    reason: str | None = None
    refused: tuple[Refusal, ...] = ()


class ProbeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of a receiver that accepts deliveries."""

    poussetaches: str  # the version
    tasks: int
    declaration: DeclarationStatus | None = None  # None if it declares nothing by itself
    queues: tuple[str, ...] = ()  # the queues of the code's tasks and callbacks
    warnings: tuple[str, ...] = ()  # probable mistakes in the code


def shortened(status: DeclarationStatus) -> DeclarationStatus | None:
    """Return a status that is short enough for an answer; None for the state ``none``."""
    if status.state == "none":
        return None
    refused = tuple(
        msgspec.structs.replace(refusal, reason=refusal.reason[:LONGEST_REASON])
        for refusal in status.refused[:MOST_REFUSALS]
    )
    reason = status.reason and status.reason[:LONGEST_REASON]
    return DeclarationStatus(status.state, reason, refused)


def probe_answer_in(answer: bytes | str) -> ProbeAnswer | None:
    """Return an answer to a probe; None if it is not from a receiver."""
    try:
        return msgspec.json.decode(answer, type=ProbeAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def declaration_in(answer: bytes | str) -> DeclarationStatus:
    """Return the status in an answer to a probe; ``none`` if an older receiver answered."""
    probe_answer = probe_answer_in(answer)
    return (probe_answer and probe_answer.declaration) or DeclarationStatus()
