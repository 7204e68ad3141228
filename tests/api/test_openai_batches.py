"""Files, batches and models through OpenAI's client: lines in, a line of results for each out."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai as package
import pytest
from openai import OpenAI
from PIL import Image
from sqlalchemy import text

from client.api import Kiln
from client.watch import batch_line
from common.db import transaction
from common.errors import NumericalError
from common.jobs import lease
from common.jobs.files import forget_files
from common.jobs.keys import Scope, create_key
from common.settings import Settings
from tests.api.conftest import Api
from tests.api.sdk import RETRY, connect, paint, taken
from tests.deployment import Kiln as Deployment
from tests.jobs.make import let_deadlines_pass
from tests.processes import running_api, wait_for

GENERATIONS = "/v1/images/generations"


@pytest.fixture
def client(api: Api) -> Iterator[OpenAI]:
    """A client of a Kiln whose jobs wait until the test ends them."""
    with connect(api.base_url) as client:
        yield client


def line(number: int, **changes: Any) -> dict[str, Any]:
    body = {"prompt": f"apple {number}", "size": "64x64", "seed": number, "num_inference_steps": 2}
    return {"custom_id": f"line-{number}", "method": "POST", "url": GENERATIONS, "body": body | changes}


def upload(client: OpenAI, *lines: object) -> str:
    content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines) + "\n"
    return client.files.create(file=("lines.jsonl", content.encode()), purpose="batch").id


def order(client: OpenAI, *lines: object, **changes: Any) -> Any:
    asked: Any = {"input_file_id": upload(client, *lines), "endpoint": GENERATIONS, "completion_window": "24h"}
    return client.batches.create(**asked | changes)


def results(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def counts(batch: Any) -> tuple[int, int, int]:
    return (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed)


@pytest.mark.timeout(600)  # seconds on a quiet machine
def test_a_batch_of_fifty_lines_comes_back_as_fifty_pictures(served: Deployment) -> None:
    with connect(served.url) as client:
        lines = [line(number, response_format="url" if number % 2 else "b64_json") for number in range(50)]
        batch = order(client, *lines, metadata={"night": "1"})
        assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", GENERATIONS, "24h")
        assert (batch.metadata, batch.errors, counts(batch)[0]) == ({"night": "1"}, None, 50)
        wait_for("end of the batch", lambda: client.batches.retrieve(batch.id).status == "completed", seconds=400)
        batch = client.batches.retrieve(batch.id)
        assert counts(batch) == (50, 50, 0)
        assert batch.created_at <= batch.in_progress_at <= batch.completed_at <= batch.expires_at
        assert (batch.error_file_id, batch.cancelled_at) == (None, None)
        found = results(client, batch.output_file_id)
        about = client.files.retrieve(batch.output_file_id)
    assert [each["custom_id"] for each in found] == [each["custom_id"] for each in lines]
    assert {(each["error"], each["response"]["status_code"]) for each in found} == {(None, 200)}
    for number in (0, 1, 49):
        (picture,) = found[number]["response"]["body"]["data"]
        data = httpx2.get(picture["url"]).content if number % 2 else base64.b64decode(picture["b64_json"])
        assert Image.open(io.BytesIO(data)).size == (64, 64)
        assert f"apple {number}" in picture["revised_prompt"]
    assert (about.purpose, about.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_what_fails_expires_or_is_cancelled_is_in_the_error_file(api: Api, client: OpenAI) -> None:
    batch = order(client, *map(line, range(4)))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("in_progress", None, None)
    paint(api)
    lease.fail(api.engine, taken(api), NumericalError("the latents became NaN"))
    running = taken(api)
    cancelled = client.batches.cancel(batch.id)
    assert (cancelled.status, counts(cancelled)) == ("cancelling", (4, 1, 2))
    assert cancelled.cancelled_at is None
    lease.cancel(api.engine, running)
    cancelled = client.batches.retrieve(batch.id)
    assert (cancelled.status, counts(cancelled)) == ("cancelled", (4, 1, 3))
    assert cancelled.cancelled_at is not None
    assert cancelled.cancelling_at is not None
    assert cancelled.cancelled_at >= cancelled.cancelling_at
    told = {each["custom_id"]: each["error"]["code"] for each in results(client, cancelled.error_file_id)}
    assert told == {"line-1": "numerical_error", "line-2": "batch_cancelled", "line-3": "batch_cancelled"}


def test_what_has_not_begun_when_the_window_ends_expires(api: Api, client: OpenAI) -> None:
    batch = order(client, line(1), completion_window="2d")
    assert batch.expires_at - batch.created_at == pytest.approx(2 * 86400, abs=60)
    let_deadlines_pass(api.engine)
    with transaction(api.engine) as connection:  # what the sweeper does
        connection.execute(text("UPDATE jobs SET status = 'expired', finished_at = clock_timestamp()"))
    expired = client.batches.retrieve(batch.id)
    assert (expired.status, counts(expired)) == ("expired", (1, 0, 1))
    assert [each["error"]["code"] for each in results(client, expired.error_file_id)] == ["batch_expired"]


@pytest.mark.parametrize(
    ("bad", "param", "said"),
    [
        (line(2, size="65x64"), "lines/2/body/size", "divisible by 8"),
        (line(2, quality="high"), "lines/2/body/quality", "cannot be honoured"),
        (line(2, n=99), "lines/2/body/n", "from 1 to 8"),
        (line(2) | {"url": "/v1/chat/completions"}, "lines/2/url", GENERATIONS),
        (line(2) | {"custom_id": "line-1"}, "lines/2/custom_id", "another job"),
        ({"method": "POST", "url": GENERATIONS, "body": {"prompt": "a"}}, "lines/2/custom_id", "required"),
        ("no JSON", "lines/2", "not valid JSON"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_stored(
    api: Api, client: OpenAI, bad: object, param: str, said: str
) -> None:
    with api.nothing_changes(), pytest.raises(package.BadRequestError) as refused:
        order(client, line(1), bad)
    assert refused.value.param == param
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {"k": "x" * 513}}, "metadata/k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
        ({"extra_query": {"name": "mine"}}, "name"),
    ],
)
def test_an_order_that_cannot_be_honoured_is_refused_by_name(
    api: Api, client: OpenAI, changes: dict[str, Any], param: str
) -> None:
    with api.nothing_changes(), pytest.raises(package.BadRequestError) as refused:
        order(client, line(1), **changes)
    assert refused.value.param == param


def test_a_client_that_asks_for_its_batch_again_gets_the_one_it_made(api: Api, client: OpenAI) -> None:
    file = upload(client, line(1))
    asked: Any = {"input_file_id": file, "endpoint": GENERATIONS, "completion_window": "24h"}
    first = client.batches.create(**asked)
    assert client.batches.create(**asked, extra_headers=RETRY).id == first.id
    assert client.batches.create(**asked).id != first.id
    assert api.rows() == 2


def test_batches_are_listed_each_in_the_shape_it_was_made_in(api: Api, client: OpenAI) -> None:
    ours = api.post("/v1/batches", json={"matrix": {"prompts": ["input_file_id"]}}).json()
    theirs = [order(client, line(number)).id for number in range(2)]
    assert "counts" in ours
    listed = list(client.batches.list(limit=1))
    assert [batch.id for batch in listed] == [*reversed(theirs), ours["id"]]
    assert [batch.endpoint for batch in listed[:2]] == [GENERATIONS] * 2
    assert api.get("/v1/batches").json()["data"][2] == ours
    assert api.post(f"/v1/batches/{theirs[0]}/pause").json()["status"] == "in_progress"


def test_kilns_own_client_watches_such_a_batch(api: Api, client: OpenAI) -> None:
    batch = order(client, line(1), line(2))
    paint(api)
    with Kiln(api.base_url) as kiln:
        assert batch_line(kiln.batch(batch.id)) == "in_progress: 1 queued, 1 succeeded"
        (listed,) = kiln.batches()
        assert (listed["name"], listed["progress"]["percent"]) == ("lines.jsonl", 50.0)
        paint(api)
        assert kiln.wait_batch(batch.id)["status"] == "completed"


def test_a_file_is_kept_listed_read_and_deleted_and_its_batch_stays(api: Api, client: OpenAI) -> None:
    batch = order(client, line(1))
    other = upload(client, line(2), line(3))
    kept = client.files.retrieve(batch.input_file_id)
    assert (kept.filename, kept.purpose, kept.object) == ("lines.jsonl", "batch", "file")
    assert len(client.files.content(kept.id).content) == kept.bytes == len(json.dumps(line(1))) + 1
    assert [file.id for file in client.files.list(limit=1)] == [other, kept.id]
    assert [file.id for file in client.files.list(order="asc", purpose="batch")] == [kept.id, other]
    assert list(client.files.list(purpose="vision")) == []
    assert client.files.delete(kept.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(package.NotFoundError):
            gone(kept.id)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    with pytest.raises(package.NotFoundError):
        order(client, line(1), input_file_id=kept.id)
    paint(api)
    done = client.batches.retrieve(batch.id)
    with pytest.raises(package.ConflictError, match="delete its jobs"):
        client.files.delete(str(done.output_file_id))
    assert forget_files(api.engine, days=1) == 0
    assert forget_files(api.engine, days=1e-9) == 2


def test_an_upload_that_cannot_be_honoured_is_refused_by_name(api: Api, client: OpenAI) -> None:
    for asked, param in (
        ({"purpose": "vision"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3600}}, "expires_after[anchor]"),
        ({"file": ("a\x00b" * 100, b"{}")}, "file"),
    ):
        with pytest.raises(package.BadRequestError) as refused:
            client.files.create(**{"file": ("a", b"{}"), "purpose": "batch"} | asked)  # type: ignore[arg-type]
        assert refused.value.param == param
    assert api.post("/v1/files", json={"purpose": "batch"}).status_code == 415
    assert api.get("/v1/files").json()["data"] == []


def test_models_are_ours_in_both_shapes(api: Api, client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"demo", "sd-v1-4"} <= set(listed)
    shown = client.models.retrieve("demo")
    assert (shown.object, shown.owned_by, shown.created) == ("model", "kiln", 0)
    assert api.get("/v1/models/demo").json() in api.get("/v1/models").json()["data"]
    with pytest.raises(package.NotFoundError, match="known: sd-v1-4, demo"):
        client.models.retrieve("gpt-image-2")


def test_keys_and_owners_are_what_they_are_everywhere(module_settings: Settings, tmp_path: Any) -> None:
    with running_api(module_settings, log=tmp_path / "api.log") as url:
        api = Api(url, module_settings)
        api.objects.ensure_bucket()
        keys = {name: create_key(api.engine, name, [Scope.ADMIN])[0] for name in ("ann", "bob")}
        reader, _ = create_key(api.engine, "ann", [Scope.READ])
        ann, bob = (connect(url, api_key=key) for key in keys.values())
        with pytest.raises(package.AuthenticationError):
            connect(url).models.list()
        with pytest.raises(package.PermissionDeniedError):
            connect(url, api_key=reader).images.generate(prompt="a")
        batch = order(ann, line(1))
        paint(api)
        done = ann.batches.retrieve(batch.id)
        for hers in (batch.input_file_id, str(done.output_file_id), f"errors_{batch.id.removeprefix('batch_')}"):
            for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
                with pytest.raises(package.NotFoundError):
                    call(hers)
        with pytest.raises(package.NotFoundError):
            bob.batches.create(
                input_file_id=batch.input_file_id, endpoint="/v1/images/generations", completion_window="24h"
            )
        with pytest.raises(package.NotFoundError):
            bob.batches.cancel(batch.id)
        assert list(bob.files.list()) == list(bob.batches.list()) == []
        assert ann.files.retrieve(batch.input_file_id).id == batch.input_file_id
        api.close()
