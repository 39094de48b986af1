"""docs/architecture.md: the files that it names exist."""

from __future__ import annotations

import re

from tests.docs.shell import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
SOURCE = ROOT / "src" / "poussetaches"
_FILE = re.compile(r"`([\w/]+\.(?:py|sql)|[\w/]+/)`")


def missing(line: str) -> list[str]:
    """Return the files of a line that do not exist.

    A name without a folder is in the folder of a file before it.
    """
    found, folders = [], [SOURCE, ROOT]
    for name in _FILE.findall(line):
        path = next((it / name for it in folders if (it / name).exists()), None)
        if path is None:
            found.append(name)
        else:
            folders.insert(0, path.parent)
    return found


def test_files_of_the_page_exist() -> None:
    assert len(_FILE.findall(PAGE)) > 100
    assert [name for line in PAGE.splitlines() for name in missing(line)] == []
