"""A new user's way through the page, in a real browser, on a real Kiln with a worker."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from PIL import Image
from playwright.sync_api import Page, expect

from common.settings import Settings
from tests.browser.conftest import PATIENCE, Opener, barriers, too_wide
from tests.deployment import Kiln, running_kiln

VIEWS = ("make", "make?mode=batch", "gallery", "nights")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"> <b>bold</b>"
QUICK = {"width": 64, "height": 64, "num_inference_steps": 2, "enhance": False}

expect.set_options(timeout=PATIENCE)
pytestmark = pytest.mark.timeout(600)  # the first test waits for the worker, too


@pytest.fixture(scope="module")
def kiln(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiln]:
    with running_kiln(module_settings, tmp_path_factory.mktemp("browser")) as started, started.worker():
        yield started


def ask(page: Page, prompt: str, *, steps: int = 4, side: int = 128) -> None:
    """Fill in the form: a small picture in few steps."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#more").evaluate("details => details.open = true")
    for label, value in (("Steps", steps), ("Width", side), ("Height", side)):
        page.get_by_label(label, exact=True).fill(str(value))


def test_a_new_user_makes_a_picture_and_another_of_its_seed_and_finds_the_best_of_a_batch(
    kiln: Kiln, opened: Opener
) -> None:
    page = opened(kiln.url)
    expect(page.locator("#jobs-empty")).to_be_visible()
    ask(page, "a red kite over a hill")
    page.get_by_role("radio", name="Anime").check()
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".job", has_text="a red kite over a hill").first).to_be_visible()
    page.locator("#finished").get_by_role("button", name="Open a red kite").first.click()

    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("anime artwork of a red kite over a hill")
    expect(page.locator("#picture-image")).to_have_js_property("naturalWidth", 128)
    seed = dialog.locator("dt:text('Seed') + dd").inner_text()
    dialog.get_by_role(
        "button", name="Comic"
    ).click()  # no line art: of four steps, a quarter is a white sheet, and fails
    second = page.locator("#finished .job", has_text="Comic").filter(has_text="a red kite").first
    second.get_by_role("button", name="Open").click()
    expect(dialog.locator("dt:text('Seed') + dd")).to_have_text(seed)
    page.keyboard.press("Escape")

    page.get_by_role("radio", name="Batch").check()
    page.get_by_label("Prompts, one a line").fill("a blue boat\na green tree\n\na yellow house")
    for style in ("Anime", "Comic"):
        page.get_by_role("checkbox", name=style).set_checked(True)
    for style in ("Cinematic", "Line Art"):
        page.get_by_role("checkbox", name=style).set_checked(False)
    page.get_by_label("Seeds for each").fill("2")
    page.get_by_label("Name", exact=True).fill("twelve")
    expect(page.locator("#estimate")).to_contain_text("12 pictures")
    page.get_by_role("button", name="Start the batch").click()
    night = page.locator(".batch", has_text="twelve")
    expect(night).to_contain_text("12 succeeded of 12 jobs", timeout=2 * PATIENCE)

    night.get_by_role("link", name="Pictures").click()
    expect(page.locator(".tile")).to_have_count(12)
    batch = httpx2.get(f"{kiln.url}/v1/batches", timeout=30).json()["data"][0]["id"]
    listed = httpx2.get(f"{kiln.url}/v1/images?batch_id={batch}&sort=-clip_score", timeout=30).json()["data"]
    page.locator(".tile button").first.click()
    expect(page.locator("#picture-prompt")).to_have_text(listed[0]["prompt"])
    expect(page.locator("#picture-line")).to_contain_text(f"score {listed[0]['clip_score']:.2f}")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#picture-line")).to_contain_text(f"score {listed[1]['clip_score']:.2f}")
    page.keyboard.press("Escape")
    expect(page.locator(".tile button").nth(1)).to_be_focused()
    assert page.evaluate("document.title") == "Gallery · Kiln"

    openai = OpenAI(base_url=f"{kiln.url}/v1", api_key="any", timeout=PATIENCE)
    few = {"num_inference_steps": 4}
    assert openai.images.generate(prompt="a house in the snow", size="128x128", extra_body=few).data
    page.goto(f"{kiln.url}/#gallery?sort=-id")  # of all batches, as it was left on one
    expect(page.locator(".tile", has_text="a house in the snow")).to_be_visible()


def test_a_job_can_be_watched_and_canceled(kiln: Kiln, opened: Opener) -> None:
    page = opened(kiln.url)
    ask(page, "a long night", steps=400, side=256)
    page.get_by_role("button", name="Make it").click()
    job = page.locator(".job", has_text="a long night")
    expect(job.get_by_role("progressbar")).to_be_visible()
    expect(page.locator("#depth")).to_contain_text("in the fire")
    expect(job.get_by_alt_text("A preview of the picture")).to_be_visible()
    job.get_by_role("button", name="Cancel").click()
    expect(job).to_contain_text("Canceled")


def test_what_is_wrong_is_said_beside_its_field(kiln: Kiln, opened: Opener) -> None:
    page = opened(kiln.url)
    ask(page, "", side=100, steps=3)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("[data-field=prompt] .error")).to_contain_text("must not be empty")
    expect(page.locator("[data-field=width] .error")).to_contain_text("must be divisible by 8")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    expect(page.get_by_label("Width", exact=True)).to_have_accessible_description(re.compile("divisible"))
    page.get_by_label("Width", exact=True).fill("128")
    expect(page.locator("[data-field=width] .error")).to_be_hidden()

    page.get_by_role("radio", name="Batch").check()
    page.get_by_label("Only at night").check()
    page.get_by_label("zone").fill("Mars/Base")
    page.get_by_label("Prompts, one a line").fill("a cat")
    page.get_by_role("button", name="Start the batch").click()
    expect(page.locator("[data-field=window] .error")).to_contain_text("no zone")


def test_what_users_write_is_text_wherever_it_is_shown(kiln: Kiln, opened: Opener) -> None:
    batch = {"name": HOSTILE, "matrix": {"prompts": [HOSTILE]}, "defaults": QUICK}
    httpx2.post(f"{kiln.url}/v1/batches", json=batch, timeout=30).raise_for_status()
    page = opened(kiln.url)
    expect(page.locator("#finished .job .wish", has_text="onerror")).to_have_text(HOSTILE)
    page.goto(f"{kiln.url}/#gallery")
    page.locator(".tile button").first.click()
    expect(page.locator("#picture-prompt")).to_have_text(HOSTILE)
    expect(page.locator(".final")).to_contain_text("<b>bold</b>")
    page.keyboard.press("Escape")
    page.goto(f"{kiln.url}/#nights")
    card = page.locator(".batch", has=page.get_by_role("heading", name=HOSTILE))
    card.get_by_role("button", name="Report").click()
    expect(page.frame_locator("#report iframe").get_by_role("heading", level=1)).to_have_text(HOSTILE)
    report = page.frame_locator("#report iframe").locator("body")
    assert report.evaluate("body => getComputedStyle(body).maxWidth") == "1472px", "the policy refused its style"
    assert page.evaluate("document.title") == "Nights · Kiln"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_every_view_is_there_for_all_and_fits_its_window(
    kiln: Kiln, opened: Opener, scheme: str, *, phone: bool
) -> None:
    _one_picture(kiln)
    page = opened(kiln.url, phone=phone, color_scheme=scheme)
    for view in VIEWS:
        page.goto(f"{kiln.url}/#{view}")
        page.locator(".job, .tile, .batch").and_(page.locator(":visible")).first.wait_for()
        assert barriers(page) == [], view
        assert too_wide(page) <= 0, view
    page.goto(f"{kiln.url}/#gallery")
    page.locator(".tile button").first.click()
    page.locator("#picture-more dl").wait_for()
    assert barriers(page) == []
    assert too_wide(page) <= 0


def test_what_is_copied_does_the_same_from_a_shell_and_from_python(kiln: Kiln, opened: Opener, tmp_path: Path) -> None:
    page = opened(kiln.url, permissions=["clipboard-read", "clipboard-write"])
    ask(page, 'it\'s a "quoted" cat \u2013 \\ backslash', steps=2, side=64)
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#toast")).to_contain_text("curl")
    line = page.evaluate("navigator.clipboard.readText()")
    words = subprocess.run(
        ["sh", "-c", f'curl() {{ for word; do printf "%s\\0" "$word"; done; }}\n{line}'],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    assert words[1] == f"{kiln.url}/v1/jobs"
    body = words[words.index("-d") + 1]
    sent = httpx2.post(words[1], content=body, headers={"Content-Type": "application/json"}, timeout=30)
    assert sent.json()["input"]["seed"] == 7

    page.get_by_role("button", name="Copy as Python").click()
    expect(page.locator("#toast")).to_contain_text("Python")
    program = page.evaluate("navigator.clipboard.readText()")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    (picture,) = tmp_path.glob("*.png")
    assert Image.open(picture).size == (64, 64)
    newest: dict[str, Any] = httpx2.get(f"{kiln.url}/v1/jobs?limit=1", timeout=30).json()["data"][0]
    assert newest["input"]["prompt"] == 'it\'s a "quoted" cat \u2013 \\ backslash'


def _one_picture(kiln: Kiln) -> None:
    if not httpx2.get(f"{kiln.url}/v1/batches", timeout=30).json()["data"]:
        batch = {"name": "one", "matrix": {"prompts": ["a red apple"]}, "defaults": QUICK}
        httpx2.post(f"{kiln.url}/v1/batches", json=batch, timeout=30).raise_for_status()
    if not httpx2.get(f"{kiln.url}/v1/images", timeout=30).json()["data"]:
        kiln.finished(kiln.post(**QUICK)["id"])
