"""The Python client against the real API: pages, lost answers, damaged pictures, waiting, what it reads."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from client.api import Kiln
from client.errors import DamagedPicture, KilnApiError
from tests.deployment import Kiln as Deployment
from tests.processes import changed, running_api
from tests.proxy import Proxy, proxied

FAR = "2099-01-01T00:00:00Z"  # not before this: a job that stays queued


@contextmanager
def losing_first_answer(api: Kiln) -> Iterator[tuple[Proxy, Kiln]]:
    """A client whose first request arrives and whose connection dies before the answer does."""
    address = urlsplit(api.base_url)
    with proxied(str(address.hostname), int(address.port or 80)) as proxy:
        proxy.become("lose")
        with Kiln(f"http://127.0.0.1:{proxy.port}") as client:
            yield proxy, client


def count(api: Kiln, prompt: str) -> int:
    return sum(job["input"]["prompt"] == prompt for job in api.jobs(limit=100))


def test_a_submit_whose_answer_is_lost_makes_one_job(api: Kiln) -> None:
    prompt = f"one cat {uuid.uuid4()}"
    with losing_first_answer(api) as (proxy, client):
        job = client.submit(prompt, not_before=FAR)
    assert (proxy.lost, proxy.taken) == (1, 2)
    assert api.job(job["id"])["input"]["prompt"] == prompt
    assert count(api, prompt) == 1
    api.cancel(job["id"])


def test_a_retry_whose_answer_is_lost_makes_one_job(api: Kiln) -> None:
    prompt = f"another cat {uuid.uuid4()}"
    old = api.cancel(api.submit(prompt, not_before=FAR)["id"])
    with losing_first_answer(api) as (proxy, client):
        job = client.retry(old["id"], not_before=FAR, seed=9)
    assert proxy.lost == 1
    assert (job["retried_from"], job["input"]["seed"]) == (old["id"], 9)
    assert count(api, prompt) == 2
    api.cancel(job["id"])


def test_jobs_are_read_beyond_one_page_each_once_and_newest_first(api: Kiln) -> None:
    made = [api.submit("one of many", not_before=FAR)["id"] for _ in range(105)]
    try:
        seen = [job["id"] for job in api.jobs(limit=105)]
        assert seen == made[::-1]
        older = [job["id"] for job in api.jobs(limit=3, after=made[50])]
        assert older == made[47:50][::-1]
        assert {job["status"] for job in api.jobs(status="queued", limit=105)} == {"queued"}
    finally:
        for job_id in made:
            api.cancel(job_id)


def test_an_unfinished_page_is_not_asked_for_again(api: Kiln) -> None:
    newest = api.cancel(api.submit("the newest", not_before=FAR)["id"])["id"]
    assert [job["id"] for job in api.jobs(limit=1)] == [newest]


def test_a_picture_with_other_bytes_is_refused(api: Kiln) -> None:
    job = api.wait(api.submit("a cat", num_inference_steps=2)["id"], timeout=60)
    image = job["images"][0]
    assert len(api.image(image)) == image["bytes"]
    with pytest.raises(DamagedPicture, match=image["id"]):
        api.image({**image, "sha256": "0" * 64})


def test_waiting_reports_every_answer_and_ends_with_the_job(api: Kiln) -> None:
    seen: list[str] = []
    job = api.wait(
        api.submit("a cat", num_inference_steps=2)["id"], on_update=lambda job: seen.append(job["status"]), timeout=60
    )
    assert job["status"] == seen[-1] == "succeeded"
    assert set(seen) <= {"queued", "running", "succeeded"}


def test_waiting_gives_up_after_its_timeout_and_the_job_goes_on(api: Kiln) -> None:
    job_id = api.submit("a late cat", not_before=FAR)["id"]
    with pytest.raises(TimeoutError, match=f"{job_id} is still queued"):
        api.wait(job_id, timeout=0.3)
    assert api.cancel(job_id)["status"] == "canceled"


@pytest.mark.parametrize("job_id", [f"job_{'0' * 32}", "job_1", "../queue", "job 1?limit=2", ""])
def test_an_id_that_names_no_job_is_not_found(api: Kiln, job_id: str) -> None:
    with pytest.raises(KilnApiError) as refused:
        api.cancel(job_id)
    assert refused.value.status in (404, 405)


def test_a_finished_job_is_deleted_with_its_picture(api: Kiln) -> None:
    job = api.wait(api.submit("a cat to forget", num_inference_steps=2)["id"], timeout=60)
    api.delete(job["id"])
    for gone in (lambda: api.job(job["id"]), lambda: api.image(job["images"][0])):
        with pytest.raises(KilnApiError) as refused:
            gone()
        assert refused.value.status == 404


def test_the_catalogue_the_queue_and_the_workers_are_read(api: Kiln) -> None:
    assert "demo" in [model["id"] for model in api.models()["data"]]
    assert "cinematic" in [style["id"] for style in api.styles()["data"]]
    assert len(api.schedulers()["data"]) == 3
    assert api.defaults()["style"] == "cinematic"
    assert "lanes" in api.queue()
    assert [worker["state"] for worker in api.workers()["data"]].count("ready") >= 1
    assert api.ready()["status"] == "ok"


def test_a_picture_comes_through_the_api_where_the_storage_is_out_of_reach(
    api: Kiln, served: Deployment, tmp_path: Path
) -> None:
    job = api.wait(api.submit("a far cat", num_inference_steps=2)["id"], timeout=60)
    elsewhere = changed(served.settings, s3_public_url="http://127.0.0.1:9")
    with running_api(elsewhere, tmp_path / "api.log") as url, Kiln(url) as client:
        assert client.image(job["images"][0]) == api.image(job["images"][0])
