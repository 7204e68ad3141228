"""Hostile input, by the thousand, at whatever reads it without a server: only the named errors ever come out."""

import json

import httpx2
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from api.resolve import resolve
from api.schemas import JobRequest
from client.errors import KilnApiError
from client.transport import api_error
from common.errors import InvalidRequest, NotFound
from common.ids import parse_id, show_id
from common.jobs.spec import JobSpec
from common.jobs.submit import Submission
from common.names import slug
from common.settings import Settings
from tests.hostile import anything, bodies, for_a_while, in_batches, numbers, prompts, requests
from tests.unit.test_recipe import make_recipe, read
from worker.picture import encode

SETTINGS = Settings.model_validate(
    {
        "database_url": "postgresql://nowhere",
        "broker_url": "redis://nowhere",
        "s3_endpoint_url": "http://nowhere",
        "s3_access_key": "a",
        "s3_secret_key": "b",
    }
)
PICTURE = Image.new("RGB", (8, 8), "orange")


def test_a_request_becomes_a_job_that_can_be_stored_or_an_error_that_names_its_field() -> None:
    @in_batches
    @given(sent=requests())
    def throw(sent: dict[str, object]) -> None:
        if submission := accepted(sent):
            stored = json.dumps(submission.spec.to_json())
            assert "\\u0000" not in stored, "PostgreSQL has no NUL"
            assert JobSpec.from_json(json.loads(stored)) == submission.spec
            str(submission.metadata).encode()

    for_a_while(throw)


def test_the_prompt_of_every_job_that_was_accepted_can_be_read_from_its_picture() -> None:
    @in_batches
    @given(prompt=prompts, negative=prompts)
    def throw(prompt: str, negative: str) -> None:
        if submission := accepted({"prompt": prompt, "negative_prompt": negative}):
            told, unwanted = submission.spec.prompt, submission.spec.negative_prompt
            recipe = make_recipe(prompt=told, enhanced_prompt=told, negative_prompt=unwanted)
            parameters, whole = read(encode(PICTURE, "png", recipe))
            assert json.loads(whole) == recipe
            assert parameters.startswith(f"{told}\n")

    for_a_while(throw)


def accepted(sent: dict[str, object]) -> Submission | None:
    """The job, or None where the request is refused as it ought to be."""
    try:
        return resolve(JobRequest.model_validate(sent), SETTINGS, owner="ann", idempotency_key="k")
    except InvalidRequest as refused:
        check(refused)
    except ValidationError:
        pass
    return None


def check(refused: InvalidRequest) -> None:
    assert refused.errors
    assert all(error.pointer.startswith("/") and error.detail for error in refused.errors)


def test_no_text_is_an_id_but_those_we_show() -> None:
    @in_batches
    @given(text=anything | st.from_regex(r"job_[0-9a-fA-F\-\d]{30,34}"))
    def throw(text: str) -> None:
        try:
            parsed = parse_id("job", text)
        except NotFound:
            return
        assert show_id("job", parsed) == text

    for_a_while(throw)


def test_the_client_tells_whatever_answers_it_as_an_error_of_the_api() -> None:
    @in_batches
    @given(status=st.integers(300, 599), body=bodies(), pause=anything | numbers.map(str), prompt=anything)
    def throw(status: int, body: bytes, pause: str, prompt: str) -> None:
        request = httpx2.Request("GET", "http://127.0.0.1/v1/jobs?key=secret")
        headers = [(b"Retry-After", pause.encode(errors="replace"))]
        error = api_error(httpx2.Response(status, content=body, headers=headers, request=request))
        assert isinstance(error, KilnApiError)
        assert str(error)
        assert "secret" not in str(error)
        assert set(slug(prompt)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")

    for_a_while(throw)
