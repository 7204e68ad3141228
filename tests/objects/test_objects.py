"""The object store against a real S3 server: what is put is opened, links are signed, and failures have names."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import boto3
import httpx2
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from common.errors import NotFound, StorageError
from common.local.services import Services
from common.objects import Objects
from common.settings import Settings
from common.skew import SIGNATURE, ServerClock
from tests.objects.make import make_objects


@pytest.fixture(scope="module")
def objects(services: Services) -> Objects:
    made = make_objects(services, bucket="objects-test")
    made.ensure_bucket()
    return made


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_was_put_is_opened_in_chunks_and_replaced_whole(objects: Objects, size: int) -> None:
    objects.put("a/replaced.bin", b"earlier" * 9, "text/plain")
    objects.put("a/replaced.bin", bytes(range(256)) * (size // 256) + b"x" * (size % 256), "image/png")

    chunks = list(objects.open("a/replaced.bin"))

    assert b"".join(chunks) == bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert len(chunks) > 1 or size < 300_000


@pytest.mark.parametrize("body", [b"", b"<html><body>404</body></html>", b"not <xml"], ids=["empty", "html", "text"])
def test_a_404_of_whoever_stands_before_a_store_that_is_away_says_nothing_of_the_object(
    services: Services, body: bytes
) -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with (
        answering_server(answer) as url,
        pytest.raises(StorageError),
    ):
        make_objects(services, bucket="objects-test", endpoint_url=url).open("key")


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"not <xml"], ids=["empty", "html", "text"])
def test_what_is_no_listing_is_not_an_empty_one(services: Services, body: bytes) -> None:
    """Or a checkpoint that is there would be taken for none."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    for ask in (lambda store: list(store.entries("a/")), lambda store: store.keys("a/")):
        with answering_server(answer) as url, pytest.raises(StorageError):
            ask(make_objects(services, bucket="objects-test", endpoint_url=url))


def test_many_threads_use_one_store(objects: Objects) -> None:
    def round_trip(number: int) -> bool:
        objects.put(f"threads/{number}", b"%d" % number * 1000, "text/plain")
        return b"".join(objects.open(f"threads/{number}")) == b"%d" % number * 1000

    with ThreadPoolExecutor(max_workers=16) as threads:
        assert all(threads.map(round_trip, range(64)))


def test_a_reader_that_stops_early_lets_go_of_its_connection(services: Services) -> None:
    hung_up = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with answering_server(head + b"x" * 100_000, hung_up=hung_up) as url:
        reader = make_objects(services, bucket="objects-test", endpoint_url=url).open("key")
        next(reader)
        assert not hung_up.is_set()
        reader.close()  # type: ignore[attr-defined]  # a generator's, as Starlette calls it
        assert hung_up.wait(timeout=5), "the connection is still open five seconds later"


def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(objects: Objects) -> None:
    objects.put("gone", b"x", "text/plain")
    objects.delete(["gone", "never-there"])
    objects.delete(["gone"])

    with pytest.raises(NotFound, match="gone"):
        objects.open("gone")


def test_a_presigned_url_gives_the_object_until_it_runs_out_and_no_other(objects: Objects) -> None:
    objects.put("signed", b"picture", "image/png")
    objects.put("other", b"secret", "image/png")

    url = objects.presign("signed", 2)
    answer = httpx2.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"picture", "image/png")
    assert httpx2.get(url.replace("/signed", "/other")).status_code == 403
    assert httpx2.get(url.partition("?")[0]).status_code == 403
    deadline = time.monotonic() + 10
    while (status := httpx2.get(url).status_code) != 403:
        assert time.monotonic() < deadline, f"still {status} ten seconds later"
        time.sleep(0.2)


def test_links_are_signed_for_the_address_that_clients_use(services: Services) -> None:
    public = services.s3_endpoint_url.replace("127.0.0.1", "localhost")
    settings = Settings.model_validate(
        {
            "database_url": services.database_url,
            "broker_url": services.broker_url,
            "s3_endpoint_url": services.s3_endpoint_url,
            "s3_public_url": public,
            "s3_access_key": services.s3_access_key,
            "s3_secret_key": services.s3_secret_key,
            "s3_bucket": "public-test",
        }
    )
    objects = Objects.from_settings(settings)
    objects.ensure_bucket()
    objects.put("picture", b"bytes", "image/png")

    url = objects.presign("picture", 60)

    assert url.startswith(f"{public}/public-test/picture?")
    assert httpx2.get(url).content == b"bytes"
    assert (
        Objects.from_settings(settings.model_copy(update={"s3_public_url": ""}))
        .presign("picture", 60)
        .startswith(f"{services.s3_endpoint_url}/public-test/")
    )


def test_a_bucket_is_made_once_by_whoever_comes_first(services: Services) -> None:
    objects = make_objects(services, bucket="made-by-many")
    with pytest.raises(StorageError, match="no bucket made-by-many"):
        objects.check()

    with ThreadPoolExecutor(max_workers=4) as threads:
        list(threads.map(lambda _: objects.ensure_bucket(), range(4)))

    objects.ensure_bucket()
    objects.check()


def test_a_missing_bucket_is_worth_another_try(services: Services) -> None:
    """SeaweedFS makes the bucket of a put by itself; MinIO and Amazon's S3 answer as the second server here."""
    with pytest.raises(StorageError):
        make_objects(services, bucket="never-made").open("key")

    body = b"<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>"
    with answering_server(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as url:
        objects = make_objects(services, bucket="never-made", endpoint_url=url)
        with pytest.raises(StorageError, match="NoSuchBucket"):
            objects.put("key", b"x", "text/plain")


def test_a_wrong_key_is_named_and_never_shown(services: Services) -> None:
    wrong = Objects(
        endpoint_url=services.s3_endpoint_url,
        public_url=services.s3_endpoint_url,
        access_key=services.s3_access_key,
        secret_key="not-the-secret",
        bucket="objects-test",
        region="us-east-1",
    )

    with pytest.raises(StorageError) as caught:
        wrong.put("key", b"x", "text/plain")

    assert "SignatureDoesNotMatch" in caught.value.detail
    assert "not-the-secret" not in caught.value.detail


def test_readiness_gives_up_in_two_seconds_on_a_closed_port_and_on_a_silent_one(services: Services) -> None:
    with closed_port() as closed, silent_server() as silent:
        for url in (closed, silent):
            objects = make_objects(services, bucket="objects-test", endpoint_url=url)
            began = time.monotonic()
            with pytest.raises(StorageError):
                objects.check()
            assert time.monotonic() - began < 2


def test_every_verb_names_an_unreachable_store(services: Services) -> None:
    with closed_port() as url:
        objects = make_objects(services, bucket="objects-test", endpoint_url=url)
        with pytest.raises(StorageError):
            objects.put("key", b"x", "text/plain")
        with pytest.raises(StorageError):
            objects.open("key")
        with pytest.raises(StorageError):
            objects.delete(["key"])
        with pytest.raises(StorageError):
            objects.ensure_bucket()
        assert urlsplit(objects.presign("key", 60)).path == "/objects-test/key"


def test_a_connection_that_breaks_in_the_middle_is_a_storage_error(services: Services) -> None:
    with answering_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000) as url:
        chunks = make_objects(services, bucket="objects-test", endpoint_url=url).open("key")
        with pytest.raises(StorageError, match="key"):
            list(chunks)


@contextmanager
def closed_port() -> Iterator[str]:
    """A port that is ours and refuses: bound, never listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering_server(answer: bytes, *, hung_up: threading.Event | None = None) -> Iterator[str]:
    """Gives this answer to one request and hangs up, or waits for the client to do so and sets the event."""

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65536)
            connection.sendall(answer)
            if hung_up is not None:
                with suppress(ConnectionResetError):
                    connection.recv(1)
                hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(timeout=15)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_machine_whose_clock_is_wrong_signs_by_the_server_s(services: Services, hours: int) -> None:
    make_objects(services, bucket="skewed").ensure_bucket()
    client = boto3.client(
        "s3",
        endpoint_url=services.s3_endpoint_url,
        aws_access_key_id=services.s3_access_key,
        aws_secret_access_key=services.s3_secret_key,
        region_name="us-east-1",
        config=Config(signature_version=SIGNATURE, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    clock = ServerClock(timedelta(hours=hours))
    client.meta.events.register("before-sign.s3", clock._tell)
    with pytest.raises(ClientError, match="RequestTimeTooSkewed"):
        client.put_object(Bucket="skewed", Key="a", Body=b"early or late")

    clock.follow(client)
    client.put_object(Bucket="skewed", Key="a", Body=b"in time")

    assert abs(clock.offset) < timedelta(seconds=5)
    assert client.get_object(Bucket="skewed", Key="a")["Body"].read() == b"in time"
