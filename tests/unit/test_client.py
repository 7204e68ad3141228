"""The client's parts that need no server: addresses, refusals in words, pauses."""

import json
from pathlib import Path

import httpx2
import pytest

from client.address import find_api, is_loopback
from client.errors import InvalidUse
from client.follow import pause_between_polls
from client.transport import api_error

PROBLEM = {
    "title": "Invalid request",
    "status": 422,
    "detail": "width must be divisible by 8",
    "errors": [
        {"pointer": "/width", "detail": "must be divisible by 8"},
        {"pointer": "/metadata/album", "detail": "must have at most 512 characters"},
    ],
    "error": {"message": "…", "type": "invalid_request_error", "param": "width", "code": "invalid_request"},
}


def answer(status: int, **content: object) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "http://127.0.0.1:8000/v1/jobs?key=1"), **content)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address from the environment and no run.json of a stack that happens to run here."""
    monkeypatch.delenv("KILN_API_URL", raising=False)
    monkeypatch.setenv("KILN_HOME", str(tmp_path))


def test_the_nearest_address_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_api(None) == "http://127.0.0.1:8000"
    (tmp_path / "run.json").write_text(json.dumps({"api": "http://127.0.0.1:8101/"}))
    assert find_api(None) == "http://127.0.0.1:8101"
    monkeypatch.setenv("KILN_API_URL", "http://127.0.0.1:8102")
    assert find_api(None) == "http://127.0.0.1:8102"
    assert find_api("https://kiln.example.org/") == "https://kiln.example.org"


@pytest.mark.parametrize("url", ["kiln.example.org", "ftp://kiln.example.org", "http://", "127.0.0.1:8000"])
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidUse, match=r"http://127\.0\.0\.1:8000"):
        find_api(url)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_broken_run_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InvalidUse, match=r"run\.json"):
        find_api(None)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://10.0.0.1", False),
        ("https://kiln.example.org", False),
    ],
)
def test_loopback_addresses_are_recognised(url: str, here: bool) -> None:
    assert is_loopback(url) is here


def test_a_refusal_names_every_field() -> None:
    error = api_error(answer(422, json=PROBLEM))
    assert (error.status, error.code, error.exit_code) == (422, "invalid_request", 2)
    assert str(error) == "width: must be divisible by 8; metadata.album: must have at most 512 characters"


def test_a_refusal_names_the_option_behind_a_field() -> None:
    error = api_error(answer(422, json=PROBLEM))
    assert error.sentence({"width": "--width"}).startswith("--width: must be divisible by 8; metadata.album:")


def test_a_refusal_without_fields_is_its_detail() -> None:
    error = api_error(
        answer(404, json={"detail": "there is no such job", "errors": [], "error": {"code": "not_found"}})
    )
    assert (str(error), error.code) == ("there is no such job", "not_found")


@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"[]", b'{"errors": 3}', b'{"error": "no"}', b""])
def test_an_answer_of_another_server_is_told_without_its_query(content: bytes) -> None:
    error = api_error(answer(502, content=content))
    assert error.status == 502
    assert error.exit_code == 3
    assert "http://127.0.0.1:8000/v1/jobs answered 502" in str(error)


def test_an_answer_marked_as_final_is_not_asked_for_again() -> None:
    busy = {"Retry-After": "3"}
    assert api_error(answer(503, json=PROBLEM, headers=busy)).retry_after == 3
    assert api_error(answer(503, json=PROBLEM, headers={**busy, "x-should-retry": "false"})).retry_after is None


@pytest.mark.parametrize(
    ("waited", "asked", "timeout", "pause"),
    [
        (0, None, None, 0.1),
        (10, None, None, 0.5),
        (10_000, None, None, 2.0),
        (0, 1.0, None, 1.0),
        (9.5, 3.0, 10, 0.5),
    ],
)
def test_polls_slow_down_and_heed_the_api_and_the_timeout(
    waited: float, asked: float | None, timeout: float | None, pause: float
) -> None:
    assert pause_between_polls(waited, asked, timeout) == pytest.approx(pause)
