"""Callables that can be tasks, and definitions that would hide one another."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.tasks import Tasks
from tests.application import make_tasks


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_async(a: int) -> int:
    return a + 1


class Adder:
    """Adds when it is called."""

    def __call__(self, a: int) -> int:
        return a + 1

    def method(self, a: int) -> int:
        return a + 1


class AsyncAdder:
    """Adds when its call is awaited."""

    async def __call__(self, a: int) -> int:
        return a + 1


def numbers(n: int) -> Iterator[int]:
    yield n


async def anumbers(n: int) -> AsyncIterator[int]:
    yield n


def collected(function: Callable[[int], Iterator[int]]) -> Callable[[int], list[int]]:
    """Make a function that runs a generator to its end."""

    @functools.wraps(function)
    def wrapper(n: int) -> list[int]:
        return list(function(n))

    return wrapper


RUNS: list[tuple[Callable[..., object], bool]] = [
    (add, False),
    (add_async, True),
    (lambda a: a + 1, False),
    (functools.partial(add, b=2), False),
    (functools.partial(add_async), True),
    (functools.partial(functools.partial(add), b=2), False),
    (Adder(), False),
    (AsyncAdder(), True),
    (Adder().method, False),
    (functools.lru_cache(add), False),
    (collected(numbers), False),
]


@pytest.mark.parametrize(("function", "is_async"), RUNS)
def test_callable_that_runs_can_be_a_task(function: Callable[..., object], is_async: bool) -> None:
    task = make_tasks().task(name="it")(function)

    assert task.prepare(1).json in ({"a": 1}, {"n": 1})
    assert task.is_async is is_async


RUNS_NOTHING: list[tuple[Callable[..., object], str]] = [
    (numbers, "generator"),
    (anumbers, "generator"),
    (functools.partial(numbers, 1), "generator"),
    (contextlib.contextmanager(numbers), "context manager"),
    (contextlib.asynccontextmanager(anumbers), "context manager"),
]


@pytest.mark.parametrize(("function", "reason"), RUNS_NOTHING)
def test_callable_whose_call_runs_nothing_is_refused(
    function: Callable[..., object], reason: str
) -> None:
    with pytest.raises(DefinitionError, match=f"it cannot be a task: it is a {reason}"):
        make_tasks().task(name="it")(function)


@pytest.mark.parametrize("function", [functools.partial(add, b=2), Adder()])
def test_callable_without_a_name_needs_one(function: Callable[..., object]) -> None:
    with pytest.raises(DefinitionError, match="has no name; pass name="):
        make_tasks().task(function)


def undecorated(function: Callable[[], int]) -> Callable[[], int]:
    """Hide a function's name, as a decorator without ``functools.wraps`` does."""

    def wrapper() -> int:
        return function()

    return wrapper


def two_closures(tasks: Tasks) -> None:
    def make(n: int) -> None:
        @tasks.task
        def job() -> int:
            return n

    make(1)
    make(2)


def two_wrappers(tasks: Tasks) -> None:
    tasks.task(undecorated(lambda: 1))
    tasks.task(undecorated(lambda: 2))


def two_lambdas(tasks: Tasks) -> None:
    tasks.task(name="it")(lambda: 1)
    tasks.task(name="it")(lambda: 2)


def two_methods(tasks: Tasks) -> None:
    tasks.task(Adder().method)
    tasks.task(Adder().method)


def two_schedules(tasks: Tasks) -> None:
    for hour in (6, 18):

        @tasks.cron(f"0 {hour} * * *")
        def report() -> None: ...


def two_objects(tasks: Tasks) -> None:
    tasks.task(name="it")(Adder())
    tasks.task(name="it")(Adder())


@pytest.mark.parametrize(
    "define",
    [two_closures, two_wrappers, two_lambdas, two_methods, two_schedules, two_objects],
)
def test_second_function_of_the_same_name_is_refused(define: Callable[[Tasks], None]) -> None:
    with pytest.raises(DefinitionError, match=r"the task .* is already defined"):
        define(make_tasks())


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that defines a task with the tasks of another."""
    (tmp_path / "shop_tasks.py").write_text(
        "from tests.application import make_tasks\ntasks = make_tasks()\n"
    )
    (tmp_path / "shop_jobs.py").write_text(
        "from shop_tasks import tasks\n\n@tasks.task\ndef job() -> int:\n    return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("shop_jobs")
    for name in ("shop_tasks", "shop_jobs"):
        sys.modules.pop(name, None)


def test_module_that_is_reloaded_replaces_its_tasks(module: ModuleType) -> None:
    first = module.job

    second = importlib.reload(module).job

    assert list(module.tasks) == [second]
    assert second is not first


def test_module_that_is_imported_again_replaces_its_tasks(module: ModuleType) -> None:
    del sys.modules["shop_jobs"]

    again = importlib.import_module("shop_jobs")

    assert list(module.tasks) == [again.job]


def test_function_defined_again_in_an_interactive_session_replaces_the_former(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    tasks = make_tasks()
    for result in (1, 2):
        session: dict[str, object] = {"__name__": "__main__", "tasks": tasks}
        exec(f"@tasks.task\ndef job(): return {result}", session)  # noqa: S102  # as typed

    assert [task.function() for task in tasks] == [2]


# Options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"retries": 3},
            "task 'app.job': unknown option 'retries'; the options are name, aliases",
        ),
        (
            {"queue_name": "mail"},
            "task 'app.job': unknown option 'queue_name'; the options are name, aliases,",
        ),
        ({"timeout": 0}, "task 'app.job': timeout=0 is not allowed: must be a number from 0.1 to"),
        ({"timeout": "1m"}, "task 'app.job': timeout='1m' is not allowed"),
        (
            {"max_attempts": 0},
            "task 'app.job': max_attempts=0 is not allowed: must be a whole number from 1 to 1,0",
        ),
        ({"retry": {"jitters": 1}}, "task 'app.job': retry={'jitters': 1} is not allowed"),
        (
            {"max_attempts": 3, "retry": {"max_attempts": 4}},
            "task 'app.job': max_attempts is set twice, also in retry; remove one of them",
        ),
        (
            {"retry": 3},
            "task 'app.job': retry=3 is not allowed: must be an object with some of max",
        ),
        (
            {"queue": "my queue"},
            "task 'app.job': queue='my queue' is not allowed: must be up to 100 letters",
        ),
        ({"priority": "high"}, "task 'app.job': priority='high' is not allowed: must be a whole"),
        (
            {"labels": {"kind": "mail", "user": 42}},
            "task 'app.job': labels={'kind': 'mail', 'user': 42} is not allowed: labels['user']"
            " must be text without a zero character; for example labels={'user': '42'}",
        ),
        ({"on_dead": 3}, "on_dead: 3 is neither a URL nor a task"),
        (
            {"on_dead": "told"},
            "task 'app.job': on_dead='told' is not allowed: must begin with /, http:",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_cron", [False, True], ids=["task", "cron"])
def test_option_that_every_server_refuses_is_refused_where_it_is_written(
    options: dict[str, Any], says: str, is_cron: bool
) -> None:
    tasks = make_tasks()
    decorator = tasks.cron("@daily", name="app.job", **options) if is_cron else None

    with pytest.raises(DefinitionError, match=f"^{re.escape(says)}"):
        (decorator or tasks.task(name="app.job", **options))(lambda: None)

    assert (list(tasks), tasks.schedules) == ([], {})


def test_options_that_servers_take_are_taken() -> None:
    job = make_tasks().task(
        name="app.job",
        queue="mail",
        timeout=0.1,
        max_attempts=1000,
        retry={"dead_on": [404, "5xx"]},
        on_success="/told",
        on_dead="",
    )(lambda: None)

    assert job.prepare().on_success == "/told"


@pytest.mark.parametrize(
    "function",
    [7, "mail", property(lambda it: it), dict],
    ids=["number", "text", "property", "class"],
)
def test_object_that_cannot_be_called_with_known_arguments_is_refused(function: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^app\.job cannot be a task: "):
        make_tasks().task(name="app.job")(function)
