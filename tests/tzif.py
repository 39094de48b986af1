"""Reads the changes in a time zone's file (RFC 9636), which ``zoneinfo`` does not expose."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from importlib import resources

_HEADER = struct.Struct(">4s c 15x 6L")


def read_changes(name: str) -> tuple[list[datetime], list[timedelta]]:
    """Return when a zone's offset changes, and its offsets: the first, and one after each change.

    The yearly rule at the end of the file is ignored.
    """
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    # The second block has the times in 64 bits.
    *_, utc_count, wall_count, leap_count, time_count, type_count, name_bytes = _HEADER.unpack(
        data[: _HEADER.size]
    )
    start = _HEADER.size + time_count * 5 + type_count * 6 + name_bytes
    data = data[start + leap_count * 8 + wall_count + utc_count :]
    *_, time_count, type_count, _ = _HEADER.unpack(data[: _HEADER.size])
    data = data[_HEADER.size :]
    times = struct.unpack(f">{time_count}q", data[: time_count * 8])
    types = data[time_count * 8 : time_count * 9]
    seconds = [
        offset
        for offset, _, _ in struct.iter_unpack(">lBB", data[time_count * 9 :][: type_count * 6])
    ]
    moments: list[datetime] = []
    offsets = [timedelta(seconds=seconds[0])]
    for time, kind in zip(times, types, strict=True):
        offset = timedelta(seconds=seconds[kind])
        if offset != offsets[-1]:
            moments.append(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time))
            offsets.append(offset)
    return moments, offsets
