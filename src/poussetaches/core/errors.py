"""Every exception that we raise; the docstring is the default message."""

from __future__ import annotations

import inspect


class PousseTachesError(Exception):
    """Something went wrong in poussetaches."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class SettingsError(PousseTachesError):
    """A setting is unknown or impossible."""


class InvalidTask(PousseTachesError):
    """A task's field has a value that is not allowed."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidSchedule(PousseTachesError):
    """A schedule's expression cannot be used."""


class CannotListen(PousseTachesError):
    """The address cannot be listened on."""


class CannotOpenStore(PousseTachesError):
    """The store cannot be opened."""


class StoreUnavailable(PousseTachesError):
    """The store cannot be read or written at the moment."""


class StoreFull(StoreUnavailable):
    """The disk is full: nothing can be stored until there is room again."""


class StoreClosed(StoreUnavailable):
    """The store is closed."""
