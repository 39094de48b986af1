"""The log: one line per event, over the standard library's logging."""

from poussetaches.logs.configuration import (
    configure_logging,
    dropped_line_count,
    log_what_python_prints,
)

__all__ = ["configure_logging", "dropped_line_count", "log_what_python_prints"]
