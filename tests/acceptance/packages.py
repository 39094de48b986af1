"""Virtual environments with chosen packages, copied from the environments that ``make`` builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.acceptance.harness import PATIENCE

ROOT = Path(__file__).parents[2]
OURS = "poussetaches-sidecar"
ORIGINAL = ROOT / ".venv-original" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


class Environment:
    """A virtual environment."""

    def __init__(self, path: Path) -> None:
        venv.create(path)
        self.bin = path / "bin"
        self._packages = Path(
            sysconfig.get_path("purelib", "venv", {"base": str(path), "platbase": str(path)})
        )

    def install_ours(self, wheel: Path) -> None:
        """Install our package, and nothing else."""
        self._pip("install", "--no-deps", "--no-index", str(wheel))

    def copy(self, *requirements: str) -> None:
        """Install packages and their dependencies, in the versions of the test environment."""
        for found in closure(requirements):
            self._copy(found)

    def copy_original(self) -> None:
        """Install the original's package without its dependencies."""
        assert ORIGINAL.exists(), f"{ORIGINAL} is missing: run `make test`, which makes it"
        [found] = ORIGINAL.glob("poussetaches-*.dist-info")
        self._copy(PathDistribution(found))

    def remove(self, name: str) -> None:
        """Uninstall a package."""
        self._pip("uninstall", "--yes", name)

    def python(self, code: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run code."""
        return self.run("python", "-I", *options, "-c", code)

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, with an empty environment."""
        return subprocess.run(
            [self.bin / program, *words],
            cwd=self.bin,
            env={},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def _copy(self, found: Distribution) -> None:
        for path in found.files or ():
            if ".." not in path.parts:  # programs, which are not needed
                target = self._packages / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(path.locate()), target)

    def _pip(self, *words: str) -> None:
        python = str(self.bin / "python")
        subprocess.run([*PIP, "--python", python, *words], check=True, timeout=PATIENCE)


def build_wheel(folder: Path) -> Path:
    """Build our package in a folder, from a copy, since a build writes beside the sources."""
    copy = folder / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    subprocess.run([*PIP, "wheel", *options, str(copy)], check=True, timeout=PATIENCE)
    [wheel] = folder.glob("*.whl")
    return wheel


def required(extra: str = "") -> list[str]:
    """Return the names of our package's dependencies, or of those of one extra."""
    declared = [Requirement(line) for line in distribution(OURS).requires or ()]
    added = [each for each in declared if (each.marker is not None) is bool(extra)]
    return [each.name for each in added if applies(each, extra)]


def closure(requirements: Iterable[str]) -> Iterator[Distribution]:
    """Yield the distributions of requirements, and of all that these require."""
    pending, seen = [Requirement(each) for each in requirements], set[str]()
    while pending:
        requirement = pending.pop()
        found = distribution(requirement.name)
        declared = [Requirement(line) for line in found.requires or ()]
        for extra in ("", *requirement.extras):
            pending += [each for each in declared if not is_seen(each, seen, extra)]
        key = canonical(requirement.name)
        if key not in seen:
            seen.add(key)
            yield found


def is_seen(requirement: Requirement, seen: set[str], extra: str) -> bool:
    return canonical(requirement.name) in seen or not applies(requirement, extra)


def applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
