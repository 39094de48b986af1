"""What becomes of pushes that go wrong, and the keys that make them safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from poussetaches.client.effort import may_pass
from poussetaches.client.errors import ClientError, PushFailed
from poussetaches.client.results import NewTask, PushedTask
from poussetaches.client.slices import Slice

KEY_LENGTH = 16  # bytes of chance


def key_maker(entropy: Callable[[int], bytes]) -> Callable[[], str]:
    """Return what makes keys that nobody else has."""
    return lambda: entropy(KEY_LENGTH).hex()


def push_failed(task: NewTask, cause: ClientError) -> ClientError:
    """Return the error for a task that was not pushed: a refusal is the task's own fault."""
    return PushFailed([task], cause) if may_pass(cause) else cause


def batch_failed(
    slice: Slice, remaining: Iterable[Slice], pushed: Sequence[PushedTask], cause: ClientError
) -> ClientError:
    """Return the error for a slice that was not pushed, and those that would have followed."""
    if not pushed and not may_pass(cause):
        return cause
    others = [task for later in remaining for task in later.tasks]
    return PushFailed([*slice.tasks, *others], cause, pushed)
