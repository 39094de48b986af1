"""Formats log lines: one per event, as key=value text or as JSON.

An event is a lower-case phrase; the values in ``extra`` become its fields.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

OURS = "poussetaches"

# Attributes that are not fields.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class TextFormatter(logging.Formatter):
    """``<time> <level> <logger> <event> key=value …``, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        event = record.getMessage()
        words = [
            moment(record),
            record.levelname.lower(),
            short_name(record),
            event if event.isprintable() else json.dumps(event),
        ]
        words += [f"{name}={as_text(value)}" for name, value in fields(record).items()]
        return " ".join(words)


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``event``, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": moment(record),
            "level": record.levelname.lower(),
            "logger": short_name(record),
            "event": record.getMessage(),
        }
        # In this order, a field cannot replace one of the four.
        return json.dumps(line | fields(record) | line, default=str)


def moment(record: logging.LogRecord) -> str:
    created = datetime.fromtimestamp(record.created, UTC)
    return created.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short_name(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{OURS}.")


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields in ``extra``, and the exception if there is one."""
    found = {name: value for name, value in vars(record).items() if name not in STANDARD}
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, _ = record.exc_info
        found.setdefault("error", f"{kind.__name__}: {error}")
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return found


def as_text(value: object) -> str:
    """Return a value as JSON; an unambiguous string has no quotes."""
    if not isinstance(value, str):
        value = json.dumps(value, default=str)
        return value if " " not in value else json.dumps(value)
    plain = value.isprintable() and not any(mark in value for mark in ' "=')
    return value if value and plain else json.dumps(value)
