"""Write requirements/*.txt: what pip resolves today for pyproject.toml's dependencies."""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
RENEW = "Renew with `make pins`, which resolves pyproject.toml's dependencies anew."


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dependencies: list[str] = project["project"]["dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    runtime = resolve(dependencies)
    write("runtime", "What the server runs on.", runtime)
    for name in ("test", "demo", "bench"):
        # The runtime pins are fixed first, so that all files can be installed together.
        added = [pin for pin in resolve([*runtime, *groups[name]]) if pin not in runtime]
        write(name, f"What `make {name}` needs besides the server.", ["-r runtime.txt", *added])
    write(
        "original",
        "The original's Python client: its package has our name, so it lives apart.",
        resolve(groups["original"]),
    )


def resolve(requirements: list[str]) -> list[str]:
    """Install into a new virtual environment and list what came."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", *requirements], check=True)
        frozen = subprocess.run(
            [*pip, "freeze", "--all"], check=True, capture_output=True, text=True
        ).stdout
    wanted = any(requirement.startswith("setuptools") for requirement in requirements)
    left_out = ("pip==",) if wanted else ("pip==", "setuptools==", "wheel==")
    return sorted(line.lower() for line in frozen.splitlines() if not line.startswith(left_out))


def write(name: str, purpose: str, lines: list[str]) -> None:
    target = REQUIREMENTS / f"{name}.txt"
    target.write_text("\n".join([f"# {purpose}", f"# {RENEW}", *lines]) + "\n")
    sys.stdout.write(f"{target.relative_to(ROOT)}: {len(lines)} lines\n")


if __name__ == "__main__":
    main()
