"""Bad input: each gets the named error and leaves no row, message or object."""

from typing import Any

import pytest

from tests.api.conftest import Api

GOOD: dict[str, Any] = {"prompt": "a red apple"}


def with_field(name: str, value: object) -> dict[str, Any]:
    return GOOD | {name: value}


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({}, "/prompt", "is required"),
        (with_field("prompt", ""), "/prompt", "must not be empty"),
        (with_field("prompt", " \n "), "/prompt", "must not be empty"),
        (with_field("prompt", "x" * 2001), "/prompt", "at most 2000 characters"),
        (with_field("prompt", None), "/prompt", "a valid string"),
        (with_field("prompt", "a\x00b"), "/prompt", "U+0000"),
        (with_field("prompt", "a\x1bb"), "/prompt", "U+001B"),
        (with_field("negative_prompt", "x" * 2001), "/negative_prompt", "at most 2000 characters"),
        (with_field("width", 500), "/width", "divisible by 8"),
        (with_field("width", 8192), "/width", "from 64 to 1024"),
        (with_field("height", 0), "/height", "from 64 to 1024"),
        (with_field("width", "512"), "/width", "integer"),
        (with_field("width", True), "/width", "integer"),
        (with_field("num_inference_steps", 0), "/num_inference_steps", "from 1 to 500"),
        (with_field("num_inference_steps", 501), "/num_inference_steps", "from 1 to 500"),
        (with_field("guidance_scale", -1), "/guidance_scale", "from 0 to 30"),
        (with_field("style", "baroque"), "/style", "gogh, surrealistic, cinematic, anime"),
        (with_field("scheduler", "euler"), "/scheduler", "lms_discrete, heun_discrete, dpm_solver_multistep"),
        (with_field("model", "sdxl"), "/model", "sd-v1-4, demo"),
        (with_field("output_format", "gif"), "/output_format", "png, webp, jpeg"),
        (with_field("lane", "fast"), "/lane", "interactive, batch"),
        (with_field("seed", -1), "/seed", "from 0"),
        (with_field("seed", 2**32), "/seed", "from 0"),
        (with_field("num_images", 9), "/num_images", "from 1 to 8"),
        (with_field("keep_best", 2), "/keep_best", "from 1 to 1"),
        (with_field("priority", 1001), "/priority", "from -1000 to 1000"),
        (with_field("deadline", "2001-01-01T00:00:00Z"), "/deadline", "in the future"),
        (with_field("deadline", "2101-01-01T00:00:00"), "/deadline", "offset"),
        (with_field("not_before", "0001-01-01T00:00:00+14:00"), "/not_before", "years 1 to 9999"),
        (with_field("deadline", "9999-12-31T23:59:59-14:00"), "/deadline", "years 1 to 9999"),
        (with_field("metadata", {str(n): "x" for n in range(17)}), "/metadata", "at most 16 pairs"),
        (with_field("metadata", {"a/b": "x\x00"}), "/metadata/a~1b", "U+0000"),
        (with_field("widht", 512), "/widht", "is not a field"),
    ],
)
def test_a_field_that_is_wrong_is_named(api: Api, body: dict[str, Any], pointer: str, says: str) -> None:
    with api.nothing_changes():
        answer = api.post("/v1/jobs", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["pointer"] == pointer
    assert says in problem["errors"][0]["detail"]
    assert problem["error"]["param"] == pointer[1:]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    answer = api.post("/v1/jobs", json=GOOD | {"width": 500, "num_inference_steps": 0, "style": "x"})
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/width", "/num_inference_steps", "/style"}


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"not json", 400, "not valid JSON"),
        (b"[1, 2]", 400, "body"),
        (b'"text"', 400, "body"),
        (b"", 422, "required"),
        (b'{"prompt": "a", "guidance_scale": NaN}', 422, "guidance_scale"),
        (b'{"prompt": "a", "guidance_scale": 1e400}', 422, "guidance_scale"),
        (b'{"prompt": "a", "width": 1' + b"0" * 5000 + b"}", 400, "JSON"),
        (b'{"prompt": "a \\ud800 b"}', 422, "prompt"),
        (b'{"prompt": "a", "metadata": {"\\ud800": "\\f"}}', 422, "U+D800"),
        (b'{"prompt": "", "metadata": {"\\ud800": "\\f"}}', 422, "must not be empty"),
        (b'{"prompt": "a", "\\ud800": 1}', 400, "lone surrogates"),
        (b'{"prompt": "\xff"}', 400, "JSON"),
        (b'{"prompt": "' + b"x" * (2 << 20) + b'"}', 413, "1048576 bytes"),
        (b"[" * 1_000, 400, "JSON"),
        (b"[" * 100_000, 413, "values"),  # counted before anybody parses it
    ],
)
def test_a_body_that_cannot_be_read_is_refused(api: Api, content: bytes, status: int, says: str) -> None:
    with api.nothing_changes():
        answer = api.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/cancel", "/v1/jobs/{}/retry", "/v1/images/{}/content"])
@pytest.mark.parametrize("key", ["job_" + "0" * 32, "img_" + "0" * 32, "job_xyz", "42", "job_" + "A" * 32, "%00"])
def test_an_unknown_or_malformed_id_is_404(api: Api, path: str, key: str) -> None:
    method = "POST" if path.endswith(("cancel", "retry")) else "GET"
    with api.nothing_changes():
        answer = api.request(method, path.format(key))
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=done", "after=x", "batch_id=job_1"])
def test_a_query_that_is_wrong_is_refused(api: Api, query: str) -> None:
    answer = api.get(f"/v1/jobs?{query}")
    assert answer.status_code in (404, 422), answer.text
    assert query.split("=")[0] in answer.text or "id of this kind" in answer.text


def test_an_unknown_path_or_method_is_a_problem_too(api: Api) -> None:
    assert api.get("/v1/nothing").json()["status"] == 404
    assert api.request("PUT", "/v1/jobs").json()["status"] == 405


def test_a_body_that_does_not_say_its_kind_and_a_forms_are_refused(api: Api) -> None:
    for path in ("/v1/jobs", "/v1/batches", "/v1/files", "/v1/images/generations"):
        for kind in (None, "text/plain", "application/x-www-form-urlencoded"):
            sent = {"Content-Type": kind} if kind else {}
            with api.nothing_changes():
                answer = api.post(path, content=b'{"prompt": "a"}', headers=sent)
            assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unknown_media_type"), (path, kind)
