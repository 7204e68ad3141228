"""A batch that is held back while it runs: parked with a checkpoint, and taken up where it was."""

import httpx2

from tests.deployment import Kiln

STEPS = 400
SLOW = {"width": 128, "height": 128, "num_inference_steps": STEPS, "enhance": False, "seed": 5}


def test_a_paused_batch_parks_what_runs_and_takes_it_up_at_the_same_step(kiln: Kiln) -> None:
    """An evening's steps lost at every pause; or a picture that shows that it was interrupted."""
    with kiln.worker(checkpoint_seconds=3600):
        url = f"{kiln.url}/v1/batches"
        batch = httpx2.post(url, json={"matrix": {"prompts": ["a red apple"]}, "defaults": SLOW}, timeout=30).json()
        job = httpx2.get(f"{kiln.url}/v1/jobs?batch_id={batch['id']}").json()["data"][0]["id"]
        kiln.wait(job, lambda seen: seen["progress"]["done"] > STEPS / 10)

        assert httpx2.post(f"{url}/{batch['id']}/pause").json()["status"] == "paused"
        parked = kiln.wait(job, lambda seen: seen["status"] == "queued")
        assert (parked["attempt"], parked["progress"]["done"] < STEPS) == (1, True)

        httpx2.post(f"{url}/{batch['id']}/resume")
        done = kiln.finished(job)
        assert (done["status"], done["attempt"]) == ("succeeded", 2)
        resumed = [line for line in kiln.tails().splitlines() if "job resumed" in line]
        assert len(resumed) == 1, kiln.tails()
        alone = kiln.finished(kiln.post(**SLOW)["id"])
    assert done["images"][0]["sha256"] == alone["images"][0]["sha256"]
