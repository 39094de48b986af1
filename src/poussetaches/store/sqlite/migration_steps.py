"""Steps of migrations that SQL cannot express; they run in the migration's transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.failures import group_of

SLICE = 1000  # rows in memory at the same time

log = logging.getLogger(__name__)

_FAILED = """
SELECT seq, queue, url, last_status,
    ifnull(last_error, CASE WHEN last_status IS NULL THEN reason END)
FROM tasks
WHERE seq > ? AND (state = 'dead' OR (state = 'waiting' AND attempt_count > 0))
ORDER BY seq LIMIT ?
"""
_GROUPED = """
UPDATE tasks SET failure_group = ?, failed_at = ifnull(
    ended_at, ifnull((SELECT max(started_at) FROM attempts WHERE task = seq), created_at)
) WHERE seq = ?
"""
_GROUP = """
INSERT INTO failure_groups (id, queue, url_path, status, error) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""


def group_failures(connection: sqlite3.Connection) -> None:
    """Assign existing failing and dead tasks to failure groups."""
    factory = connection.text_factory
    # Unreadable rows are set aside later, when they are read.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        last = 0
        while rows := connection.execute(_FAILED, (last, SLICE)).fetchall():
            for seq, queue, url, status, error in rows:
                try:
                    group = group_of(queue=queue, url=url, status=status, error=error)
                except Exception as exc:  # no row may stop the upgrade
                    fields = {"row": seq, "error": describe_defect(exc), "stack": stack_of(exc)}
                    log.error("task has no failure group", extra=fields)
                    continue
                values = (group.id, group.queue, group.url_path, group.status, group.error)
                connection.execute(_GROUP, values)
                connection.execute(_GROUPED, (group.id, seq))
            last = rows[-1][0]
    finally:
        connection.text_factory = factory


# By the number of the migration.
STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {2: group_failures}
