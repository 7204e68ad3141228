"""Hostile bodies and headers at the real server: a job, a batch or a named error; what is refused is not stored."""

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import Api
from tests.hostile import batches, bodies, for_a_while, in_batches

REFUSALS = {400: "malformed_body", 413: "body_too_large", 422: "invalid_request"}
# No blanks: the test's own client sends no header that begins or ends with one
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=300)


def test_a_body_is_a_job_or_a_named_error_and_only_jobs_are_stored(api: Api) -> None:
    taken = []

    @in_batches
    @given(body=bodies(), key=st.none() | KEYS)
    def throw(body: bytes, key: str | None) -> None:
        headers = {"content-type": "application/json"} | ({"idempotency-key": key.encode("latin-1")} if key else {})
        answer = api.post("/v1/jobs", content=body, headers=headers)
        if answer.status_code == 202:
            taken.append(answer.json()["id"])
            assert api.get(f"/v1/jobs/{taken[-1]}").status_code == 200
        else:
            check_refusal(answer)
            problem = answer.json()
            assert problem["errors"] or problem["error"]["code"] != "invalid_request", (body[:500], problem)

    for_a_while(throw)
    assert api.rows() == len(set(taken))
    assert api.objects_stored() == 0


def test_a_batch_is_stored_whole_or_refused_by_a_named_error_and_not_at_all(api: Api) -> None:
    stored = [0]

    @in_batches
    @given(batch=batches())
    def throw(batch: tuple[str, bytes]) -> None:
        kind, body = batch
        answer = api.post("/v1/batches", content=body, headers={"content-type": kind})
        if answer.status_code == 202:
            assert api.get(f"/v1/batches/{answer.json()['id']}").status_code == 200
            assert api.get("/v1/jobs").status_code == 200
            stored.append(api.rows())
            assert stored[-1] > stored[-2]
        else:
            check_refusal(answer)
            assert api.rows() == stored[-1]

    for_a_while(throw)


def check_refusal(answer: httpx2.Response) -> None:
    assert answer.status_code in REFUSALS, (answer.status_code, answer.request.content[:500], answer.text)
    problem = answer.json()
    assert problem["error"]["code"] in (REFUSALS[answer.status_code], "idempotency_key_reused")
    assert problem["detail"]
