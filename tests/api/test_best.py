"""The best of a batch: once all is over, each prompt keeps its best pictures, and only it."""

from dataclasses import replace
from typing import Any

import pytest

from common.errors import WorkerLost
from common.jobs import lease
from common.jobs.claim import Claim
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, claimed
from worker.chores import keep_best

MATRIX = {"prompts": ["a red apple", "a green apple"], "seeds": [1, 2, 3]}
SCORES = {("a red apple", 1): 20.0, ("a red apple", 2): 25.0, ("a green apple", 1): 31.0, ("a green apple", 2): 30.0}


def paint(api: Api, claim: Claim, score: float) -> None:
    keys = {"key": f"images/{claim.job_id.hex}/1/0.png", "thumbnail_key": f"images/{claim.job_id.hex}/1/0.thumb.webp"}
    for key in keys.values():
        api.objects.put(key, b"png", "image/png")
    lease.succeed(api.engine, claim, [replace(PICTURE, clip_score=score, **keys)], recipe={}, timings={})


def finish(api: Api, jobs: int) -> None:
    """So many jobs, in their order; what has no score fails."""
    for _ in range(jobs):
        claim = claimed(api.engine)
        score = SCORES.get((claim.spec.prompt, claim.spec.seed))
        if score is None:
            lease.fail(api.engine, claim, WorkerLost("gone"))
        else:
            paint(api, claim, score)


def kept(api: Api, batch: dict[str, Any]) -> dict[tuple[str, int], bool]:
    """Of each picture, whether it can be fetched; all of them have their score."""
    found = api.get("/v1/jobs", params={"batch_id": batch["id"]}).json()["data"]
    images = {(job["input"]["prompt"], job["input"]["seed"]): image for job in found for image in job["images"]}
    assert {key: image["clip_score"] for key, image in images.items()} == {key: SCORES[key] for key in images}
    return {
        key: api.get(f"/v1/images/{image['id']}/content", params={"proxy": 1}).status_code == 200
        for key, image in images.items()
    }


def test_each_prompt_keeps_its_best_pictures_once_all_jobs_are_over(api: Api) -> None:
    batch = api.post("/v1/batches", json={"matrix": MATRIX, "keep_best": 1}).json()
    assert (batch["keep_best"], batch["best_kept_at"]) == (1, None)
    finish(api, 5)
    keep_best(api.engine, api.objects)
    assert all(kept(api, batch).values()), "a job still waits, and may be better"

    finish(api, 1)
    stored = api.objects_stored()
    keep_best(api.engine, api.objects)
    assert [key for key, there in kept(api, batch).items() if there] == [("a green apple", 1), ("a red apple", 2)]
    assert api.objects_stored() == stored - 4
    assert api.get(f"/v1/batches/{batch['id']}").json()["best_kept_at"]
    keep_best(api.engine, api.objects)
    assert api.objects_stored() == stored - 4


def test_what_is_retried_is_ranked_with_the_others(api: Api) -> None:
    batch = api.post("/v1/batches", json={"matrix": MATRIX, "keep_best": 1}).json()
    finish(api, 6)
    keep_best(api.engine, api.objects)
    assert api.post(f"/v1/batches/{batch['id']}/retry-failed").status_code == 202
    for _ in range(2):
        claim = claimed(api.engine)
        paint(api, claim, 26.0 if claim.spec.prompt == "a red apple" else 1.0)
    keep_best(api.engine, api.objects)
    found = api.get("/v1/jobs", params={"batch_id": batch["id"]}).json()["data"]
    best = {(job["input"]["prompt"], image["clip_score"]) for job in found for image in job["images"] if image["url"]}
    assert best == {("a red apple", 26.0), ("a green apple", 31.0)}


def test_a_batch_that_says_nothing_keeps_everything(api: Api) -> None:
    batch = api.post("/v1/batches", json={"matrix": MATRIX}).json()
    finish(api, 6)
    keep_best(api.engine, api.objects)
    assert all(kept(api, batch).values())


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"matrix": MATRIX, "keep_best": 4}, "at most 3"),
        ({"matrix": MATRIX, "keep_best": 1, "defaults": {"num_images": 2, "keep_best": 1}}, "and of a job in it"),
        ({"matrix": {"prompts": ["a cat"]}, "keep_best": 2}, "at most 1"),
    ],
)
def test_a_choice_without_a_choice_is_refused(api: Api, sent: dict[str, Any], says: str) -> None:
    with api.nothing_changes():
        answer = api.post("/v1/batches", json=sent)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], says in error["detail"]) == ("/keep_best", True)
