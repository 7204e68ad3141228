"""Jobs over HTTP, against a real server, PostgreSQL, broker and bucket; no worker runs here."""

import threading
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from common.db import transaction
from common.jobs import lease
from common.jobs.state import Status
from common.jobs.workers import record_worker
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, claim
from tests.processes import wait_for


def test_a_posted_job_is_accepted_with_every_default_resolved(api: Api) -> None:
    answer = api.post("/v1/jobs", json={"prompt": "a red apple", "style": "Van Gogh"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"].endswith(f"/v1/jobs/{job['id']}")
    assert int(answer.headers["retry-after"]) >= 1
    assert (job["status"], job["servable"], job["queue_position"]) == ("queued", False, 1)
    asked = job["input"]
    assert (asked["style"], asked["model"], asked["scheduler"]) == ("gogh", "demo", "dpm_solver_multistep")
    assert isinstance(asked["seed"], int)
    assert api.get(f"/v1/jobs/{job['id']}").json()["input"] == asked
    assert api.messages() == 1


def test_prompts_are_normalised_to_nfc(api: Api) -> None:
    job = api.post("/v1/jobs", json={"prompt": "cafe\u0301"}).json()
    assert job["input"]["prompt"] == "caf\u00e9"


def test_the_same_key_replays_and_another_body_is_refused(api: Api) -> None:
    key = {"Idempotency-Key": "one"}
    first = api.post("/v1/jobs", json={"prompt": "a"}, headers=key)
    again = api.post("/v1/jobs", json={"prompt": "a"}, headers=key)
    other = api.post("/v1/jobs", json={"prompt": "b"}, headers=key)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert api.messages() == 1


def test_a_job_that_is_sent_again_after_its_deadline_is_the_same_job(api: Api) -> None:
    sent = {"prompt": "a", "deadline": (datetime.now(UTC) + timedelta(seconds=5)).isoformat()}
    key = {"Idempotency-Key": "late"}
    first = api.post("/v1/jobs", json=sent, headers=key)
    assert first.status_code == 202, first.text
    wait_for("the deadline", lambda: api.post("/v1/jobs", json=sent).status_code == 422)
    rows = api.rows()
    again = api.post("/v1/jobs", json=sent, headers=key)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true"), again.text
    assert (again.json()["id"], api.rows()) == (first.json()["id"], rows)


def test_prefer_wait_answers_200_with_the_finished_job(api: Api) -> None:
    def finish_the_next_job() -> None:
        while (taken := claim(api.engine)) is None:
            time.sleep(0.02)
        lease.succeed(api.engine, taken, [PICTURE], recipe={"x": 1}, timings={})

    worker = threading.Thread(target=finish_the_next_job)
    worker.start()
    answer = api.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=30"})
    worker.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"


def test_prefer_wait_answers_202_when_the_time_is_up(api: Api) -> None:
    answer = api.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_the_list_is_walked_by_cursor_newest_first(api: Api) -> None:
    posted = [api.post("/v1/jobs", json={"prompt": str(n)}).json()["id"] for n in range(5)]
    seen: list[str] = []
    after = ""
    for expected_more in (True, True, False):
        page = api.get(f"/v1/jobs?limit=2{after}").json()
        seen += [job["id"] for job in page["data"]]
        assert page["has_more"] is expected_more
        after = f"&after={page['last_id']}"
    assert seen == posted[::-1]
    assert api.get("/v1/jobs?status=succeeded").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "last_id": None,
    }


def test_cancel_is_idempotent_and_leaves_a_finished_job_alone(api: Api) -> None:
    job = api.post("/v1/jobs", json={"prompt": "a"}).json()
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    finished = succeeded(api)
    assert api.post(f"/v1/jobs/{finished}/cancel").json()["status"] == "succeeded"


def test_a_retry_is_a_new_job_with_the_same_seed_and_any_field_changed(api: Api) -> None:
    old = api.post("/v1/jobs", json={"prompt": "a", "metadata": {"k": "v"}, "priority": 3}).json()
    new = api.post(f"/v1/jobs/{old['id']}/retry", json={"num_inference_steps": 7})
    assert new.status_code == 202
    job = new.json()
    assert (job["retried_from"], job["metadata"]) == (old["id"], {"k": "v"})
    times = ("not_before", "deadline")
    expected = old["input"] | {"num_inference_steps": 7}
    assert {k: v for k, v in job["input"].items() if k not in times} == {
        k: v for k, v in expected.items() if k not in times
    }
    assert api.post(f"/v1/jobs/{old['id']}/retry").status_code == 202
    assert api.post(f"/v1/jobs/{old['id']}/retry", json={"prompt": None, "width": 500}).status_code == 422


def test_a_finished_job_is_deleted_with_its_objects_and_a_waiting_one_is_not(api: Api) -> None:
    waiting = api.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    assert api.request("DELETE", f"/v1/jobs/{waiting}").status_code == 409
    api.post(f"/v1/jobs/{waiting}/cancel")
    finished = succeeded(api)
    assert api.objects_stored() == 2
    assert api.request("DELETE", f"/v1/jobs/{finished}").status_code == 204
    assert api.objects_stored() == 0
    assert api.get(f"/v1/jobs/{finished}").status_code == 404
    assert api.request("DELETE", f"/v1/jobs/{finished}").status_code == 404


def test_a_picture_is_served_by_redirect_and_through_the_api(api: Api) -> None:
    job = api.get(f"/v1/jobs/{succeeded(api)}").json()
    picture = job["images"][0]
    redirect = api.get(f"/v1/images/{picture['id']}/content")
    assert redirect.status_code == 302
    assert api.get(redirect.headers["location"]).content == b"png"
    assert api.get(picture["url"]).content == b"png"
    proxied = api.get(f"/v1/images/{picture['id']}/content?proxy=1")
    assert (proxied.status_code, proxied.content, proxied.headers["content-type"]) == (200, b"png", "image/png")
    listed = api.get("/v1/images?sort=-clip_score&min_clip_score=20").json()["data"]
    assert [image["id"] for image in listed] == [picture["id"]]
    assert api.get("/v1/images?min_clip_score=30").json()["data"] == []


def test_a_job_for_tomorrow_is_accepted_and_rings_nobody(api: Api) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert api.post("/v1/jobs", json={"prompt": "a", "not_before": tomorrow}).status_code == 202
    assert api.messages() == 0


def test_the_catalogue_says_what_there_is_to_choose_from(api: Api) -> None:
    models = {model["id"]: model for model in api.get("/v1/models").json()["data"]}
    assert models["demo"]["width"] == 256
    assert models["sd-v1-4"]["parts"]["scorer"] == "openai/clip-vit-base-patch16@main"
    styles = {style["id"] for style in api.get("/v1/styles").json()["data"]}
    assert styles >= {"gogh", "surrealistic", "cinematic", "anime", "photographic", "comic", "lineart", "pixelart"}
    schedulers = {one["id"]: one["karras_sigmas"] for one in api.get("/v1/schedulers").json()["data"]}
    assert schedulers == {"lms_discrete": ["demo"], "heun_discrete": [], "dpm_solver_multistep": []}
    assert api.get("/v1/defaults?model=sd-v1-4").json()["num_inference_steps"] == 250
    assert api.get("/v1/defaults?model=nope").status_code == 422
    assert api.get("/v1/workers").json()["data"] == []
    api.post("/v1/jobs", json={"prompt": "a"})
    assert api.get("/v1/queue").json()["lanes"]["interactive"]["queued"] == 1


def test_what_defaults_tell_is_what_a_job_gets(api: Api) -> None:
    told = api.get("/v1/defaults").json()
    job = api.post("/v1/jobs", json={"prompt": told.pop("prompt")}).json()
    # The row keeps neither that a seed or a start was left open, nor whether an equal job's pictures would do
    got = job["input"] | {name: job[name] for name in ("metadata", "webhook")}
    got |= {"seed": None, "not_before": None, "reuse": True}
    assert told == {name: got[name] for name in told}


def test_health_and_metrics(api: Api) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    ready = api.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert set(ready.json()["checks"]) == {"database", "broker", "bucket"}
    api.post("/v1/jobs", json={"prompt": "a"})
    metrics = api.get("/metrics").text
    assert 'kiln_jobs{lane="interactive",status="queued"} 1.0' in metrics
    assert 'kiln_http_request_seconds_count{method="POST",route="/v1/jobs",status="202"}' in metrics


def test_workers_are_counted_while_they_live(api: Api) -> None:
    """A graph of a worker that is gone, or no list at all for the sake of one that says less than others."""
    for name, figures in (("alive", {"slots": 4}), ("silent", {"slots": 4}), ("of old", {})):
        record_worker(api.engine, name, state="ready", models=["demo"], device="cpu", seats=2, figures=figures)
    with transaction(api.engine) as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at - interval '1 h' WHERE id = 'silent'"))

    metrics = api.get("/metrics").text
    assert 'kiln_workers{state="ready"} 2.0' in metrics
    assert 'kiln_workers{state="unready"} 0.0' in metrics
    assert "kiln_worker_" not in metrics, "their figures are theirs to tell"
    workers = {worker["id"]: worker["slots"] for worker in api.get("/v1/workers").json()["data"]}
    assert workers == {"alive": 4, "of old": None}


def succeeded(api: Api) -> str:
    """A job brought to success by hand, with two small objects in the bucket."""
    job: str = api.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    taken = claim(api.engine)
    assert taken is not None
    for key in (PICTURE.key, PICTURE.thumbnail_key):
        assert key is not None
        api.objects.put(key, b"png", "image/png")
    assert lease.succeed(api.engine, taken, [PICTURE], recipe={}, timings={}) is Status.SUCCEEDED
    return job
