"""How the broker's URL is read: one meaning for every client, and no value of it in what is refused."""

import pytest

from common.broker_url import read_broker_url
from common.settings import Settings, read_settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("redis://:p%40ss@host:1/2", "redis://:p%40ss@host:1/2"),
        ("  redis://host ", "redis://host"),
        ("valkey://user:pass@host/1", "redis://user:pass@host/1"),
        ("rediss://:pass@host:1/0", "rediss://:pass@host:1/0?ssl_cert_reqs=required"),
        ("REDISS://[::1]:1", "rediss://[::1]:1?ssl_cert_reqs=required"),
        ("valkeys://host?ssl_ca_certs=/a%20b.pem", "rediss://host?ssl_ca_certs=%2Fa+b.pem&ssl_cert_reqs=required"),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", "rediss://host?ssl_cert_reqs=none"),
    ],
)
def test_a_url_is_read_in_one_form(given: str, read: str) -> None:
    assert read_broker_url(given) == read
    assert read_broker_url(read) == read


@pytest.mark.parametrize(
    "url",
    [
        "amqp://:hush@host",
        "host:6379",
        "redis://",
        "redis://:hush@host:port/0",
        "redis://:hu/sh@host/0",
        "redis://:12?hush@host",
        "redis://:12#hush@host",
        "redis://:hush@host/name",
        "redis://:hush@host/0?ssl_cert_reqs=required",
        "redis://:hush@host/0?ssl=true",
        "rediss://:hush@host/0?ssl=false",
        "rediss://:hush@host/0?ssl_cert_reqs=hush",
        "rediss://:hush@host/0?hush=1",
    ],
)
def test_what_two_clients_would_read_in_two_ways_is_refused_without_showing_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_BROKER_URL", url)
    with pytest.raises(SystemExit) as refused:
        read_settings(
            Settings,
            database_url="postgresql://host/kiln",
            s3_endpoint_url="http://host",
            s3_access_key="key",
            s3_secret_key="secret",
        )
    assert "KILN_BROKER_URL: " in str(refused.value)
    assert "hush" not in str(refused.value)
