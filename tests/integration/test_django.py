"""Tasks of Django projects: deliveries bypass the project's checks of requests.

Django is configured once in a process, so these run in one of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = "tests.integration.django_project.cases"
SETTINGS = "tests.integration.django_project.settings"
PATIENCE = 60  # seconds


def test_django_project_passes_its_own_tests() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", CASES, "--no-input"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )

    assert result.returncode == 0, result.stderr
    assert "\nOK\n" in result.stderr
    assert "Ran 0 tests" not in result.stderr
    assert "skipped" not in result.stderr
