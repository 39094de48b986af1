"""Whether a declaration would replace one of another application.

Applications without a name share one owner, and are distinguished by the modules of their tasks.
"""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.core.errors import OwnedByAnother
from poussetaches.core.queue import Declarer, Queue
from poussetaches.core.schedule import Schedule
from poussetaches.core.target import is_path

NAMELESS_OWNER = "app"
SHOWN = 3  # names of schedules in a message
SEPARATE = (
    "give each application a name, Tasks(name=…), or set POUSSETACHES_URL to this application's"
    " own server"
)


def check_same_application(
    owner: str, known: Iterable[Schedule], declared: Iterable[Schedule]
) -> None:
    """Check that an application without a name does not replace the schedules of another one.

    Names of tasks begin with their module. If the declared schedules have no module in common
    with the known ones, they are another application's.

    Raises:
        OwnedByAnother: they are.
    """
    if owner != NAMELESS_OWNER:
        return
    _check_modules(known, _modules(declared))


def check_same_declarer(queue: Queue, declarer: Declarer, known: Iterable[Schedule]) -> None:
    """Check that an application does not replace another one's declaration of a queue.

    ``known`` are the schedules of the applications without a name.

    Raises:
        OwnedByAnother: it would.
    """
    before = queue.declarer
    if before is not None and not _is_same_application(before, declarer):
        whose = ", ".join(before.modules) if before.owner == NAMELESS_OWNER else before.owner
        raise OwnedByAnother(
            f"another application ({whose}) declared this queue; {SEPARATE}. If it was an older"
            f" version of this one, end its declaration: PATCH"
            f" /v1/queues/{queue.name}?declared=true with the body {{}}"
        )
    if declarer.owner == NAMELESS_OWNER:
        _check_modules(known, set(declarer.modules))


def _is_same_application(one: Declarer, other: Declarer) -> bool:
    if one.owner != other.owner:
        return False
    if one.owner != NAMELESS_OWNER or not one.modules or not other.modules:
        return True
    return not set(one.modules).isdisjoint(other.modules)


def _check_modules(known: Iterable[Schedule], modules: set[str]) -> None:
    """Check that the known schedules are of these modules.

    Raises:
        OwnedByAnother: they have none of them.
    """
    known = list(known)
    before = _modules(known)
    if not before or not modules or not before.isdisjoint(modules):
        return
    names = [schedule.name for schedule in known]
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    raise OwnedByAnother(
        f"this server has the schedules of another application without a name ({shown});"
        f" {SEPARATE}. If they are an older version of these, delete them: DELETE"
        f" /v1/schedules/{names[0]}"
    )


def _modules(schedules: Iterable[Schedule]) -> set[str]:
    """Return the top-level modules of scheduled tasks; empty if one of them is unknown."""
    modules = {_module_of(schedule.task.url) for schedule in schedules}
    return set() if "" in modules else modules


def _module_of(url: str) -> str:
    module, dot, _ = url.rpartition("/")[2].partition(".")
    return module if is_path(url) and dot else ""
