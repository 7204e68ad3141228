"""Without keys whoever is on this machine may call, and a browser is, whatever page it shows."""

import httpx2
import pytest

from tests.api.conftest import Api, calls

BATCH = {"matrix": {"prompts": ["a"]}}
SITE = "Sec-Fetch-Site"
FOREIGN = [
    {"Origin": "https://evil.example", SITE: "cross-site"},
    {"Origin": "https://evil.example"},  # a browser that tells no more
    {"Origin": "null", SITE: "cross-site"},  # a sandboxed frame, or a file
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},  # another program of this machine
    {"Origin": "http://127.0.0.1"},
    {SITE: "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {SITE: "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: " ".join(headers.values()))
def test_what_another_sites_page_asks_for_is_refused_on_every_route(api: Api, headers: dict[str, str]) -> None:
    """Any page that is open beside Kiln: a hundred thousand jobs queued, and the webhooks' secret changed."""
    with api.nothing_changes():
        for method, path in calls(api):
            if path in ("/healthz", "/readyz"):
                continue
            body = {"json": BATCH} if method == "POST" else {}
            answer = api.request(method, path, headers=headers, **body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (method, path)
            assert "page" in answer.json()["detail"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_a_form_or_a_simple_request_of_another_site_makes_no_batch(api: Api, media_type: str | None) -> None:
    sent = {
        "Origin": "https://evil.example",
        SITE: "cross-site",
        **({"Content-Type": media_type} if media_type else {}),
    }
    with api.nothing_changes():
        answer = api.post("/v1/batches", content=b'{"matrix": {"prompts": ["a"]}}', headers=sent)
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_page_itself_is_served_under_each_of_its_names(api: Api, host: str) -> None:
    port = api.base_url.rpartition(":")[2]
    headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}", SITE: "same-origin"}
    assert api.post("/v1/batches", json=BATCH, headers=headers).status_code == 202
    other = {"127.0.0.1": "localhost"}.get(host, "127.0.0.1")
    assert (
        api.post("/v1/batches", json=BATCH, headers=headers | {"Origin": f"http://{other}:{port}"}).status_code == 403
    )


def test_a_link_to_a_report_may_be_followed_and_one_that_does_something_may_not(api: Api) -> None:
    followed = {SITE: "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert api.get("/v1/jobs", headers=followed).status_code == 200
    assert api.get("/v1/jobs", headers=followed | {"Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert api.post("/v1/webhook-secret/rotate", headers=followed).status_code == 403


def test_programs_and_typed_addresses_are_served(api: Api) -> None:
    for headers in ({}, {SITE: "none", "Sec-Fetch-Mode": "navigate"}):
        assert api.post("/v1/batches", json=BATCH, headers=headers).status_code == 202


def test_a_host_that_is_none_is_refused(api: Api) -> None:
    for host in ("[", "[::1", "]", "evil.example", "127.0.0.1.evil.example"):
        assert httpx2.get(f"{api.base_url}/v1/jobs", headers={"Host": host}).status_code == 403
