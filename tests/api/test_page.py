"""The page's files and their headers, without a browser."""

import re

import pytest

from api.page import STATIC, make_headers
from tests.api.conftest import Api
from tests.processes import changed

FILES = sorted(path.name for path in STATIC.iterdir())


def test_the_page_and_all_it_names_come_with_a_strict_policy(api: Api) -> None:
    page = api.get("/")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="(/[^"#]*)"', page.text)
    assert "/static/main.js" in named
    for path in ["/", *named, *(f"/static/{name}" for name in FILES)]:
        answer = api.get(path)
        assert answer.status_code == 200, path
        if path == "/docs":
            continue
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert api.settings.s3_endpoint_url in policy["img-src"].split()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_did_not_change_is_not_sent_again(api: Api) -> None:
    first = api.get("/static/main.js")
    again = api.get("/static/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/static/", "/static/none.js", "/static/..%2fmain.py", "/static/%00"])
def test_nothing_else_is_served_as_a_file(api: Api, path: str) -> None:
    assert api.get(path).status_code == 404


def test_pictures_may_come_from_where_clients_reach_the_store(api: Api) -> None:
    settings = changed(api.settings, s3_public_url="https://someone:secret@pictures.example:9000/below")
    policy = make_headers(settings)["Content-Security-Policy"]
    assert " https://pictures.example:9000;" in policy
    assert "secret" not in policy


def test_the_document_for_programs_does_not_list_the_page(api: Api) -> None:
    assert not {"/", "/static"} & api.get("/openapi.json").json()["paths"].keys()


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_the_page_is_inline_or_comes_from_elsewhere(name: str) -> None:
    """A policy that has to be loosened, or a page that does not open in a house without the internet."""
    text = (STATIC / name).read_text(encoding="utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    foreign = [url for url in re.findall(r"https?://[^\s\"'`)]+", text) if url != "http://www.w3.org/2000/svg"]
    assert not foreign
    if name.endswith(".html"):
        assert not re.findall(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\bsrc=)", text)
