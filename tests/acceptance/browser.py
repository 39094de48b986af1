"""A real browser for acceptance tests: the Chromium of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright


def chromium_path() -> str:
    """Return the path of Chromium, from CHROMIUM or PATH."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "there is no Chromium; `make test` says how to install it"
    return found


@contextmanager
def browsing(*flags: str) -> Iterator[Browser]:
    """Run a browser."""
    # Chromium's sandbox does not work for root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), args=[*sandbox, *flags]
        )
        try:
            yield browser
        finally:
            browser.close()
