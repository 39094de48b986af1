from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from zoneinfo import available_timezones, reset_tzpath

import pytest

from poussetaches.core.errors import InvalidSchedule
from poussetaches.core.time_zone import check_zone_name, zone_named

IANA = sorted(available_timezones() - {"localtime", "posixrules"})


def test_every_name_of_the_database_is_taken() -> None:
    for name in IANA:
        check_zone_name(name)
        assert zone_named(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "\0", ".", "..", "Mars/Olympus", "Europe", "Europe/", "/Europe/Paris"),
        *("../../etc/passwd", "/etc/passwd", "Europe/../Europe/Paris", "Europe//Paris"),
        # Files that the loader finds on many machines.
        *("localtime", "posixrules", "posix/Europe/Paris", "right/Europe/Paris"),
        *("leapseconds", "tzdata.zi", "zone.tab", "tzdata", "+VERSION"),
        *(
            "europe/paris",
            "EUROPE/PARIS",
            " Europe/Paris",
            "utc",
            "UTC+2",
            "+02:00",
            "Europe/Par\u00eds",
        ),
    ],
)
def test_other_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="is not the name of a time zone") as caught:
        check_zone_name(name)

    assert caught.value.field == "timezone"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("europe/paris", "; write 'Europe/Paris'"),
        ("utc", "; write 'UTC'"),
        ("localtime", "; write an IANA name such as Europe/Paris, or UTC"),
    ],
)
def test_refusal_says_what_to_write(name: str, advice: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        check_zone_name(name)

    assert caught.value.reason.endswith(advice)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "Europe", "\0"])
def test_zone_that_does_not_exist_cannot_be_read(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="is not the name of a time zone"):
        zone_named(name)


@pytest.fixture
def odd_files(tmp_path: Path) -> Iterator[None]:
    """Use a zone folder in which copies of Paris have other names."""
    paris = resources.files("tzdata").joinpath("zoneinfo", "Europe", "Paris").read_bytes()
    (tmp_path / "right").mkdir()
    for name in ("localtime", "posixrules", "right/Odd"):
        (tmp_path / name).write_bytes(paris)
    reset_tzpath(to=[tmp_path])
    yield
    reset_tzpath()


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize("name", ["localtime", "posixrules", "right/Odd"])
def test_copy_of_a_zone_can_be_read_but_not_chosen(name: str) -> None:
    assert zone_named(name).key == name
    with pytest.raises(InvalidSchedule):
        check_zone_name(name)
