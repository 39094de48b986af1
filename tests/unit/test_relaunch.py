from __future__ import annotations

import sys

import pytest

from poussetaches import relaunch

LOADED = {
    "_PYI_APPLICATION_HOME_DIR": "/tmp/_MEI1",  # noqa: S108  # a name, no file
    "_PYI_PARENT_PROCESS_LEVEL": "1",
    "LD_LIBRARY_PATH": "/tmp/_MEI1",  # noqa: S108  # as above
}


@pytest.fixture(autouse=True)
def no_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaunch, "_loader_variables", {})


def test_python_starts_the_module_and_the_launcher() -> None:
    assert relaunch.own_command("serve") == [sys.executable, "-m", "poussetaches", "serve"]
    *python, launcher, word = relaunch.launch_command("7")
    assert (python, word) == ([sys.executable, "-I", "-S"], "7")
    assert launcher == str(relaunch.LAUNCHER)
    assert relaunch.LAUNCHER.is_file()
    assert relaunch.own_environment({"A": "1"}) == {"A": "1"}


def test_executable_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaunch, "is_executable", True)

    assert relaunch.own_command("serve") == [sys.executable, "serve"]
    assert relaunch.launch_command("7") == [sys.executable, relaunch.LAUNCH, "7"]


def test_loader_leaves_no_trace_in_the_environment() -> None:
    environ = {"PATH": "/bin", **LOADED}

    assert relaunch.restore_environment(environ)

    assert environ == {"PATH": "/bin"}


def test_library_path_that_was_there_is_restored() -> None:
    environ = {**LOADED, "LD_LIBRARY_PATH_ORIG": "/opt/lib"}

    relaunch.restore_environment(environ)

    assert environ == {"LD_LIBRARY_PATH": "/opt/lib"}


@pytest.mark.parametrize("environ", [{"A": "1"}, {"LD_LIBRARY_PATH": "/opt/lib"}])
def test_own_process_restores_the_environment_that_it_is_meant_to_have(
    environ: dict[str, str],
) -> None:
    relaunch.restore_environment(dict(LOADED))

    given = relaunch.own_environment(environ)

    assert given.items() >= LOADED.items()
    assert not relaunch.restore_environment(given)
    assert given == environ
