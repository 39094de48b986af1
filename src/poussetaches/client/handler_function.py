"""Inspects the callables that become handlers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import cast


def unwrap(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function of a partial, or the method ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return cast("Callable[..., object]", type(function).__call__)


def is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(unwrap(function))


def reason_not_to_run(function: object) -> str | None:
    """Return why an object cannot be a handler; None if it can."""
    if not callable(function):
        return f"{function!r} cannot be called"
    try:
        # Python 3.14 resolves annotations here; their types may be defined later in the module.
        with contextlib.suppress(NameError):
            inspect.signature(function)
    except ValueError as exc:
        return str(exc)
    called = unwrap(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        return "it is a generator, and calling it runs none of its code; remove the yield"
    scope = getattr(called, "__globals__", None)
    if scope is vars(contextlib) and hasattr(called, "__wrapped__"):
        return "it is a context manager, and calling it runs none of its code; use it in a task"
    return None
