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
    """Return the time zone of a name, including names that ``check_zone_name`` refuses.

    Raises:
        InvalidSchedule: there is no such time zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _unknown(name) from None


def check_zone_name(name: str) -> None:
    """Check that a name is in IANA's database.

    Stored schedules may have other names, since earlier versions accepted the name of any file:
    ``localtime``, ``right/Europe/Paris``, or ``europe/paris`` where file names ignore case.

    Raises:
        InvalidSchedule: it is not.
    """
    if name not in _packaged_names() and name not in _system_names():
        raise _unknown(name)


@lru_cache(maxsize=1)
def _packaged_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


@lru_cache(maxsize=1)
def _system_names() -> frozenset[str]:
    """Return the names that this machine knows: one may be newer than the package.

    This is slow, since it opens hundreds of files.
    """
    return frozenset(available_timezones()) - _LOCAL


def _unknown(name: str) -> InvalidSchedule:
    right = {known.lower(): known for known in _packaged_names()}.get(name.lower())
    advice = f"write {right!r}" if right else "write an IANA name such as Europe/Paris, or UTC"
    return InvalidSchedule("timezone", f"{name!r} is not the name of a time zone; {advice}")
