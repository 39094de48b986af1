"""docs/howto/flask.md and from-celery.md: the quickstart as a new user runs it, and all code."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.acceptance.harness import free_port
from tests.application import RecordingPusher, make_info
from tests.docs.shell import ROOT, code_blocks, execute, run_quickstart

FLASK = (ROOT / "docs" / "howto" / "flask.md").read_text()
CELERY = (ROOT / "docs" / "howto" / "from-celery.md").read_text()
APP, *BLOCKS = code_blocks(FLASK, "python")
FACTORY = [block for block in BLOCKS if block.startswith("# shop/")]
OTHERS = [block for block in BLOCKS if block not in FACTORY]
_INSTALL, START, CALL, *_ = code_blocks(FLASK, "sh")
LONGEST_QUICKSTART = 15  # lines


def test_quickstart_runs_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()

    printed = run_quickstart(tmp_path, f"{START.strip()} --port {port}", CALL, port=port)

    assert re.search(r"^pushed \S+$", printed, re.MULTILINE)
    assert len(APP.splitlines()) <= LONGEST_QUICKSTART


def test_other_code_of_the_page_runs_after_it(page: ModuleType) -> None:
    pusher = RecordingPusher(make_info("task-5"))  # the one that the page looks at
    execute(page, APP)

    with page.tasks.use(pusher):
        for block in OTHERS:
            execute(page, block)
        page.test_who_signs_up_is_welcomed()

    assert len(pusher.pushed) == 5
    assert list(page.tasks.queues) == ["stripe", "mail"]
    assert list(page.tasks.schedules) == [page.morning.name]


def test_factory_of_the_page_makes_applications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    for block in FACTORY:
        name = block.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("shop", "shop.tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    shop = importlib.import_module("shop")

    for _ in range(2):
        assert shop.create_app().extensions["poussetaches"] is shop.tasks
    for name in ("shop", "shop.tasks"):
        del sys.modules[name]


def test_application_that_comes_from_celery_pushes_as_it_did(page: ModuleType) -> None:
    pusher = RecordingPusher()
    (ours,) = code_blocks(CELERY, "python")
    execute(page, ours)

    with page.tasks.use(pusher):
        page.send_welcome.delay(42)
        page.send_welcome.apply_async((42,), countdown=60)
        page.charge.delay(7)

    assert [(it.json, it.delay, it.queue) for it in pusher.pushed] == [
        ({"user_id": 42}, None, None),
        ({"user_id": 42}, 60, None),
        ({"order_id": 7}, None, "bank"),
    ]
