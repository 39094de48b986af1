"""Build ``dist/poussetaches``: the server and the commands in one executable file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "binary"
ENTRY = Path(__file__).with_name("entry.py")
# Many modules are imported by name or on demand. Modules for applications are not imported.
LAYERS = ("api", "cli", "client", "core", "engine", "logs", "server", "settings", "store")
# Optional dependencies of libraries that the program does not use: typer's pydantic, rich's
# syntax highlighting, and parts of Python.
EXCLUDED = (
    "tzdata",  # is added as one file
    *("pydantic", "pydantic_core", "pygments", "markdown_it"),
    *("setuptools", "pkg_resources", "tkinter", "unittest", "pydoc", "doctest", "pdb"),
    *("lib2to3", "ensurepip", "curses", "readline"),
)


def main() -> None:
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--clean", "--noconfirm"]
    options = {
        "name": ["poussetaches"],
        "log-level": ["WARN"],
        "distpath": [str(ROOT / "dist")],
        "workpath": [str(WORK)],
        "specpath": [str(WORK)],
        "collect-submodules": [f"poussetaches.{layer}" for layer in LAYERS],
        "collect-data": ["poussetaches"],
        "add-data": [f"{zipped_zones()}:."],
        "exclude-module": EXCLUDED,
    }
    for name, values in options.items():
        command += [word for value in values for word in (f"--{name}", value)]
    subprocess.run([*command, "--strip", str(ENTRY)], check=True)
    built = ROOT / "dist" / "poussetaches"
    sys.stdout.write(f"{built.relative_to(ROOT)}: {built.stat().st_size / 1e6:.1f} MB\n")


def zipped_zones() -> Path:
    """Write the time zones to one file; to unpack 600 takes half of the start on a busy disk."""
    target = WORK / "tzdata.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    with as_file(files("tzdata")) as folder, zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.suffix != ".pyc":
                archive.write(path, path.relative_to(folder.parent))
    return target


if __name__ == "__main__":
    main()
