"""The owner of schedules of applications without a name, which all of them share."""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.core.errors import OwnedByAnother
from poussetaches.core.schedule import Schedule
from poussetaches.core.target import is_path

NAMELESS_OWNER = "app"
SHOWN = 3  # names of schedules in a message


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
    known = list(known)
    before, after = _modules(known), _modules(declared)
    if not before or not after or not before.isdisjoint(after):
        return
    names = [schedule.name for schedule in known]
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    raise OwnedByAnother(
        f"this server has the schedules of another application without a name ({shown}); give each"
        " application a name, Tasks(name=…), or set POUSSETACHES_URL to this application's own"
        f" server. If they are an older version of these, delete them: DELETE"
        f" /v1/schedules/{names[0]}"
    )


def _modules(schedules: Iterable[Schedule]) -> set[str]:
    """Return the top-level modules of scheduled tasks; empty if one of them is unknown."""
    modules = {_module_of(schedule.task.url) for schedule in schedules}
    return set() if "" in modules else modules


def _module_of(url: str) -> str:
    module, dot, _ = url.rpartition("/")[2].partition(".")
    return module if is_path(url) and dot else ""
