"""Defaults of settings that more than one layer needs.

Those of queues and retries are the defaults of ``QueueSettings`` and ``RetryPolicy``.
"""

from __future__ import annotations

HOST = "127.0.0.1"
PORT = 7991
MAX_IN_FLIGHT = 256  # attempts
HOLD_FOR = 3600.0  # seconds
