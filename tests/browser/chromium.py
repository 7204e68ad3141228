"""The system's Chromium, headless, by Playwright: found on PATH, never downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """The path of the first that is there."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_chromium() -> Iterator["Browser"]:
    """A browser during the block. Raises RuntimeError where there is none."""
    from playwright.sync_api import (
        sync_playwright,  # every run of pytest asks whether there is a Chromium; few need this
    )

    path = find_chromium()
    if path is None:
        raise RuntimeError(f"none of {', '.join(NAMES)} is on PATH")
    # Chromium's sandbox refuses to run as root
    options = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()
