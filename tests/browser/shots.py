"""README's screenshots, of a Kiln that runs: ``python -m tests.browser.shots FOLDER`` uses it as people do, and looks.

Where the gallery is nearly empty it first makes what there is to see.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx2
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect

from client.address import find_api
from tests.browser.chromium import running_chromium
from tests.processes import wait_for

WIDE = ViewportSize(width=1280, height=860)
PHONE = ViewportSize(width=390, height=844)
PROMPTS = ["a red apple on a table", "a cat in the snow", "a sailing boat at sunset", "a house on a hill by night"]
STYLES = ["cinematic", "gogh", "anime", "pixelart", "comic", "lineart"]
ENOUGH = 40  # pictures
Look = Callable[[Page, str], None]

COLORS = 256  # of a screenshot: a palette makes the files a third as large


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.shots", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", help="where Kiln runs; else as the client finds it")
    given = parser.parse_args()
    url = find_api(given.url)
    given.folder.mkdir(parents=True, exist_ok=True)
    fill(url)
    with running_chromium() as browser:
        for (size, scheme), looks in SHOTS.items():
            viewport = WIDE if size == "wide" else PHONE
            context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
            shoot(context.new_page(), url, looks, given.folder, f"{size}-{scheme}")
            context.close()


def fill(url: str) -> None:
    """Batches and pictures, where there are few."""
    seen = httpx2.get(f"{url}/v1/images", params={"limit": ENOUGH}, timeout=30).json()["data"]
    if len(seen) >= ENOUGH:
        return
    matrix = {"prompts": PROMPTS, "styles": STYLES, "seeds_per_prompt": 2}
    evening = {"start": "22:00", "end": "06:00", "tz": "Europe/Berlin"}
    for body in (
        {"name": "four scenes, six styles", "matrix": matrix},
        {"name": "portraits by night", "matrix": {"prompts": PROMPTS[1:3], "seeds_per_prompt": 30}, "window": evening},
    ):
        httpx2.post(f"{url}/v1/batches", json=body, timeout=60).raise_for_status()
    wait_for(
        "finished batch",
        lambda: any(batch["status"] == "completed" for batch in batches(url)),
        seconds=1800,
    )


def batches(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx2.get(f"{url}/v1/batches", timeout=30).json()["data"]
    return found


def shoot(page: Page, url: str, looks: Sequence[Look], folder: Path, name: str) -> None:
    for look in looks:
        look(page, url)
        page.wait_for_timeout(500)
        path = folder / f"page-{look.__name__}-{name}.png"
        page.screenshot(path=path)
        shrink(path)


def make(page: Page, url: str) -> None:
    page.goto(f"{url}/#make")
    page.locator(".job").first.wait_for()
    for prompt, steps in ((PROMPTS[2], "60"), ("an orange cat staring off with pretty eyes", "40")):
        page.get_by_label("Prompt", exact=True).fill(prompt)
        page.locator("#more").evaluate("details => details.open = true")
        page.get_by_label("Steps").fill(steps)
        page.get_by_role("button", name="Make it").click()
    page.locator("#more").evaluate("details => details.open = false")
    page.locator("#toast:not(.seen)").wait_for(state="attached")
    expect(page.locator("#running .standing").first).to_contain_text(re.compile(r"Painting . [2-9]\d"), timeout=120_000)
    page.evaluate("scrollTo(0, 0)")


def batch(page: Page, url: str) -> None:
    page.goto(f"{url}/#make?mode=batch")
    page.get_by_label("Prompts, one a line").fill("a red apple\na green apple\na golden apple")
    for style in ("Anime", "Comic"):
        page.get_by_role("checkbox", name=style).check()
    page.get_by_label("Only at night").check()
    page.locator("#estimate:not(:empty)").wait_for()
    page.evaluate("scrollTo(0, 0)")


def gallery(page: Page, url: str) -> None:
    page.goto(f"{url}/#gallery?sort=-clip_score")
    page.locator(".tile img").nth(3).wait_for()


def picture(page: Page, url: str) -> None:
    gallery(page, url)
    page.locator(".tile button").nth(2).click()
    page.locator("#picture-more dl").wait_for()
    page.locator("#picture img").first.evaluate("image => image.decode()")


def nights(page: Page, url: str) -> None:
    page.keyboard.press("Escape")
    page.goto(f"{url}/#nights")
    page.locator(".batch").first.wait_for()


def report(page: Page, url: str) -> None:
    page.get_by_role("button", name="Report: four scenes, six styles").click()
    page.frame_locator("#report iframe").get_by_text("Contact sheet").wait_for()


def shrink(path: Path) -> None:
    """The same in a palette of its own."""
    with Image.open(path) as shot:
        small = shot.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


SHOTS: dict[tuple[str, Literal["light", "dark"]], Sequence[Look]] = {
    ("wide", "light"): (make, batch, gallery, picture, nights, report),
    ("wide", "dark"): (make, gallery, picture),
    ("phone", "light"): (make, gallery),
    ("phone", "dark"): (picture, nights),
}

if __name__ == "__main__":
    main()
