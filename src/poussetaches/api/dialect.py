"""``Dialect``: the form of error responses for some paths.

Every layer refuses a request with a ``Problem``. The dialect of the path makes the response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from poussetaches.api.problems import Problem


class Dialect(NamedTuple):
    """The paths of a dialect, and its response to a problem."""

    name: str
    covers: Callable[[str], bool]
    refusal: Callable[[Problem], Response]


class Dialects:
    """All dialects. The first that covers a path applies, or ``V1`` if none does."""

    def __init__(self, *dialects: Dialect) -> None:
        self._dialects = dialects

    def of(self, path: str) -> Dialect:
        return next((dialect for dialect in self._dialects if dialect.covers(path)), V1)

    def refusal(self, path: str, problem: Problem) -> Response:
        """Return the response to a refused request."""
        return self.of(path).refusal(problem)


def problem_document(problem: Problem) -> Response:
    """Return a problem document (RFC 9457)."""
    document: dict[str, object] = {
        "type": f"urn:poussetaches:problem:{problem.code}",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
    }
    if problem.errors:
        document["errors"] = [msgspec.to_builtins(error) for error in problem.errors]
    response = Response(
        msgspec.json.encode(document),
        int(problem.status),
        media_type="application/problem+json",
    )
    for name, value in problem.headers:
        response.headers.append(name, value)
    return response


V1 = Dialect("v1", covers=lambda path: path.startswith("/v1/"), refusal=problem_document)
V1_ONLY = Dialects()
