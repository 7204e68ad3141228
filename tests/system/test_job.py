"""One job from the request to the object in the bucket, through every real part."""

import hashlib
import io
import json

import httpx2
import pytest
from PIL import Image

from tests.deployment import Kiln


def test_a_prompt_becomes_a_scored_picture_whose_bytes_have_the_recorded_sha256(served: Kiln) -> None:
    job = served.finished(served.post(style="anime", seed=32, num_inference_steps=5)["id"])
    assert job["status"] == "succeeded", job
    assert job["progress"] == {"done": 5, "total": 5, "percent": 100.0}
    picture = job["images"][0]
    data = httpx2.get(picture["url"]).content
    assert hashlib.sha256(data).hexdigest() == picture["sha256"]
    assert len(data) == picture["bytes"]
    image = Image.open(io.BytesIO(data))
    assert image.size == (picture["width"], picture["height"]) == (256, 256)
    assert 0 <= picture["clip_score"] <= 100
    recipe = json.loads(image.text["kiln"])  # type: ignore[attr-defined]  # PNG only
    assert (recipe["image_seed"], recipe["enhanced_prompt"]) == (32, job["enhanced_prompt"])
    assert job["enhanced_prompt"].startswith(job["styled_prompt"])
    assert httpx2.get(picture["thumbnail_url"]).status_code == 200
    assert {f"{stage}_ms" for stage in ("queued", "enhance", "diffuse", "score", "store")} <= set(job["timings"])


def test_the_same_seed_makes_the_same_picture_again(served: Kiln) -> None:
    jobs = [served.post(seed=7, num_inference_steps=3, num_images=2, reuse=False)["id"] for _ in range(2)]
    first, second = (served.finished(job)["recipe"] is not None and served.job(job)["images"] for job in jobs)
    pixels = [[Image.open(io.BytesIO(httpx2.get(i["url"]).content)).tobytes() for i in job] for job in (first, second)]
    assert pixels[0] == pixels[1]
    assert pixels[0][0] != pixels[0][1]


@pytest.mark.parametrize("scheduler", ["lms_discrete", "heun_discrete", "dpm_solver_multistep"])
@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_every_scheduler_and_format_goes_through(served: Kiln, scheduler: str, output_format: str) -> None:
    asked = served.post(scheduler=scheduler, output_format=output_format, num_inference_steps=3, width=64, height=72)
    job = served.finished(asked["id"])
    assert job["status"] == "succeeded", job
    picture = job["images"][0]
    image = Image.open(io.BytesIO(httpx2.get(picture["url"]).content))
    assert (image.format or "").lower() == output_format
    assert image.size == (64, 72)


def test_of_four_pictures_the_best_is_kept_and_the_others_keep_their_score(served: Kiln) -> None:
    job = served.finished(served.post(num_images=4, keep_best=1, num_inference_steps=2)["id"])
    scores = [image["clip_score"] for image in job["images"]]
    kept = [image for image in job["images"] if image["url"]]
    assert len(scores) == 4
    assert [image["clip_score"] for image in kept] == [max(scores)]


def test_progress_is_seen_while_the_job_runs_and_cancel_stops_it(served: Kiln) -> None:
    job_id = served.post(num_inference_steps=500, num_images=8)["id"]
    served.wait(job_id, lambda job: job["status"] == "running" and job["progress"]["done"] > 3)
    httpx2.post(f"{served.url}/v1/jobs/{job_id}/cancel")
    job = served.finished(job_id, seconds=5)
    assert job["status"] == "canceled"
    assert 3 < job["progress"]["done"] < 4000
    assert job["images"] == []


def test_a_persons_job_goes_before_the_next_step_of_a_batch_job(served: Kiln) -> None:
    long = served.post(num_inference_steps=500, lane="batch")["id"]
    served.wait(long, lambda job: job["progress"]["done"] > 0)
    short = served.finished(served.post(num_inference_steps=2)["id"])
    assert short["status"] == "succeeded"
    assert served.job(long)["status"] == "running"
    httpx2.post(f"{served.url}/v1/jobs/{long}/cancel")
    served.finished(long)
