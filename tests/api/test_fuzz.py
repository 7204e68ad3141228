"""Hostile bodies and headers at the real server: each is a job or a named error, and what was refused is not stored."""

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import Api
from tests.hostile import bodies, for_a_while, in_batches

REFUSALS = {400: "malformed_body", 413: "body_too_large", 422: "invalid_request"}
KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=300)


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

    for_a_while(throw)
    assert api.rows() == len(set(taken))
    assert api.objects_stored() == 0


def check_refusal(answer: httpx2.Response) -> None:
    assert answer.status_code in REFUSALS, (answer.status_code, answer.text)
    problem = answer.json()
    assert problem["error"]["code"] in (REFUSALS[answer.status_code], "idempotency_key_reused")
    assert problem["detail"]
    if answer.status_code == 422:
        assert problem["errors"] or problem["error"]["code"] == "idempotency_key_reused"
