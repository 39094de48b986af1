"""Why an attempt got no complete answer, as a value that programs can tell apart."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt got no complete answer. The values are stored, and shown by the API."""

    # The origin accepts no connections, and is held:
    UNKNOWN_HOST = "unknown_host"  # the host's name does not exist
    LOOKUP_FAILED = "lookup_failed"  # the DNS did not answer; the name may well exist
    NOT_CONNECTED = "not_connected"
    NO_LOCAL_PORT = "no_local_port"  # or no local address, for this destination alone
    RESTARTED = "restarted"  # the connection was lost without an answer, and the next one refused
    ORIGIN_HELD = "origin_held"  # no connection was tried, since the origin was away too long
    # Nothing was sent, and no origin is at fault:
    OUT_OF_RESOURCES = "out_of_resources"  # this machine has no descriptors or memory left
    TARGET_NOT_ALLOWED = "target_not_allowed"
    INVALID_REQUEST = "invalid_request"  # the task's URL or headers cannot be sent
    INTERNAL_ERROR = "internal_error"  # a defect of poussetaches
    # The origin can be reached:
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"  # or the answer is not HTTP


UNREACHABLE = frozenset(
    {
        Cause.UNKNOWN_HOST,
        Cause.LOOKUP_FAILED,
        Cause.NOT_CONNECTED,
        Cause.NO_LOCAL_PORT,
        Cause.RESTARTED,
        Cause.ORIGIN_HELD,
    }
)
EXHAUSTED = frozenset({Cause.OUT_OF_RESOURCES, Cause.NO_LOCAL_PORT})
