"""Durations of applications: numbers of seconds, or ``timedelta``."""

from __future__ import annotations

from datetime import timedelta

Seconds = float | timedelta


def in_seconds(duration: Seconds) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def with_seconds(fields: object) -> object:
    """Return the fields of a request with durations in seconds, also in lists and objects.

    The body (``json``) is not changed: a ``timedelta`` in it is sent as text.
    """
    match fields:
        case timedelta():
            return fields.total_seconds()
        case dict():
            return {
                name: value if name == "json" else with_seconds(value)
                for name, value in fields.items()
            }
        case list() | tuple():
            return [with_seconds(value) for value in fields]
        case _:
            return fields
