"""Where webhooks may go, and where they may not whatever it is called."""

from ipaddress import ip_address

import pytest

from common.reach import MAX_URL, Reach, Target, is_public
from common.settings import Settings, read_settings

INTERNET = Reach([])

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 - an address that is refused
    "10.1.2.3",
    "100.64.0.1",  # carriers' NAT
    "127.0.0.1",
    "169.254.169.254",  # where clouds keep credentials
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::10.0.0.1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:db8::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_no_hosts_on_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not INTERNET.permits(Target.from_url("https://example.com"), [ip_address("8.8.8.8"), ip_address(address)])


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public_and_is_reached_by_https_alone(address: str) -> None:
    assert is_public(ip_address(address))
    assert INTERNET.permits(Target.from_url("https://example.com"), [ip_address(address)])
    assert not INTERNET.permits(Target.from_url("http://example.com"), [ip_address(address)])


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "must begin with https://"),
        ("example.com/hook", "must begin with https://"),
        ("http://example.com/hook", "must begin with https://"),
        ("ftp://example.com", "must begin with https://"),
        ("file:" + "///etc/passwd", "must begin with https://"),
        ("https://", "must name a host"),
        ("https:///path", "must name a host"),
        ("https://example.com:0/", "must name a host"),
        ("https://example.com:65536/", "must name a host"),
        ("https://example.com:80:443/", "must name a host"),
        ("https://exa%6Dple.com/", "must name a host"),
        ("https://[::1", "must name a host"),
        ("https://[v1.x]/", "must name a host"),
        ("https://-x.com/", "must name a host"),
        ("https://a..b/", "must name a host"),
        (f"https://{'a' * 64}.com/", "must name a host"),
        ("https://ann:secret@example.com/", "must have no user or password"),
        ("https://example.com@10.0.0.1/", "must have no user or password"),
        ("https://example.com/#part", "must have no fragment"),
        ("https://example.com/a b", "must have only the characters of a URL"),
        ("https://example.com\\@10.0.0.1/", "must have only the characters of a URL"),
        ("https://example.com/\n", "must have only the characters of a URL"),
        ("https://bücher.example/", "must have only the characters of a URL"),
        ("https://example.com/" + "a" * MAX_URL, f"must have at most {MAX_URL} characters"),
        ("https://127.0.0.1/", "must not name an address that is not on the internet"),
        ("https://[::ffff:10.0.0.1]/", "must not name an address that is not on the internet"),
    ],
)
def test_a_url_that_cannot_be_a_webhook_is_refused_with_a_reason(url: str, wrong: str) -> None:
    assert (INTERNET.refuses_url(url) or "").startswith(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://Example.COM:8443/a/b?c=d&e=%20",
        "https://[2606:2800:21f::1]/x",
        "https://8.8.8.8",
    ],
)
def test_a_url_of_the_internet_is_taken(url: str) -> None:
    assert INTERNET.refuses_url(url) is None


def test_a_url_is_read_once_into_what_is_connected_to() -> None:
    assert Target.from_url("HTTPS://Example.COM:8443/A?b=C") == Target(
        True, "example.com", 8443, "example.com:8443", "/A?b=C"
    )
    assert Target.from_url("http://[::1]?x") == Target(False, "::1", 80, "[::1]", "/?x")


def test_what_the_operator_lists_is_reached_by_http_too_and_nothing_beside_it() -> None:
    reach = Reach(["127.0.0.0/8", "hooks.internal", "::1"])
    local, other = ip_address("127.0.0.9"), ip_address("10.0.0.1")
    for url in ("http://127.0.0.1:9000/x", "http://hooks.internal/", "https://HOOKS.internal/", "http://[::1]/"):
        assert reach.refuses_url(url) is None
    assert reach.refuses_url("http://10.0.0.1/") == "must begin with https://"
    assert reach.refuses_url("https://10.0.0.1/") == "must not name an address that is not on the internet"
    assert reach.permits(Target.from_url("http://hooks.internal/"), [other])
    assert reach.permits(Target.from_url("https://example.com/"), [local])
    assert not reach.permits(Target.from_url("https://example.com/"), [local, other])


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "https://example.com", "a b", ""])
def test_an_entry_that_is_neither_a_host_nor_a_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host nor a network"):
        Reach([entry])


def test_the_setting_is_a_list_with_commas_and_a_wrong_entry_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY"):
        monkeypatch.setenv(f"KILN_{name}", "redis://x")
    monkeypatch.setenv("KILN_WEBHOOK_ALLOW", "hooks.internal, 10.0.0.0/8")
    assert read_settings(Settings).webhook_allow == ["hooks.internal", "10.0.0.0/8"]
    monkeypatch.setenv("KILN_WEBHOOK_ALLOW", "10.0.0.0/33")
    with pytest.raises(SystemExit, match=r"KILN_WEBHOOK_ALLOW: .*neither a host nor a network"):
        read_settings(Settings)
