"""``TaskFields``: what a push may say of a task, and the rules that its fields keep together.

One struct validates requests and describes them in the OpenAPI document.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from poussetaches.core.body import check_body
from poussetaches.core.callback import URL_EXAMPLES, CallbackUrl, check_callback
from poussetaches.core.errors import InvalidTask
from poussetaches.core.headers import MAX_HEADERS, check_headers
from poussetaches.core.push_fields import (
    Delay,
    Key,
    LabelName,
    Labels,
    LabelValue,
    OnConflict,
    Priority,
    Time,
    check_combination,
)
from poussetaches.core.queue import Name
from poussetaches.core.queue_fields import RetryFields, StatusField, Timeout, check_retry
from poussetaches.core.target import MAX_URL, check_url
from poussetaches.core.task import BodyKind

LONGEST_KEY_TTL = 2_592_000  # seconds: 30 days

Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS"]
Url = Annotated[str, Meta(min_length=1, max_length=MAX_URL, examples=URL_EXAMPLES)]
Headers = Annotated[dict[str, str], Meta(max_length=MAX_HEADERS)]
Expected = Annotated[tuple[StatusField, ...], Meta(min_length=1, max_length=32)]


class _Changeable(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a push and a patch have in common."""

    method: Method | None = None
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: str | None = None
    body_base64: str | None = None
    priority: Priority | None = None
    run_at: Time | None = None
    expected: Expected | None = None
    timeout: Timeout | None = None
    retry: RetryFields | None = None
    expires_at: Time | None = None
    on_success: CallbackUrl | None = None
    on_dead: CallbackUrl | None = None


class TaskFields(_Changeable, kw_only=True, frozen=True, gc=False):
    """What a push says of a task; null stands for what is not said."""

    url: Url
    headers: Headers | None = None
    queue: Name | None = None
    delay: Delay | None = None
    key: Key | None = None
    key_ttl: Annotated[float, Meta(gt=0, le=LONGEST_KEY_TTL)] | None = None  # seconds
    unique: Key | None = None
    on_conflict: OnConflict | None = None
    labels: Labels | None = None


class TaskChanges(_Changeable, kw_only=True, frozen=True, gc=False):
    """Changes of a task, as a merge patch (RFC 7396): null resets, or removes from an object."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str | None] | None = None
    labels: dict[LabelName, LabelValue | None] | None = None


def check_together(fields: TaskFields) -> None:
    """Refuse what the fields do not allow each other, and what the struct cannot say.

    Raises:
        InvalidTask: a field has a value that is not allowed.
    """
    check_combination(
        delay=fields.delay,
        run_at=fields.run_at,
        unique=fields.unique,
        on_conflict=fields.on_conflict,
    )
    if fields.key_ttl is not None and fields.key is None:
        raise InvalidTask("key_ttl", "has no meaning without a key")
    if fields.headers:
        check_headers(fields.headers)
    if fields.retry is not None:
        check_retry(fields.retry)
    if fields.on_success is not None:
        check_callback("on_success", fields.on_success)
    if fields.on_dead is not None:
        check_callback("on_dead", fields.on_dead)
    check_url(fields.url)


def body_of(fields: TaskFields, *, max_body: int) -> tuple[bytes, BodyKind | None]:
    """Return the body that a push gives, and in which form.

    Raises:
        InvalidTask: there are several, or it is not what its field's name says.
        BodyTooLarge: it is longer than ``max_body`` bytes.
    """
    json = b"" if fields.json is msgspec.UNSET else bytes(fields.json)
    found: list[tuple[bytes, BodyKind]] = []
    if json not in (b"", b"null"):
        found.append((json, BodyKind.JSON))
    if fields.text is not None:
        found.append((fields.text.encode(), BodyKind.TEXT))
    if fields.body_base64 is not None:
        found.append((_decoded(fields.body_base64), BodyKind.BASE64))
    if not found:
        return b"", None
    body, kind = found[0]
    if len(found) > 1:
        raise InvalidTask(found[1][1].value, f"give one body; {kind.value} is another")
    check_body(body, kind, max_body=max_body)
    return body, kind


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidTask("body_base64", f"is not base64: {exc}") from None
