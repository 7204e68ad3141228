"""The last stage against a real S3 server: what lies where, with which bytes, and what the rows will say."""

import hashlib
import io
import json
import socket
from dataclasses import replace
from uuid import UUID

import httpx2
import pytest
from PIL import Image

from common.errors import NotFound, StorageError
from common.local.services import Services
from common.objects import Objects
from tests.objects.make import make_objects
from tests.worker.conftest import MakeSpec
from worker.stages.store import object_key, store
from worker.ticket import Rendered, Scored

JOB = UUID("0197f0d0-0000-7000-8000-000000000001")


@pytest.fixture(scope="module")
def objects(services: Services) -> Objects:
    made = make_objects(services, bucket="store-test")
    made.ensure_bucket()
    return made


def test_a_key_is_made_of_job_attempt_and_index() -> None:
    assert object_key(JOB, 2, 3, "png") == "images/0197f0d0000070008000000000000001/2/3.png"


@pytest.mark.parametrize(
    ("output_format", "media"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")]
)
def test_the_bytes_behind_a_row_are_the_picture_its_hash_and_its_type(
    objects: Objects, make_spec: MakeSpec, output_format: str, media: str
) -> None:
    spec = make_spec(output_format=output_format)

    (row,) = store(JOB, 1, spec, rendered(1), scored((0,)), objects.put)

    assert row.key == object_key(JOB, 1, 0, output_format)
    answer = httpx2.get(objects.presign(row.key, 60))
    assert answer.headers["content-type"] == row.content_type == media
    assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (row.bytes, row.sha256)
    picture = Image.open(io.BytesIO(answer.content))
    assert ((picture.format or "").lower(), picture.size) == (output_format, (300, 200))
    assert (row.width, row.height, row.seed, row.clip_score) == (300, 200, 70, 20.0)
    assert row.thumbnail_key is not None
    assert Image.open(io.BytesIO(b"".join(objects.open(row.thumbnail_key)))).size == (256, 171)


def test_each_picture_carries_its_own_seed_and_scores(objects: Objects, make_spec: MakeSpec) -> None:
    rows = store(JOB, 2, make_spec(), rendered(2), scored((0, 1)), objects.put)

    for index, row in enumerate(rows):
        assert row.key is not None
        picture = Image.open(io.BytesIO(b"".join(objects.open(row.key))))
        recipe = json.loads(picture.text["kiln"])  # type: ignore[attr-defined]  # PNG only
        assert recipe["index"] == row.index == index
        assert recipe["image_seed"] == row.seed == 70 + index
        assert (recipe["clip_score"], recipe["final_clip_score"]) == (row.clip_score, 30.0 + index)


def test_a_dropped_picture_has_a_row_with_its_score_and_no_object(objects: Objects, make_spec: MakeSpec) -> None:
    dropped, kept = store(JOB, 3, make_spec(), rendered(2), scored((1,)), objects.put)

    assert (dropped.key, dropped.thumbnail_key, dropped.sha256) == (None, None, None)
    assert (dropped.seed, dropped.clip_score) == (70, 20.0)
    assert kept.key == object_key(JOB, 3, 1, "png")
    for extension in ("png", "thumb.webp"):
        with pytest.raises(NotFound):
            objects.open(object_key(JOB, 3, 0, extension))


def test_a_later_attempt_overwrites_nothing(objects: Objects, make_spec: MakeSpec) -> None:
    (first,) = store(JOB, 4, make_spec(), rendered(1), scored((0,)), objects.put)
    changed = replace(rendered(1), images=(Image.new("RGB", (64, 64), "blue"),))
    store(JOB, 5, make_spec(), changed, scored((0,)), objects.put)

    assert first.key is not None
    assert hashlib.sha256(b"".join(objects.open(first.key))).hexdigest() == first.sha256


def test_a_store_that_is_away_is_an_error_worth_another_try(services: Services, make_spec: MakeSpec) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # never listens: connections are refused
        away = make_objects(services, bucket="store-test", endpoint_url=f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(StorageError) as caught:
            store(JOB, 1, make_spec(), rendered(1), scored((0,)), away.put)

    assert caught.value.retryable


def rendered(count: int) -> Rendered:
    recipe = {
        "enhanced_prompt": "a cat",
        "negative_prompt": "blurry",
        "num_inference_steps": 3,
        "scheduler": "lms_discrete",
        "guidance_scale": 7.5,
        "width": 300,
        "height": 200,
        "model": "demo",
    }
    images = tuple(Image.radial_gradient("L").convert("RGB").resize((300, 200)) for _ in range(count))
    return Rendered(
        images=images, seeds=tuple(70 + index for index in range(count)), recipe=recipe, tiled=(False,) * count
    )


def scored(kept: tuple[int, ...]) -> Scored:
    return Scored(clip_scores=(20.0, 21.0), final_scores=(30.0, 31.0), kept=kept)
