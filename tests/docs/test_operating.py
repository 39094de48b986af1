"""docs/operating.md: its commands run, and the log events that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from poussetaches.api.monitoring_routes import Liveness
from tests.acceptance.harness import CLOSED_PORT, serving
from tests.docs.shell import ROOT, code_blocks, run
from tests.docs.test_protocol_tables import fields_of, table

PAGE = (ROOT / "docs" / "operating.md").read_text()
SOURCE = ROOT / "src" / "poussetaches"


def test_commands_run(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        server.push(CLOSED_PORT)
        for commands in code_blocks(PAGE, "sh"):
            run(commands, server=server.url, application="")


def test_every_member_of_the_health_has_its_row() -> None:
    assert table("member | meaning", page=PAGE) == fields_of(Liveness) - {"status"}


def test_every_log_event_exists() -> None:
    rows = PAGE.partition("| event | level | meaning |")[2].partition("\n\n")[0].splitlines()[2:]
    events = [event for row in rows for event in re.findall(r"`([a-z ]+)`", row.split("|")[1])]
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))

    assert len(events) > 10
    assert [event for event in events if f'"{event}"' not in source] == []
