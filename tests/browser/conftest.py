"""One Chromium for all tests of this folder, and pages whose errors and refused loads fail the test that made them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.browser.chromium import find_chromium, running_chromium
from tests.browser.shots import PHONE, WIDE

# tests/conftest.py tells at the end of the run that these were left out
collect_ignore_glob = [] if find_chromium() else ["test_*.py"]

PATIENCE = 60_000  # milliseconds: the machine may be busy
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", event =>
  window.violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`));
"""

Opener = Callable[..., Page]


@pytest.fixture(scope="package")  # no longer: Playwright keeps an event loop running in the thread of the tests
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Opens a page as a new visitor: ``opened(url, phone=True, color_scheme="dark")``.

    At the test's end none of them may have told of an error, or have been refused anything by the policy.
    """
    contexts, pages, told = [], [], []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not expected(message):
            told.append(f"{message.text} {message.location.get('url')}")

    def open_page(url: str, *, phone: bool = False, **options: Any) -> Page:
        context = browser.new_context(viewport=PHONE if phone else WIDE, reduced_motion="reduce", **options)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(VIOLATIONS)
        contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.on("console", hear)
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    refused = [violation for page in pages for violation in page.evaluate("window.violations")]
    for context in contexts:
        context.close()
    assert not told
    assert not refused


def expected(message: ConsoleMessage) -> bool:
    """What the browser itself notes of a refusal that the page handles: of the API, or of an address that expired."""
    url = str(message.location.get("url"))
    return message.text.startswith("Failed to load resource") and ("/v1/" in url or "/images/" in url)


def barriers(page: Page) -> list[str]:
    """What axe finds serious or critical on the page as it stands."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def too_wide(page: Page) -> int:
    """Pixels by which the page has to be scrolled sideways."""
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found
