"""Every exception that we raise; the docstring is the default message."""

from __future__ import annotations

import inspect


class PousseTachesError(Exception):
    """Something went wrong in poussetaches."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class SettingsError(PousseTachesError):
    """A setting is unknown or impossible."""


class EditFailed(PousseTachesError):
    """The change failed with an internal error, and nothing was changed; the log says where."""


class Invalid(PousseTachesError):
    """A field has a value that is not allowed."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class InvalidTask(Invalid):
    """A task's field has a value that is not allowed."""


class BodyTooLarge(InvalidTask):
    """A task's body is longer than is allowed."""


class TargetNotAllowed(Invalid):
    """Nothing may be sent to where a URL leads."""


class InvalidQueue(Invalid):
    """A queue's setting has a value that is not allowed."""


class InvalidFilter(Invalid):
    """A filter's field has a value that is not allowed."""


class InvalidSchedule(Invalid):
    """A schedule's field has a value that is not allowed."""


class NotFound(PousseTachesError):
    """There is nothing of this name."""


class TaskNotFound(NotFound):
    """There is no task with this id."""


class QueueNotFound(NotFound):
    """There is no queue of this name."""


class ScheduleNotFound(NotFound):
    """There is no schedule of this name."""


class Conflict(PousseTachesError):
    """What there is stands in the way."""


class StateConflict(Conflict):
    """The task's state does not allow it."""

    def __init__(self, state: str, needed: str) -> None:
        super().__init__(f"the task is {state}; only {needed} tasks can be changed in this way")
        self.state = state


class TaskFailed(Conflict):
    """An internal error kept the task from being changed."""


class KeyConflict(Conflict):
    """The key stands for a push of another url, method or body."""

    def __init__(self, key: str, place: int = 0) -> None:
        super().__init__(
            f"the key {key!r} was used for a push with another url, method or body; give each "
            "push a key of its own, or push the same again"
        )
        self.place = place  # of the push among those given


class QueueInUse(Conflict):
    """The queue has waiting or running tasks; purge it, or wait for them."""


class OwnedByAnother(Conflict):
    """The name belongs to another owner's schedule."""


class OlderVersion(Conflict):
    """A newer version of this owner's schedules is kept already."""


class TooMany(Conflict):
    """There are as many as are allowed."""


class AttemptOver(Conflict):
    """The attempt is over: it ended, timed out, or the server restarted; or the token is wrong."""


class TooManyAttempts(Conflict):
    """10,000 attempts were made and more is due: do tasks push each other without end?"""


class CannotListen(PousseTachesError):
    """The address cannot be listened on."""


class AddressTaken(PousseTachesError):
    """Another program listens at the application's address."""


class TooFewDescriptors(PousseTachesError):
    """The limit of open files is too low."""


class CannotOpenStore(PousseTachesError):
    """The store cannot be opened."""


class StoreUnavailable(PousseTachesError):
    """The store cannot be read or written at the moment."""


class OutcomeUnknown(StoreUnavailable):
    """The store failed while it committed the change, which may have been made or not."""


class StoreFull(StoreUnavailable):
    """The disk is full: nothing can be stored until there is room again."""


class StoreBusy(StoreUnavailable):
    """More waits to be written than the disk can take at the moment; come again."""


class StoreClosed(StoreUnavailable):
    """The store is closed."""


class CannotWriteFile(PousseTachesError):
    """The file cannot be written."""


class CannotReadExport(PousseTachesError):
    """The file is no whole export."""
