"""The format of an export: a header, one record per line, and an end line with the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from poussetaches.core.errors import CannotReadExport, InvalidSchedule, InvalidTask
from poussetaches.core.json_storage import decode, encode
from poussetaches.core.moment import Moment
from poussetaches.core.schedule import check_expression
from poussetaches.core.target import check_stored_url
from poussetaches.store.export_records import Record, ScheduleRecord, TaskRecord

FORMAT = "poussetaches-export"
VERSION = 1


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """The first line; ``tasks`` is the approximate number of tasks."""

    format: str = FORMAT
    version: int = VERSION
    exported_at: Moment
    tasks: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The last line: the number of records of each type."""

    counts: dict[str, int]


_NOT_DECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode_header = msgspec.json.Decoder(Header).decode
_LINE: msgspec.json.Decoder[Record | End] = msgspec.json.Decoder(Record | End)


def lines_of(header: Header, records: Iterable[Record]) -> Iterator[bytes]:
    counts: Counter[str] = Counter()
    yield encode(header) + b"\n"
    for record in records:
        counts[type_of(record)] += 1
        yield encode(record) + b"\n"
    yield encode(End(counts=dict(sorted(counts.items())))) + b"\n"


def type_of(record: Record) -> str:
    """Return the name of a record's type in an export."""
    return str(record.__struct_config__.tag)


def read_header(file: BinaryIO) -> Header:
    """Return the first line of an export.

    Raises:
        CannotReadExport: the file is not an export, or of a newer version.
    """
    try:
        header = _decode_header(next(_read_lines(file), b""))
    except _NOT_DECODED as exc:
        raise CannotReadExport(f"line 1 is not the header of an export: {exc}") from exc
    if header.format != FORMAT or header.version > VERSION:
        raise CannotReadExport(
            f"line 1: the format is {header.format!r}, version {header.version}; this version of "
            f"poussetaches reads {FORMAT!r} up to version {VERSION}"
        )
    return header


def read_records(file: BinaryIO) -> Iterator[tuple[int, Record]]:
    """Yield the records after the header, each with its line number.

    Raises:
        CannotReadExport: a line is not a record, or the end is missing or has other counts.
    """
    counts: Counter[str] = Counter()
    lines = _read_lines(file)
    for number, line in enumerate(lines, start=2):
        record = _record(number, line)
        if isinstance(record, End):
            if dict(counts) != record.counts:
                raise CannotReadExport(
                    f"line {number}: the end line counts {record.counts}, "
                    f"the file has {dict(counts)}"
                )
            if next(lines, None) is not None:
                raise CannotReadExport(f"line {number + 1}: there is data after the end line")
            return
        counts[type_of(record)] += 1
        yield number, record
    raise CannotReadExport(
        f"the end line is missing after line {sum(counts.values()) + 1}: the file is truncated"
    )


def _read_lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        for line in file:  # noqa: UP028 - `yield from` would close the file with the generator
            yield line
    except OSError as exc:
        raise CannotReadExport(f"the export cannot be read: {exc.strerror or exc}") from exc


def _record(number: int, line: bytes) -> Record | End:
    try:
        if not line.endswith(b"\n"):
            raise CannotReadExport(f"line {number} is truncated")
        record = decode(_LINE, line.removesuffix(b"\n"))
        if isinstance(record, TaskRecord):
            check_stored_url(record.task.url)
            if len(record.ordinals) != len(record.attempts):
                raise CannotReadExport(
                    f"line {number}: there must be one ordinal for each attempt"
                )
        elif isinstance(record, ScheduleRecord):
            check_stored_url(record.schedule.task.url)
            check_expression(record.schedule.cron, record.schedule.timezone)
    except (*_NOT_DECODED, InvalidTask, InvalidSchedule) as exc:
        raise CannotReadExport(f"line {number}: {exc}") from exc
    return record
