"""Checks of ``manage.py check``, for mistakes in the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from poussetaches.core.setting_names import APPLICATION, similar_name
from poussetaches.django.project_tasks import registry

MIDDLEWARE = "poussetaches.django.Middleware"
KNOWN = ("NAME", *APPLICATION)


def check_middleware(**_: Any) -> Sequence[CheckMessage]:
    """Check that the middleware comes first."""
    if [*settings.MIDDLEWARE[:1]] == [MIDDLEWARE]:
        return []
    if MIDDLEWARE in settings.MIDDLEWARE:
        problem = f"{MIDDLEWARE} is not the first of MIDDLEWARE"
        hint = "Middleware before it could refuse deliveries; move it to the top."
    else:
        problem = f"{MIDDLEWARE} is missing in MIDDLEWARE"
        hint = "No tasks are delivered without it; add it at the top."
    return [Error(problem, hint=hint, id="poussetaches.E001")]


def check_names(**_: Any) -> Sequence[CheckMessage]:
    """Check that no two Tasks() share a name and undo each other's schedules."""
    counts = Counter(tasks.name for tasks in registry)
    return [
        Error(
            f"{count} Tasks() have no name" if name is None else f"{count} Tasks() are {name!r}",
            hint="Each would delete the schedules of the others: import one of them everywhere,"
            " or give each a name of its own.",
            id="poussetaches.E002",
        )
        for name, count in counts.items()
        if count > 1
    ]


def check_settings(**_: Any) -> Sequence[CheckMessage]:
    """Check settings.POUSSETACHES for unknown names and wrong types."""
    given = getattr(settings, "POUSSETACHES", {})
    known = ", ".join(KNOWN)
    if not isinstance(given, Mapping):
        problems = ["POUSSETACHES is not a dictionary"]
    else:
        problems = [_unknown(name) for name in given if name not in KNOWN]
        problems += [
            f"POUSSETACHES[{name!r}] is not a string"
            for name, value in given.items()
            if name in KNOWN and not isinstance(value, str | None)
        ]
    return [
        Error(problem, hint=f"It has strings for {known}.", id="poussetaches.E003")
        for problem in problems
    ]


def _unknown(name: object) -> str:
    similar = similar_name(name, KNOWN) if isinstance(name, str) else None
    advice = f"; did you mean {similar!r}?" if similar else ""
    return f"POUSSETACHES has no setting {name!r}{advice}"
