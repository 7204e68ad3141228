"""The gallery's list: filtered, in order, page by page, with what each picture was asked for."""

from dataclasses import replace
from typing import Any

import pytest

from common.jobs import lease
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, claimed

SCORED = {"a red apple": 20.0, "a RED boat at 100%": 25.0, "a green_apple": 30.0}


@pytest.fixture
def gallery(api: Api) -> Api:
    """Three pictures of a batch in two styles each, and one beside it; the last made has the best score."""
    matrix = {"prompts": list(SCORED), "styles": ["anime", "comic"], "seeds": [1]}
    api.post("/v1/batches", json={"matrix": matrix}).raise_for_status()
    api.post("/v1/jobs", json={"prompt": "alone", "style": "van gogh", "lane": "batch"}).raise_for_status()
    for _ in range(7):
        claim = claimed(api.engine)
        picture = replace(PICTURE, clip_score=SCORED.get(claim.spec.prompt, 99.0))
        lease.succeed(api.engine, claim, [picture], recipe={}, timings={})
    return api


def listed(api: Api, **query: Any) -> list[tuple[str, str]]:
    answer = api.get("/v1/images", params=query)
    assert answer.status_code == 200, answer.text
    return [(one["prompt"], one["style"]) for one in answer.json()["data"]]


@pytest.mark.parametrize(
    ("q", "prompts"),
    [
        ("apple", {"a red apple", "a green_apple"}),
        ("APPLE red", {"a red apple"}),
        ("red", {"a red apple", "a RED boat at 100%"}),
        ("%", {"a RED boat at 100%"}),
        ("n_a", {"a green_apple"}),
        ("red green", set()),
        ("  ", {*SCORED, "alone"}),
    ],
)
def test_every_word_has_to_stand_in_the_prompt_as_it_is_in_any_case(gallery: Api, q: str, prompts: set[str]) -> None:
    assert {prompt for prompt, _ in listed(gallery, q=q)} == prompts


def test_a_style_a_batch_and_a_score_narrow_the_list_together(gallery: Api) -> None:
    (batch,) = gallery.get("/v1/batches").json()["data"]
    assert listed(gallery, style="Van Gogh") == [("alone", "gogh")]
    assert len(listed(gallery, batch_id=batch["id"])) == 6
    found = listed(gallery, batch_id=batch["id"], style="comic", min_clip_score=25, sort="-clip_score")
    assert found == [("a green_apple", "comic"), ("a RED boat at 100%", "comic")]
    (one,) = gallery.get("/v1/images", params={"q": "alone"}).json()["data"]
    assert one["batch_id"] is None


@pytest.mark.parametrize("sort", ["-id", "-clip_score"])
def test_pages_of_a_filtered_list_hold_each_picture_once(gallery: Api, sort: str) -> None:
    whole = listed(gallery, q="a", style="anime", sort=sort)
    pages, after, more = [], None, True
    while more:
        query = {"q": "a", "style": "anime", "sort": sort, "limit": 1, "after": after}
        page = gallery.get("/v1/images", params={name: value for name, value in query.items() if value}).json()
        pages += [(one["prompt"], one["style"]) for one in page["data"]]
        after, more = page["last_id"], page["has_more"]
    assert pages == whole
    assert len(pages) == 3


@pytest.mark.parametrize(
    ("query", "status", "pointer"),
    [
        ({"q": "x" * 201}, 422, "/q"),
        ({"q": "a\x00b"}, 422, "/q"),
        ({"style": "baroque"}, 422, "/style"),
        ({"batch_id": "batch_1"}, 404, None),
        ({"batch_id": f"batch_{'0' * 32}"}, 200, None),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_its_name(
    api: Api, query: dict[str, str], status: int, pointer: str | None
) -> None:
    answer = api.get("/v1/images", params=query)
    assert answer.status_code == status
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer
