"""``Responder``: refusals, failures and the headers of every response, with and without ASGI."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response

from poussetaches.api.audit_log import log_change
from poussetaches.api.dialect import Dialects
from poussetaches.api.problems import Problem, problem_of
from poussetaches.api.request_head import RequestHead
from poussetaches.api.router import Headers, Resource, not_found_problem
from poussetaches.core.errors import PousseTachesError

EXPECTED = (Problem, PousseTachesError, HTTPException)  # errors that are no defects

log = logging.getLogger(__name__)


class Responder:
    """Makes the responses to errors, in the dialect of the path.

    ``count_failure`` is called for each request that fails because of an internal error.
    """

    def __init__(self, dialects: Dialects, *, count_failure: Callable[[], None]) -> None:
        self._dialects = dialects
        self.count_failure = count_failure
        self._date = Date()

    def refusal(self, problem: Problem, head: RequestHead, resource: Resource) -> Response:
        """Return the response to a refused request."""
        response = self._dialects.refusal(head.path, problem)
        response.raw_headers += self.common_headers(head, resource, response.status_code)
        return response

    def failure(self, exc: Exception, head: RequestHead, resource: Resource) -> Response:
        """Return the response to an error; count and log an unexpected one."""
        if not isinstance(exc, EXPECTED):
            self.count_failure()
            fields = {"method": head.method, "path": head.path}
            log.error("request failed", extra=fields, exc_info=exc)
        return self.refusal(_problem_of(exc, head), head, resource)

    def common_headers(self, head: RequestHead, resource: Resource, status: int) -> Headers:
        """Return the headers that every response has; write a change to the audit log."""
        if resource.is_audited:
            log_change(head, status)
        return (self._date.header(), *resource.headers)


class Date:
    """The Date header (RFC 9110, section 6.6.1), formatted at most once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._header = (b"date", b"")

    def header(self) -> tuple[bytes, bytes]:
        """Return the name and the current value."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._header = (b"date", formatdate(second, usegmt=True).encode())
        return self._header


def _problem_of(exc: Exception, head: RequestHead) -> Problem:
    """Return the problem of an error; mounts raise Starlette's ``HTTPException``."""
    if not isinstance(exc, HTTPException):
        return problem_of(exc)
    status = HTTPStatus(exc.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return not_found_problem(head.path)
    code = "method-not-allowed" if status is HTTPStatus.METHOD_NOT_ALLOWED else "refused"
    headers = tuple((exc.headers or {}).items())
    return Problem(status, code, exc.detail, headers=headers)
