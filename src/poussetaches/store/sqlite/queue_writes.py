"""The stored settings of queues, edits of them, and token buckets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from poussetaches.core.errors import PousseTachesError, QueueInUse
from poussetaches.core.queue import DEFAULT_QUEUE, BucketRecord, Queue
from poussetaches.store.base import QueueEdit
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.rows import UnreadableRow, queue_from_row, text_of
from poussetaches.store.sqlite.transaction import SqliteTransaction

_decode_bucket = msgspec.json.Decoder(BucketRecord).decode

log = logging.getLogger(__name__)


class EditCall(NamedTuple):
    """The arguments of ``edit``."""

    name: str
    edit: QueueEdit


def stored_queues(reading: Reading) -> dict[str, Queue]:
    """Return every queue; one with unreadable settings gets none of its own."""
    found = {}
    for row in reading.all("stored_queues"):
        raw_name, _, _, configured, paused = row
        name = text_of(raw_name)
        try:
            found[name] = queue_from_row(row)
        except UnreadableRow as exc:
            log.error(
                "queue settings cannot be read: the server's apply until they are set again",
                extra={"queue": name, "reason": str(exc)},
            )
            found[name] = Queue(name=name, configured=bool(configured), paused=bool(paused))
    return found


def changed_queues(
    before: Mapping[str, Queue], now: Mapping[str, Queue]
) -> dict[str, Queue | None]:
    """Return new and changed queues, and None for deleted ones."""
    changed: dict[str, Queue | None] = {
        name: queue for name, queue in now.items() if before.get(name) != queue
    }
    return changed | {name: None for name in before if name not in now}


def buckets(reading: Reading) -> dict[str, BucketRecord]:
    """Return the stored token buckets that can be read."""
    found = {}
    for name, content in reading.all("buckets"):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found[str(name, "utf-8")] = _decode_bucket(content)
    return found


def write_buckets(
    tx: SqliteTransaction, calls: Sequence[Mapping[str, BucketRecord]]
) -> Sequence[None]:
    for call in calls:
        for queue, record in call.items():
            text = msgspec.json.encode(record).decode()
            tx.connection.execute(tx.sql["put_server_value"], (f"bucket:{queue}", text))
    return [None] * len(calls)


def edit(
    tx: SqliteTransaction, items: Sequence[EditCall]
) -> Sequence[Queue | PousseTachesError | None]:
    """Edit queues; return for each the new queue, or the error that refused the edit."""
    return [_edit_one(tx, item) for item in items]


def _edit_one(tx: SqliteTransaction, item: EditCall) -> Queue | PousseTachesError | None:
    known = tx.queue(item.name)
    try:
        new = item.edit(known)
    except PousseTachesError as exc:
        return exc
    if new is not None and new != known:
        tx.put_queue(new)
    elif new is None and known is not None:
        if item.name == DEFAULT_QUEUE:
            return QueueInUse(f"the queue {DEFAULT_QUEUE!r} cannot be deleted")
        if any(tx.counts(item.name).values()):
            return QueueInUse()
        tx.delete_queue(item.name)
        tx.connection.execute(tx.sql["free_keys_of_queue"], (item.name,))
    return new
