"""The installed package: without the server, with it, and beside the original's package."""

from __future__ import annotations

from pathlib import Path

import pytest

import poussetaches
from poussetaches.client.installation import SERVER_MODULES
from tests.acceptance.harness import CLOSED_PORT, serving
from tests.acceptance.packages import Environment, build_wheel, canonical, required

INSTALL = "pip install 'poussetaches-sidecar[server]'"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make an environment with our package and its dependencies only."""
    made = Environment(tmp_path_factory.mktemp("base") / "venv")
    made.install_ours(wheel)
    made.copy(*required())
    return made


@pytest.fixture(scope="module")
def application(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make an environment with all frameworks and no extra."""
    made = Environment(tmp_path_factory.mktemp("application") / "venv")
    made.install_ours(wheel)
    made.copy(*required(), "flask", "fastapi", "django")
    return made


@pytest.fixture
def both(wheel: Path, tmp_path: Path) -> Environment:
    """Make an environment with the extra, and the original's package."""
    made = Environment(tmp_path / "venv")
    made.install_ours(wheel)
    made.copy(*required(), *required("server"))
    made.copy_original()
    return made


def test_wheel_has_the_version_of_the_module(wheel: Path) -> None:
    assert wheel.name == f"poussetaches_sidecar-{poussetaches.__version__}-py3-none-any.whl"


def test_checked_modules_are_those_of_the_extra() -> None:
    assert {canonical(name) for name in SERVER_MODULES} == set(required("server"))


def test_client_pushes_without_the_extra(base: Environment, tmp_path: Path) -> None:
    code = (
        "import asyncio, os, poussetaches\n"
        "from poussetaches import *\n"
        "async def main():\n"
        "    async with AsyncClient({url!r}) as client:\n"
        "        await client.push({target!r}, delay=60)\n"
        "Client({url!r}).push({target!r}, delay=60)\n"
        "asyncio.run(main())\n"
        "print(*poussetaches.__all__, flush=True)\n"
    )
    with serving(tmp_path / "data") as server:
        ran = base.python(code.format(url=server.url, target=CLOSED_PORT))

        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.split() == poussetaches.__all__
        assert len(server.task_ids()) == 2


def test_tasks_and_schedules_are_defined_without_the_extra(base: Environment) -> None:
    code = (
        "from poussetaches.client.tasks import Tasks\n"
        "from poussetaches.celery_style import celery_style\n"
        "tasks = Tasks()\n"
        "@tasks.cron('0 6 * * *', timezone='Europe/Paris', name='morning')\n"
        "def morning() -> None: ...\n"
    )

    ran = base.python(code, "-W", "error")

    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("words", [["serve"], ["--help"], ["run", "--", "true"]], ids=str)
def test_command_without_the_extra_is_one_line(base: Environment, words: list[str]) -> None:
    ran = base.run("poussetaches", *words)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "poussetaches: this command needs the package starlette, which is not installed;"
        f" run {INSTALL}\n"
    )


def test_testing_without_the_extra_says_what_to_install(base: Environment) -> None:
    ran = base.python("from poussetaches.testing import testing")

    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        "poussetaches.client.installation.MissingExtra: poussetaches.testing needs the package"
        f" starlette, which is not installed; run {INSTALL}"
    )


def test_integrations_need_only_their_frameworks(application: Environment) -> None:
    code = (
        "import flask, fastapi, django.conf\n"
        "from poussetaches import flask as ours, fastapi as ours_too\n"
        "app = flask.Flask('shop')\n"
        "tasks = ours.Tasks(app)\n"
        "@tasks.task\n"
        "def hello(name: str) -> None: ...\n"
        "api = fastapi.FastAPI()\n"
        "ours_too.Tasks(api).task(name='hello')(hello.function)\n"
        "django.conf.settings.configure(INSTALLED_APPS=['poussetaches.django'])\n"
        "django.setup()\n"
        "from poussetaches.django import Tasks\n"
        "Tasks().task(name='hello')(hello.function)\n"
    )

    ran = application.python(code, "-W", "error")

    assert (ran.returncode, ran.stderr) == (0, "")


def test_partly_installed_extra_is_reported(application: Environment) -> None:
    ran = application.run("poussetaches", "serve")  # FastAPI has brought starlette

    assert ran.returncode == 2
    assert ran.stderr.startswith("poussetaches: this command needs the package uvloop, which is")


def test_original_package_beside_ours_is_reported_once(both: Environment) -> None:
    what = (
        "the packages poussetaches 0.2.0 and poussetaches-sidecar are both installed, and both"
        " contain the module poussetaches; run pip uninstall poussetaches"
        " (poussetaches-sidecar contains the same client)"
    )
    code = (
        "from poussetaches import Client\n"
        "from poussetaches.client.tasks import Tasks\n"
        "Tasks(), Client(), Tasks(), Client()\n"
    )

    command, used = both.run("poussetaches", "--version"), both.python(code)

    assert (command.returncode, used.returncode) == (0, 0)
    assert command.stderr == f"poussetaches: warning: {what}\n"
    assert used.stderr == f"<string>:3: RuntimeWarning: {what}\n"


def test_our_package_is_complete_once_the_original_is_uninstalled(both: Environment) -> None:
    both.remove("poussetaches")

    ran = both.run("poussetaches", "--version")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"poussetaches {poussetaches.__version__}\n"
