"""The public names, the agreement of the two clients, and the modules that imports load."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from collections.abc import Callable

import pytest

import poussetaches
import poussetaches.client
from poussetaches.client.client import AsyncClient, Client

HEAVY = "starlette uvloop httptools typer rich prometheus_client sqlite3 asyncio"
LOADED = f"""
import sys
{{statement}}
ours = {{{{name.split(".")[1] for name in sys.modules if name.startswith("poussetaches.")}}}}
heavy = set({HEAVY!r}.split()) | {{{{"urllib3", "httptools", "requests", "flask"}}}}
print(sorted(ours), sorted(heavy & set(sys.modules)))
"""


def loaded_by(statement: str) -> str:
    program = LOADED.format(statement=statement)
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def methods_of(kind: type) -> dict[str, Callable[..., object]]:
    return {
        name: method
        for name in dir(kind)
        if not name.startswith("_") and inspect.isfunction(method := getattr(kind, name))
    }


def test_importing_the_package_loads_nothing() -> None:
    assert loaded_by("import poussetaches") == "[] []"


@pytest.mark.parametrize(
    "statement",
    [
        "from poussetaches.client import Client, AsyncClient; Client(); AsyncClient()",
        "from poussetaches import PousseTaches; PousseTaches('http://a', 'http://b')",
    ],
    ids=["clients", "the original's"],
)
def test_clients_load_nothing_of_the_server_and_no_transport(statement: str) -> None:
    assert loaded_by(statement) == "['client', 'core'] []"


@pytest.mark.parametrize("module", [poussetaches, poussetaches.client], ids=lambda it: it.__name__)
def test_every_name_offered_is_there(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]  # modules have it

    for name in names:
        if name != "POUSSETACHES_AUTH_KEY":
            assert getattr(module, name) is not None
    assert set(names) <= set(dir(module))
    with pytest.raises(AttributeError):
        module.nothing  # type: ignore[attr-defined]  # noqa: B018  # which is the point


def test_both_clients_have_the_same_methods_with_the_same_signatures_and_docstrings() -> None:
    blocking, asynchronous = methods_of(Client), methods_of(AsyncClient)

    assert list(blocking) == list(asynchronous)
    assert {"push", "list", "queues", "schedules", "events", "close"} <= set(blocking)
    for name, method in blocking.items():
        other = asynchronous[name]
        assert inspect.signature(method) == inspect.signature(other), name
        assert inspect.getdoc(method), name
        assert inspect.getdoc(method) == inspect.getdoc(other), name


def test_methods_of_an_asynchronous_client_are_coroutine_functions() -> None:
    iterated = {"list", "schedule_runs", "events"}

    for name, method in methods_of(AsyncClient).items():
        assert inspect.iscoroutinefunction(method) == (name not in iterated), name


def test_help_shows_the_methods_of_a_blocking_client_as_functions() -> None:
    text = pydoc.plain(pydoc.render_doc(Client))

    assert "get(self, id: 'str') -> 'TaskInfo'" in text
    assert "there is no task with this id" in text
