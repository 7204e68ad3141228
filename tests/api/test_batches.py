"""Batches over HTTP: all jobs or none, in their order; and steered as one."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from common.db import transaction
from common.errors import NotNow, NumericalError
from common.ids import parse_id
from common.jobs import lease
from common.jobs.steer import steer_on
from common.jobs.window import DAYS, Window
from common.jobs.workers import record_worker
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, cancel_requested, claim, claimed, let_deadlines_pass, submit
from tests.processes import wait_for

APPLES = {"name": "apples", "matrix": {"prompts": ["a red apple", "a green apple"], "styles": ["anime", "comic"]}}
NDJSON = {"Content-Type": "application/x-ndjson"}
CSV = {"Content-Type": "text/csv; charset=utf-8"}


def inputs(api: Api, batch: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    """The named inputs of the batch's jobs, in the order in which they were asked for."""
    jobs = api.get("/v1/jobs", params={"batch_id": batch["id"], "limit": 100}).json()["data"]
    return [tuple(job["input"].get(name, job.get(name)) for name in names) for job in reversed(jobs)]


def rejected(api: Api, **sent: Any) -> dict[str, str]:
    """What the 422 says of each field; nothing was stored."""
    with api.nothing_changes():
        answer = api.post("/v1/batches", **sent)
    assert answer.status_code == 422, answer.text
    assert api.get("/v1/batches").json()["data"] == []
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


def test_a_matrix_becomes_a_job_for_each_combination_in_its_order(api: Api) -> None:
    answer = api.post("/v1/batches", json=APPLES | {"metadata": {"night": "1"}, "defaults": {"seed": 7}})
    assert answer.status_code == 202
    batch = answer.json()
    assert answer.headers["Location"].endswith(f"/v1/batches/{batch['id']}")
    assert (batch["name"], batch["status"], batch["lane"], batch["metadata"]) == (
        "apples",
        "queued",
        "batch",
        {"night": "1"},
    )
    assert batch["counts"] == {"queued": 4, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0, "expired": 0}
    assert inputs(api, batch, "prompt", "style", "seed", "lane") == [
        (prompt, style, 7, "batch") for prompt in ("a red apple", "a green apple") for style in ("anime", "comic")
    ]


def test_the_seeds_of_a_prompt_are_the_same_in_all_styles(api: Api) -> None:
    """A style that looks better because its seed was."""
    matrix = APPLES["matrix"] | {"seeds_per_prompt": 3}  # type: ignore[operator]
    jobs = inputs(api, api.post("/v1/batches", json={"matrix": matrix}).json(), "prompt", "style", "seed")
    seeds = {(prompt, style): [seed for p, s, seed in jobs if (p, s) == (prompt, style)] for prompt, style, _ in jobs}
    assert len(seeds) == 4
    for prompt in matrix["prompts"]:
        assert seeds[prompt, "anime"] == seeds[prompt, "comic"]
        assert len(set(seeds[prompt, "anime"])) == 3


def test_lines_of_ndjson_become_jobs_with_names_of_the_clients_own(api: Api) -> None:
    lines = [{"prompt": "a cat", "seed": 1, "custom_id": "one"}, {"prompt": "a dog", "metadata": {"a": "b"}}]
    body = "\n".join(map(json.dumps, lines)) + "\n\n"
    batch = api.post("/v1/batches?name=pets&lane=interactive", content=body, headers=NDJSON).json()
    assert (batch["name"], batch["lane"]) == ("pets", "interactive")
    assert inputs(api, batch, "prompt", "custom_id", "metadata") == [("a cat", "one", {}), ("a dog", None, {"a": "b"})]


def test_rows_of_csv_become_jobs_with_each_cell_read_as_its_field_is(api: Api) -> None:
    body = '\ufeffprompt,style,seed,guidance_scale,enhance\r\n"a cat, asleep",anime,5,3.5,false\r\na dog,,,,\r\n'
    batch = api.post("/v1/batches", content=body.encode(), headers=CSV).json()
    first, second = inputs(api, batch, "prompt", "style", "seed", "guidance_scale", "enhance")
    assert first == ("a cat, asleep", "anime", 5, 3.5, False)
    assert second[:2] == ("a dog", "cinematic")


def test_a_line_becomes_a_job_for_every_style_and_seed_of_the_query(api: Api) -> None:
    query = {"styles": ["anime", "comic"], "seeds_per_line": 2}
    batch = api.post("/v1/batches", params=query, content=b"prompt\na cat\na dog\n", headers=CSV).json()
    jobs = inputs(api, batch, "prompt", "style", "seed")
    assert [job[:2] for job in jobs] == [(p, s) for p in ("a cat", "a dog") for s in ("anime", "comic") for _ in "12"]
    seeds = [job[2] for job in jobs]
    assert seeds[0:2] == seeds[2:4] != seeds[4:6] == seeds[6:8]


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ({"prompt": "a", "style": "gogh"}, "/lines/1/style"),
        ({"prompt": "a", "custom_id": "mine"}, "/lines/1/custom_id"),
        ({"prompt": "a"}, "/styles/1"),
    ],
)
def test_what_a_line_says_against_the_query_is_refused(api: Api, line: dict[str, str], pointer: str) -> None:
    sent = json.dumps(line).encode()
    assert set(rejected(api, params={"styles": ["anime", "baroque"]}, content=sent, headers=NDJSON)) == {pointer}


@pytest.mark.parametrize(
    ("body", "headers", "pointer", "says"),
    [
        (b'{"prompt": "a cat"}\n{"prompt": "a cat", "style": "baroque"}', NDJSON, "/lines/2/style", "gogh"),
        (b'{"prompt": "a cat"}\n{"prompt": ', NDJSON, "/lines/2", "JSON"),
        (b'{"prompt": "a cat", "widht": 8}', NDJSON, "/lines/1/widht", "is not a field"),
        (b'{"prompt": "a cat", "deadline": "2099-01-01T00:00:00Z"}', NDJSON, "/lines/1/deadline", "the whole batch"),
        (
            b'{"prompt": "a", "custom_id": "x"}\n{"prompt": "b", "custom_id": "x"}',
            NDJSON,
            "/lines/2/custom_id",
            "another",
        ),
        (b"prompt,style\n" + b"a cat,anime\n" * 15 + b"a cat,baroque\n", CSV, "/lines/17/style", "gogh"),
        (b"style,seed\nanime,1\n", CSV, "/lines/1", "no column prompt"),
        (b"prompt,stile\na cat,anime\n", CSV, "/lines/1", "stile"),
        (b"prompt,seed\na cat,one\n", CSV, "/lines/2/seed", "integer"),
        (b"prompt,seed\na cat,1,2\n", CSV, "/lines/2", "2 values"),
        (b'prompt\n"a cat', CSV, "/lines/2", "is not CSV"),
        (b"", CSV, "/lines/1", "is empty"),
        (b"prompt,num_images,keep_best\na cat,2,2\na dog,2,3\n", CSV, "/lines/3/keep_best", "from 1 to 2"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_field(
    api: Api, body: bytes, headers: dict[str, str], pointer: str, says: str
) -> None:
    found = rejected(api, content=body, headers=headers)
    assert says in found[pointer]


@pytest.mark.parametrize(
    ("changes", "pointer", "says"),
    [
        ({"matrix": {"prompts": []}}, "/matrix/prompts", "at least 1"),
        ({"matrix": {"prompts": ["a", " "]}}, "/matrix/prompts/1", "must not be empty"),
        ({"matrix": {"prompts": ["a"], "styles": ["anime", "baroque"]}}, "/matrix/styles/1", "gogh"),
        ({"matrix": {"prompts": ["a"], "steps": [20, 0]}}, "/matrix/steps/1", "from 1 to 500"),
        ({"matrix": {"prompts": ["a"], "seeds": [1], "seeds_per_prompt": 2}}, "/matrix/seeds_per_prompt", "together"),
        ({"matrix": {"prompts": ["a"], "sizes": [8]}}, "/matrix/sizes", "is not a field"),
        ({"defaults": {"width": 500}}, "/defaults/width", "divisible by 8"),
        ({"defaults": {"lane": "batch"}}, "/defaults/lane", "the whole batch"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "/deadline", "in the future"),
        ({"name": "x" * 201}, "/name", "at most 200"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "/metadata", "at most 16 pairs"),
    ],
)
def test_a_bad_matrix_is_named_by_its_field(api: Api, changes: dict[str, Any], pointer: str, says: str) -> None:
    found = rejected(api, json=APPLES | changes)
    assert says in found[pointer]


def test_an_empty_body_and_one_of_another_kind_are_refused(api: Api) -> None:
    assert "no jobs" in api.post("/v1/batches", content=b"", headers=NDJSON).json()["detail"]
    assert api.post("/v1/batches", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert api.post("/v1/batches", content=b"a: b", headers={"Content-Type": "text/yaml"}).status_code == 415
    assert api.post("/v1/batches", content=b"\xff", headers=CSV).status_code == 400
    assert api.rows() == 0


def test_the_options_of_json_stand_in_the_body(api: Api) -> None:
    """?dry_run=true overlooked, and a thousand jobs queued."""
    assert set(rejected(api, params={"dry_run": "true"}, json=APPLES)) == {"/dry_run"}


def test_a_dry_run_says_what_the_batch_would_be_and_stores_nothing(api: Api) -> None:
    record_worker(
        api.engine, "w", state="ready", models=["demo"], device="cpu", seats=1, figures={}, evaluations_per_second=10.0
    )
    with api.nothing_changes():
        answer = api.post("/v1/batches", json=APPLES | {"dry_run": True, "defaults": {"num_inference_steps": 20}})
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "estimate", "jobs": 4, "images": 4, "evaluations": 80, "seconds": 8.0, "bytes": None,
    }  # fmt: skip
    assert api.get("/v1/batches").json()["data"] == []


def test_a_batch_is_wanted_once_under_one_idempotency_key(api: Api) -> None:
    first, second = (api.post("/v1/batches", json=APPLES, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.json()["id"] == second.json()["id"]
    assert api.rows() == 4
    other = api.post("/v1/batches", json=APPLES | {"name": "pears"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    assert api.rows() == 4


def test_a_batch_that_is_sent_again_after_its_deadline_is_the_same_batch(api: Api) -> None:
    """A client that lost its answer, and is told in the morning that what it queued cannot be queued."""
    sent = APPLES | {"deadline": (datetime.now(UTC) + timedelta(seconds=5)).isoformat()}
    options = {"deadline": sent["deadline"]}

    def send() -> list[Any]:
        matrix = api.post("/v1/batches", json=sent, headers={"Idempotency-Key": "matrix"})
        lines = {"params": options, "content": b"prompt\na cat\n", "headers": CSV | {"Idempotency-Key": "lines"}}
        return [matrix, api.post("/v1/batches", **lines)]

    first = send()
    assert [answer.status_code for answer in first] == [202, 202], first[0].text + first[1].text
    wait_for("the deadline", lambda: api.post("/v1/batches", json=sent).status_code == 422)
    rows = api.rows()
    again = send()
    assert [answer.status_code for answer in again] == [202, 202], again[0].text + again[1].text
    assert [answer.json()["id"] for answer in again] == [answer.json()["id"] for answer in first]
    assert {answer.headers["Idempotency-Replayed"] for answer in again} == {"true"}
    assert api.rows() == rows
    other = api.post("/v1/batches", json=sent | {"name": "pears"}, headers={"Idempotency-Key": "matrix"})
    assert (other.status_code, "used before" in other.json()["detail"]) == (422, True)
    assert api.post("/v1/batches", json=sent, headers={"Idempotency-Key": "new"}).status_code == 422
    assert api.rows() == rows


def test_a_batch_wakes_a_handful_of_seats(api: Api) -> None:
    """Ten thousand messages, which take longer than the commit."""
    api.post("/v1/batches", json={"matrix": {"prompts": ["a"], "seeds_per_prompt": 1000}})
    assert api.rows() == 1000
    assert 1 <= api.messages() <= 16


def test_jobs_of_a_small_batch_go_among_those_of_a_large_one(api: Api) -> None:
    """Ten pictures that wait for somebody else's ten thousand."""
    api.post("/v1/batches", json={"matrix": {"prompts": ["a"], "seeds_per_prompt": 10_000}}).raise_for_status()
    for number in range(50):  # the night has begun when bob comes
        claimed(api.engine, f"ann{number}")
    small = [submit(api.engine, "bob", lane="batch") for _ in range(10)]
    taken = [claimed(api.engine, f"w{n}").job_id for n in range(20)]
    assert set(small) <= set(taken)


def test_a_paused_batch_waits_until_it_is_resumed(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES).json()
    running = claimed(api.engine)
    assert api.post(f"/v1/batches/{batch['id']}/pause").json()["status"] == "paused"
    assert claim(api.engine) is None
    lease.retry(api.engine, running, NumericalError("x"), max_failures=4)
    assert claim(api.engine) is None, "a job that tries again does not wait for the others"
    resumed = api.post(f"/v1/batches/{batch['id']}/resume").json()
    assert (resumed["status"], resumed["paused_at"]) == ("running", None)
    assert {claimed(api.engine, f"w{n}").attempt for n in range(4)} == {1, 2}


def test_jobs_of_a_window_that_is_open_run_until_it_closes_and_again_when_it_opens(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES | {"window": window(-1, 1)}).json()
    assert (api.messages() > 0, batch["opens_at"]) == (True, None)
    running = claimed(api.engine)
    assert steer_on(api.engine) == 0
    opens = let_window_close(api, batch)
    assert steer_on(api.engine) == 1
    assert claim(api.engine) is None
    with pytest.raises(NotNow):
        cancel_requested(api.engine, running)
    lease.park(api.engine, running)
    (shown,) = {job["input"]["not_before"] for job in api.get(f"/v1/jobs?batch_id={batch['id']}").json()["data"]}
    assert datetime.fromisoformat(shown) == opens
    closes = datetime.fromisoformat(api.get(f"/v1/batches/{batch['id']}").json()["closes_at"])
    assert closes - opens == timedelta(hours=1)


def test_jobs_of_a_window_that_is_closed_wait_for_it_also_after_a_pause(api: Api) -> None:
    """A batch that is resumed at noon, and runs at noon."""
    batch = api.post("/v1/batches", json=APPLES | {"window": window(2, 3)}).json()
    assert (claim(api.engine), api.messages()) == (None, 0)
    opens, closes = (datetime.fromisoformat(batch[name]) for name in ("opens_at", "closes_at"))
    assert (opens > datetime.now(UTC), closes - opens) == (True, timedelta(hours=1))
    for call in ("pause", "resume"):
        api.post(f"/v1/batches/{batch['id']}/{call}")
    assert (claim(api.engine), api.messages()) == (None, 0)


def test_a_batch_that_is_over_is_looked_at_no_more(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES | {"window": window(-1, 1)}).json()
    for number in range(4):
        lease.succeed(api.engine, claimed(api.engine, f"w{number}"), [PICTURE], recipe={}, timings={})
    let_window_close(api, batch)
    assert [steer_on(api.engine) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize(
    ("wrong", "pointer", "says"),
    [
        ({"start": "22:00", "end": "22:00"}, "/window/end", "the start"),
        ({"start": "25:00", "end": "06:00"}, "/window/start", "HH:MM"),
        ({"start": "2200", "end": "06:00"}, "/window/start", "HH:MM"),
        ({"start": "22:00", "end": "06:00", "tz": "Europe/Atlantis"}, "/window/tz", "IANA"),
        ({"start": "22:00", "end": "06:00", "tz": "../../etc/passwd"}, "/window/tz", "IANA"),
        ({"start": "22:00", "end": "06:00", "days": ["mon", "noday"]}, "/window/days", "sun"),
        ({"start": "22:00"}, "/window/end", "is required"),
    ],
)
def test_a_window_that_is_none_is_refused_by_its_field(
    api: Api, wrong: dict[str, Any], pointer: str, says: str
) -> None:
    assert says in rejected(api, json=APPLES | {"window": wrong})[pointer]


def test_lines_say_their_window_in_the_query(api: Api) -> None:
    query = {"window": "22:00-06:00", "tz": "Europe/Berlin", "days": ["fri", "sat"]}
    batch = api.post("/v1/batches", params=query, content=b"prompt\na cat\n", headers=CSV).json()
    assert batch["window"] == {"start": "22:00", "end": "06:00", "tz": "Europe/Berlin", "days": ["fri", "sat"]}
    api.empty()
    for wrong in ("22:00", "22:00-22:00", "22:00-24:00"):
        assert set(rejected(api, params={"window": wrong}, content=b"prompt\na cat\n", headers=CSV)) == {"/window"}


@pytest.mark.parametrize(
    ("options", "pointer", "says"),
    [
        ({"window": "22:00-06:00", "tz": "Europe/Atlantis"}, "/tz", "IANA"),
        ({"window": "22:00-06:00", "days": "noday"}, "/days", "sun"),
        ({"tz": "Europe/Berlin"}, "/tz", "there is none"),
        ({"days": "mon"}, "/days", "there is none"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "/deadline", "in the future"),
        ({"deadline": "tomorrow"}, "/deadline", "RFC 3339"),
        ({"keep_best": 2}, "/keep_best", "at most 1"),
        ({"seeds_per_line": 2, "keep_best": 3}, "/keep_best", "at most 2"),
        ({"lane": "fast"}, "/lane", "'interactive' or 'batch'"),
    ],
)
def test_an_option_of_lines_that_is_wrong_is_named(api: Api, options: dict[str, Any], pointer: str, says: str) -> None:
    assert says in rejected(api, params=options, content=b"prompt\na cat\n", headers=CSV)[pointer]


def window(*hours: int) -> dict[str, str]:
    """From and until so many hours from now."""
    start, end = (f"{datetime.now(UTC) + timedelta(hours=each):%H:%M}" for each in hours)
    return {"start": start, "end": end}


def let_window_close(api: Api, batch: dict[str, Any]) -> datetime:
    """What the clocks do meanwhile: it is now two hours before the window opens. When that is, is returned."""
    later = Window.from_json(window(2, 3) | {"tz": "UTC", "days": DAYS})
    closed = text('UPDATE batches SET "window" = :window, closes_at = clock_timestamp() WHERE id = :id')
    with transaction(api.engine) as connection:
        connection.execute(closed, {"window": json.dumps(later.to_json()), "id": parse_id("batch", batch["id"])})
    return later.span(datetime.now(UTC)).opens


def test_cancel_ends_what_waits_and_asks_what_runs(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES).json()
    running = claimed(api.engine)
    canceled = api.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert canceled["status"] == "canceled"
    assert canceled["counts"]["canceled"] == 3
    assert cancel_requested(api.engine, running)
    for call in ("pause", "resume", "cancel"):
        assert api.post(f"/v1/batches/{batch['id']}/{call}").json()["status"] == "canceled"
    assert api.post(f"/v1/batches/{batch['id']}/retry-failed").status_code == 409


def test_a_batch_that_is_over_can_be_deleted_and_its_like_made_again(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    batch = api.post("/v1/batches", json=APPLES, headers=key).json()
    place = f"/v1/batches/{batch['id']}"
    assert api.request("DELETE", place).status_code == 409
    api.post(f"{place}/cancel")
    assert [api.request("DELETE", place).status_code for _ in range(2)] == [204, 404]
    assert api.get(place).status_code == 404
    assert api.get("/v1/batches").json()["data"] == []
    again = api.post("/v1/batches", json=APPLES, headers=key)
    assert (again.status_code, again.json()["id"] != batch["id"]) == (202, True)


def test_what_failed_is_tried_again_once_in_the_same_batch(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES | {"deadline": "2099-01-01T00:00:00Z"}).json()
    failed = claimed(api.engine)
    lease.fail(api.engine, failed, NumericalError("black"))
    for _ in range(2):
        again = api.post(f"/v1/batches/{batch['id']}/retry-failed").json()
        assert (again["counts"]["failed"], again["counts"]["queued"]) == (1, 4)
    new = api.get("/v1/jobs", params={"batch_id": batch["id"]}).json()["data"][0]
    assert new["retried_from"] == f"job_{failed.job_id.hex}"
    assert new["input"]["seed"] == failed.spec.seed


def test_a_batch_is_completed_when_all_its_jobs_are_over(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES | {"deadline": "2099-01-01T00:00:00Z"}).json()
    done = claimed(api.engine)
    lease.succeed(api.engine, done, [PICTURE], recipe={}, timings={})
    running = api.get(f"/v1/batches/{batch['id']}").json()
    assert (running["status"], running["finished_at"]) == ("running", None)
    assert running["progress"]["percent"] == 25
    let_deadlines_pass(api.engine)
    with transaction(api.engine) as connection:
        connection.execute(
            text("UPDATE jobs SET status = 'expired', finished_at = clock_timestamp() WHERE status = 'queued'")
        )
    over = api.get(f"/v1/batches/{batch['id']}").json()
    assert (over["status"], over["counts"]["succeeded"], over["counts"]["expired"]) == ("completed", 1, 3)
    assert over["started_at"] < over["finished_at"]


def test_results_are_the_jobs_that_are_over_in_their_order(api: Api) -> None:
    batch = api.post("/v1/batches", json=APPLES).json()
    for number in range(3):
        held = claimed(api.engine, f"w{number}")
        if number < 2:
            lease.succeed(api.engine, held, [PICTURE], recipe={}, timings={})
    answer = api.get(f"/v1/batches/{batch['id']}/results")
    assert answer.headers["content-type"] == "application/x-ndjson"
    jobs = [json.loads(line) for line in answer.text.splitlines()]
    assert [job["status"] for job in jobs] == ["succeeded"] * 2
    assert [job["input"]["style"] for job in jobs] == ["anime", "comic"]
    assert all("X-Amz-Signature" in job["images"][0]["url"] for job in jobs)


def test_a_batch_beyond_a_limit_is_refused_whole(api: Api) -> None:
    matrix = {"prompts": ["a"], "seeds_per_prompt": 100_001}
    assert set(rejected(api, json={"matrix": matrix})) == {"/matrix/seeds_per_prompt"}
    submit(api.engine, "local")
    with api.nothing_changes():
        answer = api.post("/v1/batches", json={"matrix": matrix | {"seeds_per_prompt": 100_000}})
    assert answer.status_code == 429
    assert "100000 may wait" in answer.json()["detail"]
