"""A person who watches: what is seen of a real job while a real worker paints it."""

import base64
import io
from typing import Any

import httpx2
from PIL import Image

from tests.api.listen import Listener
from tests.deployment import Kiln

STAGES = ["enhance", "diffuse", "score", "store"]


def test_a_job_is_seen_waiting_starting_developing_and_done(served: Kiln) -> None:
    told, end = watch(served, num_inference_steps=60, lane="interactive")
    kinds = [event for event, _ in told]
    order = ["queued", "running", "stage", "progress", "preview", "image", "succeeded"]
    assert set(kinds) == set(order)
    assert sorted(order, key=kinds.index) == order, "each begins before the next"
    stages = [data["stage"] for event, data in told if event == "stage"]
    assert stages == STAGES[-len(stages) :], "all but those that began before the stream did"

    done = [data["progress"]["done"] for event, data in told if event == "progress"]
    assert done == sorted(done)
    assert done[-1] == 60
    kind, _, picture = next(data for event, data in told if event == "preview")["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (32, 32)
    assert end["status"] == "succeeded"
    assert httpx2.get(next(data for event, data in told if event == "image")["image"]["url"]).status_code == 200


def test_of_a_batch_lanes_job_no_previews_are_made(served: Kiln) -> None:
    told, _ = watch(served, num_inference_steps=20, lane="batch")
    kinds = {event for event, _ in told}
    assert "progress" in kinds
    assert "preview" not in kinds


def watch(kiln: Kiln, **asked: Any) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, Any]]:
    """All frames of a new job, and what the last of them says."""
    job = kiln.post(**asked)
    with httpx2.stream("GET", job["urls"]["events"], timeout=60) as answer:
        told = [(frame.event, frame.data) for frame in Listener(answer).frames()]
    assert {data["job_id"] for _, data in told} == {job["id"]}
    return told, told[-1][1]
