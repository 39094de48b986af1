"""Write requirements/*.txt: the versions that pip resolves for pyproject.toml's dependencies."""

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
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    # Each file is resolved with the pins of the earlier ones, so that they can be combined.
    client = resolve(dependencies)
    write("client", "What an application needs to use the package.", client)
    server = resolve([*client, *extras["server"]])
    added = [pin for pin in server if pin not in client]
    purpose = "What the server and the commands need besides the client."
    write("server", purpose, ["-r client.txt", *added])
    for name in ("setup", "test", "binary", "bench"):
        added = [pin for pin in resolve([*server, *groups[name]]) if pin not in server]
        write(name, f"What `make {name}` needs besides the server.", ["-r server.txt", *added])
    write(
        "original",
        "The original's Python client: its package has our name, so it lives apart.",
        resolve(groups["original"]),
    )


def resolve(requirements: list[str]) -> list[str]:
    """Install into a new virtual environment and list the installed packages."""
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
