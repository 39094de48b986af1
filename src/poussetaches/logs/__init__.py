"""The log: one line per event, over the standard library's logging."""

from poussetaches.logs.setup import (
    configure_logging,
    dropped_line_count,
    log_python_errors,
)

__all__ = ["configure_logging", "dropped_line_count", "log_python_errors"]
