"""Webhooks as they are asked for: what is taken, shown and inherited, and what is refused by name."""

from typing import Any

import pytest

from tests.api.conftest import Api

URL = "https://example.com/hook"
ENDS = ["succeeded", "failed", "canceled", "expired"]
LINES = {"content": '{"prompt": "a"}', "headers": {"Content-Type": "application/x-ndjson"}}


def ask(api: Api, webhook: Any) -> Any:
    return api.post("/v1/jobs", json={"prompt": "a", "webhook": webhook})


def test_a_job_shows_its_webhook_and_a_retry_keeps_it_unless_it_says_otherwise(api: Api) -> None:
    job = ask(api, {"url": URL}).json()
    assert job["webhook"] == {"url": URL, "events": ENDS}
    other = {"url": f"{URL}/2", "events": ["failed"]}
    kept, changed, dropped = (
        api.post(f"/v1/jobs/{job['id']}/retry", json=overrides).json()["webhook"]
        for overrides in ({}, {"webhook": other}, {"webhook": None})
    )
    assert (kept, changed, dropped) == (job["webhook"], other, None)
    assert api.post("/v1/jobs", json={"prompt": "a"}).json()["webhook"] is None


@pytest.mark.parametrize(
    ("webhook", "pointer", "detail"),
    [
        ({}, "/webhook/url", "is required"),
        ({"url": 7}, "/webhook/url", "a valid string"),
        ({"url": "http://example.com"}, "/webhook/url", "must begin with https://"),
        ({"url": "https://[::1]/"}, "/webhook/url", "must not name an address that is not on the internet"),
        ({"url": URL + "#x"}, "/webhook/url", "must have no fragment (#)"),
        ({"url": URL, "events": []}, "/webhook/events", "List should have at least 1 item after validation, not 0"),
        (
            {"url": URL, "events": ["completed"]},
            "/webhook/events/0",
            "'succeeded', 'failed', 'canceled' or 'expired'",
        ),
        ({"url": URL, "secret": "x"}, "/webhook/secret", "is not a field of this request"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_name_and_nothing_is_stored(
    api: Api, webhook: Any, pointer: str, detail: str
) -> None:
    with api.nothing_changes():
        answer = ask(api, webhook)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": pointer, "detail": detail}]


def test_a_batch_has_one_webhook_for_all_its_jobs(api: Api) -> None:
    matrix = {"prompts": ["a"]}
    made = api.post("/v1/batches", json={"matrix": matrix, "webhook": {"url": URL}}).json()
    assert made["webhook"] == {"url": URL, "events": ["completed"]}
    asked = f"webhook_url={URL}&webhook_events=failed&webhook_events=completed"
    of_lines = api.post(f"/v1/batches?{asked}", **LINES).json()
    assert of_lines["webhook"] == {"url": URL, "events": ["failed", "completed"]}
    (job,) = api.get(f"/v1/jobs?batch_id={made['id']}").json()["data"]
    assert job["webhook"] is None


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("", {"json": {"matrix": {"prompts": ["a"]}, "webhook": {"url": "http://x.example"}}}, "/webhook/url"),
        (
            "",
            {"json": {"matrix": {"prompts": ["a"]}, "defaults": {"webhook": {"url": URL}}}},
            "/defaults/webhook",
        ),
        ("?webhook_url=http://x.example", LINES, "/webhook_url"),
        ("?webhook_events=failed", LINES, "/webhook_events"),
        ("", LINES | {"content": '{"prompt": "a", "webhook": {"url": "%s"}}' % URL}, "/lines/1/webhook"),  # noqa: UP031
    ],
)
def test_a_batchs_webhook_that_cannot_be_is_refused_by_name(
    api: Api, path: str, body: dict[str, Any], pointer: str
) -> None:
    with api.nothing_changes():
        answer = api.post(f"/v1/batches{path}", **body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_deliveries_are_listed_page_by_page_and_by_status(api: Api) -> None:
    jobs = [ask(api, {"url": URL}).json()["id"] for _ in range(3)]
    for job in jobs:
        api.post(f"/v1/jobs/{job}/cancel")
    first = api.get("/v1/webhook-deliveries?limit=2&status=pending").json()
    rest = api.get(f"/v1/webhook-deliveries?limit=2&after={first['last_id']}").json()
    assert [one["job_id"] for one in first["data"] + rest["data"]] == jobs[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert api.get("/v1/webhook-deliveries?status=delivered").json()["data"] == []
    assert api.get("/v1/webhook-deliveries?status=lost").status_code == 422
    assert api.post(f"/v1/webhook-deliveries/msg_{'0' * 32}/redeliver").status_code == 404
