"""Random calls to the service and its model: pushes, patches, filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from poussetaches.core.moment import Moment, rfc3339
from tests.integration.service_model import BACKOFF, EVERY, MULTIPLIER, Known, Model

BASE = "http://app.test"
QUEUES = ("default", "mail")
PATHS = ("/a", "/b", "/c")
LABELS = ("x", "y")
EXACT = {"min_backoff": BACKOFF, "multiplier": MULTIPLIER, "jitter": 0}
SCHEDULE = {
    "cron": f"@every {EVERY}s",
    "task": {"url": f"{BASE}/a", "retry": {"max_attempts": 2, **EXACT}},
}
KEY_TTL = 20  # seconds

paths = st.sampled_from(PATHS)
bodies = st.sampled_from([1, 2])
attempts = st.sampled_from([None, 1, 2, 3])
labels = st.sampled_from([None, *LABELS])
priorities = st.sampled_from([0, 0, 5, -5])

pushes = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "path": paths,
        "body": bodies,
        "delay": st.sampled_from([0, 0, 0, 30]),
        "max_attempts": attempts,
        "priority": priorities,
        "expires_in": st.sampled_from([None, None, None, 25, 100]),
        "label": labels,
        "once": st.sampled_from(
            [
                *([{}] * 3),
                *([{"key": "k", "key_ttl": KEY_TTL}] * 3),
                {"unique": "u"},
                {"unique": "u", "on_conflict": "replace"},
            ]
        ),
    }
)
crowds = st.lists(pushes, min_size=2, max_size=6)
patches = st.fixed_dictionaries(
    {},
    optional={
        "path": paths,
        "body": bodies,
        "run_in": st.sampled_from([None, 0, 30]),
        "max_attempts": attempts,
        "priority": priorities,
        "expires_in": st.sampled_from([None, 25, 100]),
        "label": labels,
    },
)

# A filter as the API takes it, and as the model does.
FILTERS: dict[str, tuple[dict[str, object], Callable[[Known], bool]]] = {
    "dead": ({"state": "dead"}, lambda task: task.state == "dead"),
    "waiting in mail": (
        {"state": "waiting", "queue": "mail"},
        lambda task: (task.state, task.queue) == ("waiting", "mail"),
    ),
    "ended": ({"state": "dead,succeeded"}, lambda task: task.has_ended),
    "failing": ({"failing": True}, lambda task: task.is_failing),
    "label": ({"label": "kind:x"}, lambda task: task.label == "x"),
    "url": ({"url": f"{BASE}/b"}, lambda task: task.path == "/b"),
    "exhausted": ({"reason": "exhausted"}, lambda task: task.reason == "exhausted"),
    "runs": ({"schedule": "s"}, lambda task: task.schedule == "s"),
    "text": ({"text": "APP.test/c"}, lambda task: task.path == "/c"),
    "key": ({"key": "k"}, lambda task: task.key == "k"),
}

SEEN = (
    *("id", "queue", "url", "state", "reason", "priority", "run_at", "round", "attempt_count"),
    *("last_status", "expires_at", "labels", "unique", "key", "schedule"),
)


def push_fields(push: Mapping[str, Any], *, now: int) -> dict[str, object]:
    """Return a push in the form of the API."""
    fields: dict[str, object] = {
        "queue": push["queue"],
        "url": BASE + push["path"],
        "json": push["body"],
        "delay": push["delay"],
        "priority": push["priority"],
        "retry": {"max_attempts": push["max_attempts"], **EXACT},
        "expires_at": moment_in(push["expires_in"], now=now),
        **push["once"],
    }
    if push["label"] is not None:
        fields["labels"] = {"kind": push["label"]}
    return fields


def pushed(id: str, push: Mapping[str, Any], model: Model) -> Known:
    """Return a push in the form of the model."""
    expires_in = push["expires_in"]
    return Known(
        id=id,
        queue=push["queue"],
        path=push["path"],
        body=push["body"],
        order=model.next_order(),
        run_at=model.after(push["delay"]),
        max_attempts=push["max_attempts"],
        priority=push["priority"],
        expires_at=None if expires_in is None else model.after(expires_in),
        label=push["label"],
        key=push["once"].get("key"),
        unique=push["once"].get("unique"),
    )


def patch_fields(patch: Mapping[str, Any], *, now: int) -> dict[str, object]:
    """Return a patch in the form of the API."""
    fields: dict[str, Callable[[Any], tuple[str, object]]] = {
        "path": lambda path: ("url", BASE + path),
        "body": lambda body: ("json", body),
        "run_in": lambda seconds: ("run_at", moment_in(seconds, now=now)),
        "max_attempts": lambda number: ("retry", {"max_attempts": number}),
        "priority": lambda priority: ("priority", priority or None),
        "expires_in": lambda seconds: ("expires_at", moment_in(seconds, now=now)),
        "label": lambda label: ("labels", {"kind": label}),
    }
    return dict(fields[name](value) for name, value in patch.items())


def patched(patch: Mapping[str, Any], model: Model) -> dict[str, object]:
    """Return a patch in the form of the model."""
    changes = dict(patch)
    if "run_in" in changes:
        changes["run_at"] = model.after(changes.pop("run_in") or 0)
    if "expires_in" in changes:
        expires_in = changes.pop("expires_in")
        changes["expires_at"] = None if expires_in is None else model.after(expires_in)
    return changes


def seen(task: Known) -> dict[str, object]:
    """Return the expected view of a task."""
    return {
        "id": task.id,
        "queue": task.queue,
        "url": BASE + task.path,
        "state": task.state,
        "reason": task.reason,
        "priority": task.priority,
        "run_at": rfc3339(Moment(task.run_at)),
        "round": task.round,
        "attempt_count": task.attempt_count,
        "last_status": task.last_status,
        "expires_at": None if task.expires_at is None else rfc3339(Moment(task.expires_at)),
        "labels": {} if task.label is None else {"kind": task.label},
        "unique": task.unique,
        "key": task.key,
        "schedule": task.schedule,
    }


def moment_in(seconds: float | None, *, now: int) -> str | None:
    """Return the moment a number of seconds from now, in the form of the API."""
    return None if seconds is None else rfc3339(Moment(now + round(seconds * 1_000_000)))
