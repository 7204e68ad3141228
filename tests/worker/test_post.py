"""One POST to a stranger: connected to what was checked, and bounded whatever the stranger does."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from common.reach import Address, Reach
from tests.receiver import Receiver, running_receiver
from worker import post as posting
from worker.post import MAX_ANSWER_BYTES, Answer, post

LOOPBACK = Reach(["127.0.0.0/8"])
INTERNET = Reach([])


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as started:
        yield started


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA) -> Iterator[Receiver]:
    """A receiver that has the certificate of one name, issued by the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    with running_receiver(context) as started:
        yield started


class Names:
    """Names of our own, and how often they were asked for."""

    def __init__(self, *addresses: str) -> None:
        self._answers: list[Sequence[Address]] = [[ip_address(one)] for one in addresses]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


def send(url: str, reach: Reach = LOOPBACK, **options: Any) -> Answer:
    return asyncio.run(post(url, b"{}", {"Content-Type": "application/json"}, reach, **options))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_what_is_sent_arrives_whole_and_the_status_comes_back(receiver: Receiver) -> None:
    assert send(receiver.url("200/whole?a=b")) == Answer(200, None)
    (seen,) = receiver.at("200/whole")
    assert (seen.path, seen.body) == ("/200/whole?a=b", b"{}")
    assert seen.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert seen.headers["content-type"] == "application/json"
    assert send(receiver.url("404")) == Answer(404, None)


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver) -> None:
    assert send(receiver.url("redirect")) == Answer(307, None)
    assert receiver.at("200/led") == []


def test_proxies_of_the_environment_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(receiver.url("200/direct")) == Answer(200, None)


@pytest.mark.parametrize("path", ["hang", "drip"])
def test_a_receiver_that_never_ends_its_headers_is_left_when_the_time_is_up(
    receiver: Receiver, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "TOTAL_SECONDS", 1.5)
    started = time.monotonic()
    assert send(receiver.url(path)) == Answer(None, "timeout")
    assert time.monotonic() - started < 8


def test_a_status_counts_though_the_rest_never_ends(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "TOTAL_SECONDS", 1.5)
    assert send(receiver.url("drip-body")) == Answer(200, None)


def test_of_a_gibibyte_a_small_part_is_read(receiver: Receiver) -> None:
    assert send(receiver.url("flood")) == Answer(200, None)
    assert send(receiver.url("flood-headers")) == Answer(None, "no_answer")
    # what the system's own buffers took is not read
    assert receiver.bytes_sent < 200 * MAX_ANSWER_BYTES


def test_what_is_no_http_is_no_answer(receiver: Receiver) -> None:
    assert send(receiver.url("junk")) == Answer(None, "no_answer")


def test_nobody_there_is_told_as_such() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        assert send(f"http://127.0.0.1:{bound.getsockname()[1]}/") == Answer(None, "connect_failed")


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::ffff:127.0.0.1]", "[::1]", "[::]"]
)
def test_no_way_to_write_this_machine_is_connected_to(secure: Receiver, host: str) -> None:
    before = len(secure.seen)
    answer = send(secure.url("200", host, "https"), INTERNET)
    assert answer in (Answer(None, "address_refused"), Answer(None, "name_not_resolved"))
    assert len(secure.seen) == before


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["::1"]])
def test_a_name_with_an_address_that_is_not_public_is_refused(secure: Receiver, addresses: list[str]) -> None:
    async def names(host: str, port: int) -> Sequence[Address]:
        return [ip_address(one) for one in addresses]

    answer = send(secure.url("200", "rebound.example", "https"), INTERNET, resolve=names)
    assert answer == Answer(None, "address_refused")


def test_a_name_is_resolved_once_and_that_address_is_connected_to(secure: Receiver, authority: trustme.CA) -> None:
    """A name that is public when it is checked, and ours when it is connected to."""
    names = Names("127.0.0.1", "10.0.0.1")
    url = secure.url("200/pinned", "hooks.example", "https")
    assert send(url, resolve=names, context=trusting(authority)) == Answer(200, None)
    assert names.asked == ["hooks.example"]
    (seen,) = secure.at("200/pinned")
    assert seen.headers["host"] == f"hooks.example:{secure.port}"


def test_the_certificate_has_to_be_the_hosts_and_of_a_known_authority(secure: Receiver, authority: trustme.CA) -> None:
    local = Names("127.0.0.1")
    other = secure.url("200/other", "other.example", "https")
    assert send(other, resolve=local, context=trusting(authority)) == Answer(None, "tls_failed")
    unknown = secure.url("200/unknown", "hooks.example", "https")
    assert send(unknown, resolve=local) == Answer(None, "tls_failed")
    assert secure.at("200/other") == secure.at("200/unknown") == []


def test_http_goes_only_where_the_operator_says(receiver: Receiver) -> None:
    local = Names("127.0.0.1")
    assert (
        send(receiver.url("200/named", "hooks.internal"), Reach(["hooks.internal"]), resolve=local).status_code == 200
    )
    assert (
        send(receiver.url("200/unnamed", "hooks.example"), INTERNET, resolve=Names("8.8.8.8")).error
        == "address_refused"
    )


def test_a_dead_address_is_passed_over_for_the_next(receiver: Receiver) -> None:
    async def names(host: str, port: int) -> Sequence[Address]:
        return [ip_address("127.9.9.9"), ip_address("127.0.0.1")]

    assert send(receiver.url("200/second", "two.example"), LOOPBACK, resolve=names) == Answer(200, None)


def test_a_name_that_nobody_has_is_told_as_such() -> None:
    async def nothing(host: str, port: int) -> Sequence[Address]:
        raise socket.gaierror

    assert send("https://nobody.example/", INTERNET, resolve=nothing) == Answer(None, "name_not_resolved")


def test_a_name_server_that_is_silent_costs_no_more_than_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "CONNECT_SECONDS", 0.5)

    async def silent(host: str, port: int) -> Sequence[Address]:
        await asyncio.sleep(3600)
        return []

    assert send("https://slow.example/", INTERNET, resolve=silent) == Answer(None, "timeout")
