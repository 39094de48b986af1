"""Time zones by their IANA names."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo, available_timezones

from poussetaches.core.errors import InvalidSchedule

# Copies of other zones, which differ from machine to machine.
_LOCAL = frozenset({"localtime", "posixrules"})


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """Return the time zone of a name, also of one that ``check_zone_name`` refuses.

    Raises:
        InvalidSchedule: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _unknown(name) from None


def check_zone_name(name: str) -> None:
    """Raise for a name that is not in IANA's database, even if a file of that name can be read.

    Stored schedules may have such a name, since earlier versions took whatever file there was:
    ``localtime``, ``right/Europe/Paris``, or ``europe/paris`` where file names ignore case.

    Raises:
        InvalidSchedule: it is none.
    """
    if name not in _packaged_names() and name not in _system_names():
        raise _unknown(name)


@lru_cache(maxsize=1)
def _packaged_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


@lru_cache(maxsize=1)
def _system_names() -> frozenset[str]:
    """Return the names that this machine knows, for a zone that is newer than the package.

    To find them, hundreds of files are opened.
    """
    return frozenset(available_timezones()) - _LOCAL


def _unknown(name: str) -> InvalidSchedule:
    right = {known.lower(): known for known in _packaged_names()}.get(name.lower())
    example = f"write {right!r}" if right else "write an IANA name such as Europe/Paris, or UTC"
    return InvalidSchedule("timezone", f"{name!r} is not the name of a time zone; {example}")
