"""Configures logging: the handler, its format and the log levels."""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
from typing import TextIO

from poussetaches.logs.formatter import OURS, JsonFormatter, TextFormatter
from poussetaches.logs.writer import LineWriter

log = logging.getLogger(__name__)


def configure_logging(format: str, level: str, stream: TextIO) -> None:
    """Send the events of this process to a stream; a second call replaces the first.

    ``level`` is the minimum level of our own events; libraries log warnings and above.
    """
    handler = _handler_for(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for other in root.handlers[:]:
        if isinstance(other.formatter, TextFormatter | JsonFormatter):
            root.removeHandler(other)
            other.close()
    root.addHandler(handler)

    threshold = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger(OURS).setLevel(threshold)


def log_python_errors() -> None:
    """Log the warnings and errors that Python would print to standard error.

    Printing blocks if the stream is not read.
    """
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread


def dropped_line_count() -> int:
    """Return the number of log lines that were dropped since the start."""
    return sum(
        handler.writer.dropped_count
        for handler in logging.getLogger().handlers
        if isinstance(handler, LineHandler)
    )


class LineHandler(logging.Handler):
    """Passes lines to a writer thread, and waits for it only at the end of the process."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = LineWriter(descriptor, report=self.report)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record to be written."""
        try:
            line = self.format(record)
        except Exception as exc:  # a field cannot be formatted; log the event without it
            line = f"{record.name} {record.msg!r} cannot be formatted: {exc!r}"
        self.writer.write(f"{line}\n".encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Wait until everything is written, for a few seconds at most."""
        self.writer.flush()

    def close(self) -> None:
        """Stop writing."""
        self.writer.close()
        super().close()

    def report(self, count: int) -> bytes:
        """Return the line that reports how many lines were dropped."""
        record = log.makeRecord(
            log.name,
            logging.WARNING,
            __file__,
            0,
            "log lines dropped, the reader is too slow",
            (),
            None,
            extra={"count": count},
        )
        return f"{self.format(record)}\n".encode()


def _handler_for(stream: TextIO) -> logging.Handler:
    """Return a handler for a stream; it has a thread if writing could block."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a real file
        return logging.StreamHandler(stream)
    mode = os.fstat(descriptor).st_mode
    has_reader = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
    return LineHandler(descriptor) if has_reader else logging.StreamHandler(stream)


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    extra = {"where": repr(unraisable.object), "what": unraisable.err_msg}
    log.error("uncaught error", extra=extra, exc_info=error)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    name = None if args.thread is None else args.thread.name
    log.error("thread ended by an error", extra={"of": name}, exc_info=args.exc_value)
