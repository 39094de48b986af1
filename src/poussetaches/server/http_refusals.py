"""Problems of requests that are refused before their path is known to the application."""

from __future__ import annotations

from http import HTTPStatus

from poussetaches.api.problems import Problem, unavailable
from poussetaches.api.request_head import quoted

MAX_HEAD = 64 * 1024  # bytes of a head, of trailers, and of everything else except the body

_OTHER_PROTOCOLS = (
    (b"\x16\x03", "it is TLS, and the server has plain HTTP only; use http://"),
    (b"PRI * HTTP/2", "it is HTTP/2, and the server has HTTP/1.1 only"),
)


def not_http(reason: str) -> Problem:
    detail = f"HTTP/1.1 does not allow this request: {reason}"
    return Problem(HTTPStatus.BAD_REQUEST, "refused", detail)


def other_protocol(first: bytes) -> Problem | None:
    """Return the problem of a connection that begins with another protocol."""
    for greeting, reason in _OTHER_PROTOCOLS:
        if first.startswith(greeting):
            return not_http(reason)
    return None


def unknown_version(version: str) -> Problem:
    detail = f"HTTP/{version} is unsupported; HTTP/1.1 and HTTP/1.0 are supported"
    return Problem(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "unsupported-version", detail)


def unknown_coding(value: bytes) -> Problem:
    detail = f"Transfer-Encoding {quoted(value)} is unsupported; only chunked is supported"
    return Problem(HTTPStatus.NOT_IMPLEMENTED, "unsupported-transfer-encoding", detail)


def compressed(value: bytes) -> Problem:
    detail = f"Content-Encoding {quoted(value)} is unsupported; send the body uncompressed"
    headers = (("Accept-Encoding", "identity"),)  # RFC 9110, section 15.5.16
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-content-encoding", detail, headers=headers
    )


def head_too_large() -> Problem:
    detail = f"the head of the request is longer than {MAX_HEAD} bytes"
    return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", detail)


def too_slow() -> Problem:
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", "the request did not arrive in time")


def too_many_connections() -> Problem:
    return unavailable("busy", "there are too many connections; retry later")
