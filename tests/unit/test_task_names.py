"""The name of the main module is the one under which a web server imports it."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from poussetaches.client.task_names import imported_name


def main_module(file: Path | None, *, spec: str | None = None) -> ModuleType:
    main = ModuleType("__main__")
    main.__file__ = None if file is None else str(file)
    main.__spec__ = None if spec is None else ModuleSpec(spec, None)
    return main


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("files", "script", "name"),
    [
        pytest.param(["web.py"], "web.py", "web", id="no package"),
        pytest.param(["shop/__init__.py", "shop/web.py"], "shop/web.py", "shop.web", id="package"),
        pytest.param(
            ["shop/__init__.py", "shop/ui/__init__.py", "shop/ui/web.py"],
            "shop/ui/web.py",
            "shop.ui.web",
            id="package in a package",
        ),
        pytest.param(
            ["ui/__init__.py", "ui/admin/web.py"], "ui/admin/web.py", "web", id="folder between"
        ),
    ],
)
def test_script_has_the_name_of_its_module_in_its_package(
    tmp_path: Path, files: list[str], script: str, name: str
) -> None:
    make_files(tmp_path, *files)

    assert imported_name(main_module(tmp_path / script)) == name


def test_module_run_by_its_name_keeps_that_name(tmp_path: Path) -> None:
    assert imported_name(main_module(tmp_path / "web.py", spec="shop.web")) == "shop.web"


def test_interactive_session_has_no_other_name() -> None:
    assert imported_name(main_module(None)) is None
