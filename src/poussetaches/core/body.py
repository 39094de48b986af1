"""The rules for the body of a task."""

from __future__ import annotations

from poussetaches.core.errors import BodyTooLarge, InvalidTask
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep
from poussetaches.core.task import BodyKind


def check_body(body: bytes, kind: BodyKind, *, max_body: int) -> None:
    """Check the size of a body, and the depth of a JSON one.

    Raises:
        BodyTooLarge: it is longer than ``max_body`` bytes.
        InvalidTask: it is nested too deeply.
    """
    if len(body) > max_body:
        raise BodyTooLarge(kind.value, f"longer than {max_body} bytes (setting max_body)")
    if kind is BodyKind.JSON and is_too_deep(body):
        raise InvalidTask("json", f"is nested more than {MAX_DEPTH} levels deep")
