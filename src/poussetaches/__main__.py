"""``python -m poussetaches`` is the command ``poussetaches``."""

import sys

from poussetaches.client.installation import (
    MissingExtra,
    check_server_modules,
    original_beside_ours,
)

USAGE_ERROR = 2


def main() -> int:
    """Run the command line, if what it needs is installed, and return its exit status."""
    try:
        check_server_modules("this command")
    except MissingExtra as exc:
        report(str(exc))
        return USAGE_ERROR
    problem = original_beside_ours()
    if problem is not None:
        report(f"warning: {problem}")
    from poussetaches.cli.main import main as run  # noqa: PLC0415  # it imports the checked modules

    return run()


def report(message: str) -> None:
    if sys.stderr is not None:  # it may be closed: 2>&-
        sys.stderr.write(f"poussetaches: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
