"""Pictures through OpenAI's client: what it asks for, what it cannot, and one job however often it asks again."""

import base64
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import openai as package
import pytest
from openai import OpenAI
from PIL import Image

from common.errors import NumericalError
from common.jobs import lease
from tests.api.conftest import Api
from tests.api.sdk import RETRY, asking, connect, paint, taken
from tests.deployment import Kiln

SMALL: dict[str, Any] = {"size": "64x64", "extra_body": {"num_inference_steps": 2}}


@pytest.fixture
def openai(served: Kiln) -> Iterator[OpenAI]:
    """A client of a Kiln that has a worker."""
    with connect(served.url) as client:
        yield client


@pytest.fixture
def client(api: Api) -> Iterator[OpenAI]:
    """A client of a Kiln whose jobs wait until the test ends them."""
    with connect(api.base_url) as client:
        yield client


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_pictures_come_as_bytes_with_the_prompt_they_were_painted_from(openai: OpenAI, served: Kiln) -> None:
    extras = {
        "num_inference_steps": 2,
        "seed": 7,
        "style": "anime",
        "scheduler": "heun_discrete",
        "negative_prompt": "",
    }
    answer: Any = openai.images.generate(
        prompt="a red apple", n=2, size="64x72", model="demo", output_format="webp", user="ann", extra_body=extras
    )
    for picture in answer.data:
        image = opened(base64.b64decode(picture.b64_json))
        assert (image.format, image.size, picture.url) == ("WEBP", (64, 72), None)
    assert (answer.size, answer.output_format, answer.background, answer.usage) == ("64x72", "webp", "opaque", None)
    job = served.job(answer.job_id)
    assert [picture.revised_prompt for picture in answer.data] == [job["enhanced_prompt"]] * 2
    assert job["enhanced_prompt"].startswith(job["styled_prompt"])
    assert {name: job["input"][name] for name in extras} == extras
    assert job["metadata"] == {"user": "ann"}
    assert answer.created == int(datetime.fromisoformat(job["finished_at"]).timestamp())


def test_a_url_opens_the_picture(openai: OpenAI) -> None:
    answer: Any = openai.images.generate(prompt="a blue door", response_format="url", **SMALL)
    (picture,) = answer.data
    assert picture.b64_json is None
    assert opened(httpx2.get(picture.url).content).size == (64, 64)


def test_parameters_that_change_nothing_are_taken(openai: OpenAI) -> None:
    same: dict[str, Any] = {"quality": "auto", "background": "opaque", "moderation": "auto", "partial_images": 0}
    answer = openai.images.generate(prompt="a", n=1, stream=False, **SMALL, **same)
    assert len(answer.data or []) == 1


@pytest.mark.parametrize(
    ("asked", "param", "said"),
    [
        ({"size": "65x64"}, "size", "width must be divisible by 8"),
        ({"size": "64x4096"}, "size", "height must be from 64 to 1024"),
        ({"size": "large"}, "size", "width x height"),
        ({"n": 9}, "n", "from 1 to 8"),
        ({"model": "gpt-image-2"}, "model", "'gpt-image-2' is not known; known: sd-v1-4, demo"),
        ({"style": "vivid"}, "style", "cinematic"),
        ({"output_format": "gif"}, "output_format", "png"),
        ({"quality": "high"}, "quality", "cannot be honoured here: leave it out or say 'auto'"),
        ({"background": "transparent"}, "background", "cannot be honoured"),
        ({"moderation": "low"}, "moderation", "cannot be honoured"),
        ({"output_compression": 50}, "output_compression", "cannot be honoured here: leave it out"),
        ({"extra_body": {"stream": True}}, "stream", "cannot be honoured"),
        ({"extra_body": {"partial_images": 2}}, "partial_images", "cannot be honoured"),
        ({"extra_body": {"frame_count": 3}}, "frame_count", "is not a field of this request"),
        ({"extra_body": {"seed": -1}}, "seed", "from 0"),
        ({"user": "x" * 513}, "user", "at most 512"),
        ({"prompt": ""}, "prompt", "empty"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    api: Api, client: OpenAI, asked: dict[str, Any], param: str, said: str
) -> None:
    with api.nothing_changes(), pytest.raises(package.BadRequestError) as refused:
        client.images.generate(**{"prompt": "a cat"} | asked)
    assert (refused.value.param, refused.value.code) == (param, "invalid_value")
    assert said in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_client_that_times_out_and_asks_again_makes_one_job(api: Api, client: OpenAI) -> None:
    with pytest.raises(package.APITimeoutError):
        client.with_options(timeout=0.5, max_retries=2).images.generate(prompt="a slow one")
    assert api.rows() == 1


def test_the_next_try_waits_on_and_gets_the_picture(openai: OpenAI, served: Kiln) -> None:
    prompt = "a picture that takes longer than its client has patience"
    asked: dict[str, Any] = {"prompt": prompt, "size": "64x64", "extra_body": {"num_inference_steps": 300}}
    with pytest.raises(package.APITimeoutError):
        openai.with_options(timeout=0.5).images.generate(**asked)
    answer: Any = openai.images.generate(**asked, extra_headers=RETRY)
    assert len(answer.data) == 1
    jobs = httpx2.get(f"{served.url}/v1/jobs?limit=100", timeout=60).json()["data"]
    assert [job["id"] for job in jobs if job["input"]["prompt"] == prompt] == [answer.job_id]


def test_a_call_that_was_answered_is_not_the_next_ones(api: Api, client: OpenAI) -> None:
    """Two calls in the same words are two wishes: the second one's retry must not get the first one's picture."""
    answers = []
    with asking(client) as calls:
        paint(api)
    answers.append(calls[0].result().job_id)
    with pytest.raises(package.APITimeoutError):
        client.with_options(timeout=1).images.generate(prompt="a cat", response_format="url")
    with asking(client, extra_headers=RETRY) as calls:
        paint(api)
    answers.append(calls[0].result().job_id)
    assert api.rows() == len(set(answers)) == 2


def test_as_many_clients_as_ask_for_the_same_get_as_many_jobs(api: Api, client: OpenAI) -> None:
    """Threads of one program that want a picture each of one prompt, and time out together."""
    with asking(client.with_options(timeout=1), 3) as calls:
        pass
    assert all(isinstance(call.exception(), package.APITimeoutError) for call in calls)
    with asking(client, 3, extra_headers=RETRY) as calls:
        paint(api, 3)
    assert api.rows() == len({call.result().job_id for call in calls}) == 3


def test_when_the_server_has_waited_long_enough_the_next_try_waits_for_the_same_job(api: Api, client: OpenAI) -> None:
    with pytest.raises(package.APIStatusError) as told:
        client.with_options(max_retries=1).images.generate(prompt="a", extra_headers={"Prefer": "wait=0"})
    assert (told.value.status_code, told.value.code) == (408, "still_running")
    assert "x-should-retry" not in told.value.response.headers
    assert "job_" in told.value.message
    assert api.rows() == 1


def test_an_idempotency_key_names_a_call_for_good(api: Api, client: OpenAI) -> None:
    headers = {"Prefer": "wait=0", "Idempotency-Key": "mine"}
    for _ in range(2):
        with pytest.raises(package.APIStatusError, match="goes on"):
            client.images.generate(prompt="a", extra_headers=headers)
    with pytest.raises(package.UnprocessableEntityError):
        client.images.generate(prompt="b", extra_headers=headers)
    assert api.rows() == 1


def test_a_job_that_fails_is_an_error_that_is_not_tried_again(api: Api, client: OpenAI) -> None:
    with asking(client.with_options(max_retries=2)) as (call,):
        lease.fail(api.engine, taken(api), NumericalError("the latents became NaN"))
    told = call.exception()
    assert isinstance(told, package.InternalServerError)
    assert (told.code, told.response.headers["x-should-retry"]) == ("numerical_error", "false")
    assert "NaN" in told.message
    assert api.rows() == 1


def test_a_job_that_is_canceled_is_an_error_that_is_not_tried_again(api: Api, client: OpenAI) -> None:
    with asking(client.with_options(max_retries=2)) as (call,):
        lease.cancel(api.engine, taken(api))
    told = call.exception()
    assert isinstance(told, package.ConflictError)
    assert told.response.headers["x-should-retry"] == "false"
    assert api.rows() == 1
