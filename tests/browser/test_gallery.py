"""The gallery with ten thousand pictures: it scrolls to its end, and the page stays as small as its window."""

import io
import json
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect
from sqlalchemy import text

from common.db import make_engine, transaction
from common.jobs.keys import Scope, create_key
from common.objects import Objects
from common.settings import Settings
from tests.browser.conftest import PATIENCE, Opener, barriers
from tests.jobs.make import SPEC
from tests.processes import running_api

PICTURES = 10_000
MOST_TILES = 150  # three windows of tiles, in a window of 1280 by 860
THUMBNAILS = 97  # objects; more than a window shows, so that each tile has an address of its own
STYLES = ("cinematic", "anime", "gogh")

# Rows alone: many pictures share an object. Ids count up, as those of UUIDv7 do
ROWS = """
INSERT INTO jobs (id, owner, spec, spec_digest, model, metadata, fingerprint, status, lane, priority, turn,
                  progress_total, created_at, started_at, finished_at)
SELECT number.id, 'local', CAST(:spec AS jsonb) || jsonb_build_object(
           'prompt', 'picture number ' || n, 'style', (CAST(:styles AS text[]))[1 + n % 3]),
       'd' || n, 'demo', '{}', '', 'succeeded', 'batch', 0, 0, 1, now(), now(), now()
FROM generate_series(1, :pictures) AS n, LATERAL (SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid) AS id) AS number;
INSERT INTO images (job_id, index, id, seed, width, height, clip_score, kept, key, thumbnail_key, content_type, bytes,
                    sha256)
SELECT id, 0, id, 1, 256, 256, 20 + n % 1000 / 100.0, true, seen, seen, 'image/webp', 3, 'ab'
FROM jobs, LATERAL (SELECT CAST(substr(spec->>'prompt', 16) AS integer) AS n) AS number,
     LATERAL (SELECT 'images/seen/' || n % :objects AS seen) AS object;
"""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def url(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_api(module_settings, log=tmp_path_factory.mktemp("gallery") / "api.log") as base_url:
        objects, seen = Objects.from_settings(module_settings), thumbnail()
        for number in range(THUMBNAILS):
            objects.put(f"images/seen/{number}", seen, "image/webp")
        engine = make_engine(module_settings.database_url.get_secret_value(), name="kiln-test")
        given = {
            "spec": json.dumps(SPEC.to_json()),
            "styles": list(STYLES),
            "pictures": PICTURES,
            "objects": THUMBNAILS,
        }
        with transaction(engine) as connection:
            for statement in ROWS.split(";\n"):
                if statement.strip():
                    connection.execute(text(statement), given)
            connection.execute(text("ANALYZE"))
        engine.dispose()
        yield base_url


def thumbnail() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (128, 128), (200, 90, 40)).save(made, "WEBP")
    return made.getvalue()


def tiles(page: Page) -> int:
    return page.locator(".tile").count()


def test_ten_thousand_pictures_scroll_to_the_end_and_the_page_stays_small(url: str, opened: Opener) -> None:
    page = opened(f"{url}/#gallery")
    expect(page.locator(".tile button").first).to_have_accessible_name("picture number 10000, Anime, score 20.0")
    most = 0
    while not page.get_by_text("picture number 1", exact=True).count():
        before = page.locator("#gallery-count").inner_text()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function(
            "before => document.getElementById('gallery-count').textContent !== before"
            " || document.querySelector('.tile:last-child').dataset.place === '9999'",
            arg=before,
            timeout=PATIENCE,
        )
        most = max(most, tiles(page))
    assert most < MOST_TILES
    expect(page.locator("#gallery-count")).to_have_text("10,000 pictures")
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    expect(page.locator(".tile[data-place='5000'] img")).to_have_js_property("naturalWidth", 128)
    assert tiles(page) < MOST_TILES
    assert barriers(page) == []


def test_pictures_are_found_by_words_style_and_score(url: str, opened: Opener) -> None:
    page = opened(f"{url}/#gallery")
    page.get_by_label("Words in the prompt").fill("NUMBER 999")
    expect(page.locator("#gallery-count")).to_have_text("19 pictures")  # 999, 1999 … 8999, and 9990 to 9999
    page.get_by_label("Style").select_option("Anime")
    expect(page.locator("#gallery-count")).to_have_text("6 pictures")
    page.get_by_label("Style").select_option("any")
    page.get_by_label("Words in the prompt").fill("")
    page.get_by_label("Score from").fill("29.99")
    expect(page.locator("#gallery-count")).to_have_text("10 pictures")
    page.get_by_label("Words in the prompt").fill("no such thing")
    expect(page.locator("#gallery-empty")).to_have_text("No picture is like that.")


def test_the_keyboard_walks_through_the_gallery(url: str, opened: Opener) -> None:
    page = opened(f"{url}/#gallery")
    page.locator(".tile button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".tile[data-place='7'] button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#picture-prompt")).to_have_text("picture number 9993")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#picture-prompt")).to_have_text("picture number 9994")
    page.keyboard.press("Escape")
    expect(page.locator(".tile[data-place='6'] button")).to_be_focused()


def test_addresses_that_have_expired_are_asked_for_again(url: str, opened: Opener) -> None:
    """A page that was open over night showing broken pictures as one scrolls on."""
    page = opened(f"{url}/#gallery")
    expect(page.locator(".tile img").first).to_have_js_property("naturalWidth", 128)
    expired, renewals = [True], []

    def renew(route: Route) -> None:
        if "after=" not in route.request.url:  # the page that the pictures came with
            renewals.append(route.request.url)
            expired.clear()
        route.continue_()

    page.route("**/v1/images?*", renew)
    page.route("**/images/seen/**", lambda route: route.fulfill(status=403) if expired else route.continue_())
    page.evaluate("scrollTo(0, 1800)")
    expect(page.locator(".tile[data-place='60'] img")).to_have_js_property("naturalWidth", 128)
    assert len(renewals) == 1, "all broken pictures of a page ask once"


def test_where_keys_are_in_use_the_page_asks_for_one_and_forgets_it_with_the_tab(
    module_settings: Settings, url: str, opened: Opener, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = opened(url)
    expect(page.locator("#depth")).to_have_text("The kiln is idle")
    expect(page.get_by_role("button", name="API key")).to_be_hidden()
    engine = make_engine(module_settings.database_url.get_secret_value(), name="kiln-test")
    key, _ = create_key(engine, "local", [Scope.SUBMIT, Scope.READ])
    engine.dispose()
    with running_api(module_settings, log=tmp_path_factory.mktemp("keys") / "api.log") as guarded:
        assert httpx2.get(guarded, timeout=30).status_code == 200
        assert httpx2.get(f"{guarded}/v1/images", timeout=30).status_code == 401
        page = opened(f"{guarded}/#gallery")
        for wrong_or_right in (key[:-1] + ("0" if key[-1] != "0" else "1"), key):
            page.get_by_role("textbox", name="API key").fill(wrong_or_right)
            page.get_by_role("button", name="Use it").click()
            if wrong_or_right != key:
                expect(page.locator("#key-error")).to_contain_text("not known")
        expect(page.locator(".tile img").first).to_have_js_property("naturalWidth", 128)
        assert page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]") == [0, "", [key]]
        page.get_by_role("link", name="Make").click()
        page.get_by_role("button", name="Copy as curl").click()
        assert key not in page.content() + page.locator("#code").input_value()
