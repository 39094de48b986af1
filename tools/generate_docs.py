"""Write the generated parts of docs/ between their markers; ``--check`` only compares them.

A marker is a comment line, ``<!-- generated: NAME -->`` to ``<!-- end -->``; NAME is a part below.
"""

import argparse
import re
import sys
from pathlib import Path

from poussetaches.settings import SETTINGS, Setting
from poussetaches.settings.value_types import env_text

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    check: bool = parser.parse_args().check
    stale = [page for page in sorted(DOCS.rglob("*.md")) if page.read_text() != rewritten(page)]
    for page in stale:
        name = page.relative_to(ROOT)
        if check:
            sys.stderr.write(f"{name} is out of date; run `make docs` and commit the change\n")
        else:
            page.write_text(rewritten(page))
            sys.stdout.write(f"{name} rewritten\n")
    return 1 if check and stale else 0


def rewritten(page: Path) -> str:
    """Return a page with new generated parts."""
    return MARKED.sub(
        lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}", page.read_text()
    )


def settings() -> str:
    groups: dict[str, list[Setting]] = {}
    for setting in SETTINGS:
        groups.setdefault(setting.group.title, []).append(setting)
    return "\n".join(settings_table(group, members) for group, members in groups.items())


def settings_table(group: str, members: list[Setting]) -> str:
    lines = [f"## {group}", "", "| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in members:
        names = [f"`{setting.name}`", f"`{setting.flag}`" if setting.flag else "no flag"]
        names += [f"`{setting.env}`"]
        if setting.secret:
            names += [f"`{setting.env}_FILE`"]
        cells = ["<br>".join(names), env_text(setting.default), setting.allowed, setting.help]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


PARTS = {"settings": settings}

if __name__ == "__main__":
    sys.exit(main())
