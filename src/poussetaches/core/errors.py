"""Every exception that we raise; the docstring is the default message."""

from __future__ import annotations

import inspect


class PousseTachesError(Exception):
    """Something went wrong in poussetaches."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class SettingsError(PousseTachesError):
    """A setting is unknown or has an invalid value."""


class EditFailed(PousseTachesError):
    """The change failed with an internal error, and nothing was changed; see the server's log."""


class Invalid(PousseTachesError):
    """A field has a value that is not allowed."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class InvalidTask(Invalid):
    """A task's field has a value that is not allowed."""


class BodyTooLarge(InvalidTask):
    """A task's body is too long."""


class TargetNotAllowed(Invalid):
    """Sending to this URL is not allowed."""


class InvalidQueue(Invalid):
    """A queue's setting has a value that is not allowed."""


class InvalidFilter(Invalid):
    """A filter's field has a value that is not allowed."""


class InvalidSchedule(Invalid):
    """A schedule's field has a value that is not allowed."""


class NotFound(PousseTachesError):
    """Nothing has this name."""


class TaskNotFound(NotFound):
    """There is no task with this id."""


class QueueNotFound(NotFound):
    """There is no queue with this name."""


class ScheduleNotFound(NotFound):
    """There is no schedule with this name."""


class Conflict(PousseTachesError):
    """The request conflicts with the current state."""


class StateConflict(Conflict):
    """The task's state does not allow it."""

    def __init__(self, state: str, needed: str) -> None:
        super().__init__(f"the task is {state}; this call is for {needed} tasks only")
        self.state = state


class TaskNotWritten(Conflict):
    """The task could not be changed because of an internal error; see the server's log."""


class KeyConflict(Conflict):
    """The key was used for a push with another url, method or body."""

    def __init__(self, key: str, place: int = 0) -> None:
        super().__init__(
            f"the key {key!r} was used for a push with another url, method or body; use "
            "another key, or repeat the same push"
        )
        self.place = place  # index of the push in its batch


class QueueInUse(Conflict):
    """The queue has waiting or running tasks; purge it, or wait for them."""


class OwnedByAnother(Conflict):
    """The name belongs to another owner's schedule."""


class OlderVersion(Conflict):
    """A newer version of this owner's schedules is already stored."""


class TooMany(Conflict):
    """The maximum number is reached."""


class AttemptOver(Conflict):
    """The attempt is over: it ended, timed out, or the server restarted; or the token is wrong."""


class TooManyAttempts(Conflict):
    """10,000 attempts were made and tasks are still due; check for tasks that push each other."""


class CannotListen(PousseTachesError):
    """The server cannot listen on the address."""


class AddressTaken(PousseTachesError):
    """Another program listens at the application's address."""


class TooFewDescriptors(PousseTachesError):
    """The limit of open files is too low."""


class CannotOpenStore(PousseTachesError):
    """The store cannot be opened."""


class StoreUnavailable(PousseTachesError):
    """The store cannot be read or written at the moment."""


class OutcomeUnknown(StoreUnavailable):
    """The store failed during the commit; the change may or may not have been made."""


class StoreFull(StoreUnavailable):
    """The disk is full; nothing can be stored until space is freed."""


class StoreBusy(StoreUnavailable):
    """Too many writes are pending; retry later."""


class StoreClosed(StoreUnavailable):
    """The store is closed."""


class CannotWriteFile(PousseTachesError):
    """The file cannot be written."""


class CannotReadExport(PousseTachesError):
    """The file is not a complete export."""
