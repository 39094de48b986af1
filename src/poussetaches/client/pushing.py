"""What becomes of pushes that go wrong, and the keys that make them safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from poussetaches.client.effort import may_pass
from poussetaches.client.errors import ClientError, NotUnderstood, PushFailed
from poussetaches.client.results import NewTask, PushedTask
from poussetaches.client.slices import Slice

KEY_LENGTH = 16  # bytes of chance


def key_maker(entropy: Callable[[int], bytes]) -> Callable[[], str]:
    """Return what makes keys that nobody else has."""
    return lambda: entropy(KEY_LENGTH).hex()


def push_failed(task: NewTask, cause: ClientError) -> ClientError:
    """Return the error for a task that was not pushed."""
    return cause if _would_fail_again(cause) else PushFailed([task], cause)


def batch_failed(
    slice: Slice, remaining: Iterable[Slice], pushed: Sequence[PushedTask], cause: ClientError
) -> ClientError:
    """Return the error for a slice that was not pushed, and those that would have followed."""
    if not pushed and _would_fail_again(cause):
        return cause
    others = [task for later in remaining for task in later.tasks]
    return PushFailed([*slice.tasks, *others], cause, pushed)


def _would_fail_again(cause: ClientError) -> bool:
    """Return whether the server refused the push itself.

    Another program's answer says nothing about the push: the server never got it.
    """
    return not may_pass(cause) and not isinstance(cause, NotUnderstood)
