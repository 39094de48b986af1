"""The dependency rule of docs/architecture.md, read from the code: who may import whom."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "poussetaches"
TESTS = ROOT / "tests"

# Each layer, and the layers that it may import besides itself.
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "store": {"core"},
    "http_client": {"core"},
    "engine": {"core", "store", "http_client"},
    "api": {"core", "store", "engine"},
    "dashboard": {"core", "store", "engine"},
    "client": {"core", "http_client"},
    "settings": {"core"},
    "logs": {"core"},
    "relaunch": set(),
    "server": {
        *("core", "store", "http_client", "engine", "api", "dashboard"),
        *("settings", "logs", "relaunch"),
    },
    "cli": {"core", "store", "client", "server", "settings", "logs", "relaunch"},
    # What applications import; testing alone may use the server's parts.
    "flask": {"core", "client"},
    "fastapi": {"core", "client"},
    "django": {"core", "client"},
    "celery_style": {"core", "client"},
    "testing": {"core", "client", "engine", "server", "settings"},
}
# Each framework is known to one module alone.
FRAMEWORKS = {
    **{"flask": "flask", "click": "flask", "werkzeug": "flask"},
    "fastapi": "fastapi",
    **{"django": "django", "asgiref": "django"},
}
# The package itself holds the version and the names of the client; __main__ is the command line,
# once it has checked what is installed.
TOP = {"__init__": {"client"}, "__main__": {"cli", "client"}}

# I/O, clocks and chance: the core is given their results instead.
NOT_IN_CORE = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "select", "selectors", "signal"),
    *("sqlite3", "socket", "ssl", "http", "subprocess", "threading", "os", "pathlib", "tempfile"),
    *("time", "secrets", "uuid", "logging"),
    *("starlette", "uvloop", "httptools", "anyio", "psycopg"),
}
# Names of files that may be in several folders. Server and client have exceptions of their own.
CONVENTIONAL_NAMES = {"__init__", "errors"}
VAGUE_NAMES = {
    *("utils", "util", "helpers", "common", "managers", "misc", "tools", "stuff"),
    *("known", "many", "place", "held", "left"),
}
PREPOSITIONS = {"about", "at", "by", "for", "from", "in", "into", "of", "on", "to", "with"}
PARTICIPLE = re.compile(r"[a-z]{3}(?<!sett)(ing|ed)$")  # a setting is a noun

# How a module of the core could still reach a clock.
CLOCKS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")


def modules() -> Iterator[tuple[str, str, Path]]:
    """Yield each module's dotted name below the package, its layer and its file."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts), parts[0], path


def imports(path: Path) -> Iterator[str]:
    """Yield everything a file imports, anywhere in it, as dotted names of what is bound."""
    package = path.relative_to(ROOT / "src").parts[:-1] if path.is_relative_to(SOURCE) else ()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def ours(path: Path) -> Iterator[str]:
    """Yield what a file imports of this package, without the package's name."""
    for name in imports(path):
        if name.split(".")[0] == "poussetaches":
            yield name.removeprefix("poussetaches").removeprefix(".")


def calls(path: Path) -> Iterator[str]:
    """Yield every dotted name that a file reads, such as ``time.sleep``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


MODULES = list(modules())
IDS = [name for name, _, _ in MODULES]


@pytest.mark.parametrize(("name", "layer", "path"), MODULES, ids=IDS)
def test_module_imports_only_layers_below_its_own(name: str, layer: str, path: Path) -> None:
    allowed = TOP[layer] if layer in TOP else LAYERS[layer] | {layer, "__version__"}

    assert {imported.split(".")[0] for imported in ours(path)} <= allowed, name


@pytest.mark.parametrize(("name", "layer", "path"), MODULES, ids=IDS)
def test_framework_is_imported_by_its_own_module_alone(name: str, layer: str, path: Path) -> None:
    found = {root for it in imports(path) if (root := it.split(".")[0]) in FRAMEWORKS}

    assert {FRAMEWORKS[root] for root in found} <= {layer}


@pytest.mark.parametrize("path", [path for _, layer, path in MODULES if layer == "core"], ids=str)
def test_core_has_no_io_no_clock_and_no_chance_of_its_own(path: Path) -> None:
    imported = set(imports(path))

    assert {name.split(".")[0] for name in imported} & NOT_IN_CORE == set()
    assert "random" not in imported
    assert {name for name in imported if name.startswith("random.")} <= {"random.Random"}
    assert {name for name in calls(path) if name.endswith(CLOCKS)} == set()


def test_only_the_store_package_names_a_kind_of_store() -> None:
    found = {
        (name, imported)
        for name, layer, path in MODULES
        if layer != "store"
        for imported in ours(path)
        if any(kind in imported.lower() for kind in ("sqlite", "postgres"))
    }

    assert found == set()


def test_api_and_dashboard_never_import_the_dispatcher() -> None:
    found = {
        (name, imported)
        for name, layer, path in MODULES
        if layer in {"api", "dashboard"}
        for imported in ours(path)
        if imported.startswith("engine.dispatcher")
    }

    assert found == set()


def file_names() -> Counter[str]:
    """Return how many folders each name of a module is in."""
    return Counter(path.stem for _, _, path in MODULES)


def test_file_name_is_in_one_folder_only() -> None:
    repeated = {name for name, count in file_names().items() if count > 1}

    assert repeated <= CONVENTIONAL_NAMES


def test_file_name_is_not_vague_and_has_no_preposition_or_participle() -> None:
    found = {
        name
        for name in file_names()
        if name in VAGUE_NAMES or PARTICIPLE.search(name) or PREPOSITIONS & set(name.split("_"))
    }

    assert found == set()


def test_imports_have_no_cycle() -> None:
    """Imports that are only for the type checker count, too."""
    paths = {f"poussetaches.{name}".removesuffix(".__init__"): path for name, _, path in MODULES}
    graph = {
        module: {
            name if name in paths else name.rpartition(".")[0]
            for name in imports(path)
            if name.startswith("poussetaches")
        }
        - {module}
        for module, path in paths.items()
    }

    TopologicalSorter(graph).prepare()


def test_unit_and_store_tests_never_sleep() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for folder in ("unit", "store")
        for path in sorted((TESTS / folder).rglob("*.py"))
        for name in [*calls(path), *imports(path)]
        if name in {"time.sleep", "asyncio.sleep"}
    }

    assert found == set()
