"""The object store: keys and bytes in, bytes and presigned URLs out, over S3. Vendor errors are translated here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import quote

import boto3
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from prometheus_client import Counter

from common.errors import NotFound, StorageError
from common.settings import Settings
from common.skew import SIGNATURE, ServerClock

UPLOADED = Counter("kiln_upload_bytes", "Bytes that this process put into the object store")

_CHUNK = 1 << 16
_NO_OBJECT = "NoSuchKey"  # a bare 404 may be a proxy's, before a store that is away
_NO_BUCKET = ("404", "NoSuchBucket", "NotFound")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it; ``modified`` by the store's clock."""

    key: str
    modified: datetime
    bytes: int


class Objects:
    """One bucket. Thread-safe, as boto3's clients are."""

    def __init__(
        self,
        *,
        endpoint_url: str,
        public_url: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str,
        connections: int = 10,
    ) -> None:
        def client(url: str, signature: str = SIGNATURE, **timing: Any) -> Any:
            return boto3.client(
                "s3",
                endpoint_url=url,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                region_name=region,
                config=Config(
                    signature_version=signature,
                    s3={"addressing_style": "path"},
                    # newer checksum headers are refused by some S3 servers
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    max_pool_connections=connections,
                    **timing,
                ),
            )

        self._bucket = bucket
        self._region = region
        self._bucket_url = f"{endpoint_url.rstrip('/')}/{bucket}"
        self._credentials = Credentials(access_key, secret_key)
        self._store = client(
            endpoint_url, connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2, "mode": "standard"}
        )
        self._impatient = client(endpoint_url, connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1})
        self.clock = ServerClock()
        self.clock.follow(self._store)
        self.clock.follow(self._impatient)
        self._public = client(public_url, "s3v4")  # signs for the address that clients use; never connects

    @classmethod
    def from_settings(cls, settings: Settings) -> "Objects":
        return cls(
            endpoint_url=settings.s3_endpoint_url,
            public_url=settings.s3_public_url or settings.s3_endpoint_url,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            bucket=settings.s3_bucket,
            region=settings.s3_region,
        )

    def put(self, key: str, data: bytes, content_type: str, *, hurried: bool = False) -> None:
        """Store ``data`` whole under ``key``; ``hurried``: at the first attempt, within two seconds, or not at all.

        Raises StorageError.
        """
        store = self._impatient if hurried else self._store
        try:
            store.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=content_type)
        except (BotoCoreError, ClientError) as error:
            _translate(error, key)
        UPLOADED.inc(len(data))

    def open(self, key: str) -> Iterator[bytes]:
        """The object's bytes in chunks. Raises NotFound or StorageError, at once where the object cannot be opened."""
        try:
            body = self._store.get_object(Bucket=self._bucket, Key=key)["Body"]
        except (BotoCoreError, ClientError) as error:
            _translate(error, key)
        return _chunks(body, key)

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, in order; the first thousand of them. Raises StorageError."""
        try:
            page = self._impatient.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            _translate(error, prefix)
        return sorted(entry["Key"] for entry in _listed(page, prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with ``prefix``, a thousand a request. Raises StorageError."""
        pages = self._store.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        try:
            for page in pages:
                for one in _listed(page, prefix):
                    yield Entry(one["Key"], one["LastModified"], one["Size"])
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            _translate(error, prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the objects; those that are not there are no error. Raises StorageError."""
        for key in keys:  # one by one: not every S3 server takes the batched call
            try:
                self._store.delete_object(Bucket=self._bucket, Key=key)
            except (BotoCoreError, ClientError) as error:
                _translate(error, key)

    def presign(self, key: str, seconds: int) -> str:
        """A URL that anyone can GET for ``seconds``. Computed here, without asking the store."""
        url: str = self._public.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=seconds
        )
        return url

    def sign(self, method: str, key: str = "") -> tuple[str, dict[str, str]]:
        """URL and headers of a request for an object, or for the bucket, by an HTTP client of the caller's own."""
        url = f"{self._bucket_url}/{quote(key)}" if key else self._bucket_url
        return url, self.clock.sign(method, url, self._credentials, self._region)

    def ensure_bucket(self) -> None:
        """Make the bucket unless it is there. Raises StorageError."""
        if not self.has_bucket():
            self._make_bucket()

    def check(self) -> None:
        """Raise StorageError unless the bucket answers, within a second to connect and one to answer."""
        if not self.has_bucket():
            raise StorageError(f"there is no bucket {self._bucket}")

    def has_bucket(self) -> bool:
        try:
            self._impatient.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if _code(error) in _NO_BUCKET:
                return False
            _translate(error, self._bucket)
        except BotoCoreError as error:
            _translate(error, self._bucket)
        return True

    def _make_bucket(self) -> None:
        try:
            self._store.create_bucket(Bucket=self._bucket)
        except (
            self._store.exceptions.BucketAlreadyOwnedByYou,
            self._store.exceptions.BucketAlreadyExists,
        ):
            return  # another process was faster
        except (BotoCoreError, ClientError) as error:
            _translate(error, self._bucket)


def _chunks(body: Any, key: str) -> Iterator[bytes]:
    """The body in chunks; its connection goes back also where the reader stops early."""
    try:
        yield from body.iter_chunks(_CHUNK)
    except BotoCoreError as error:
        _translate(error, key)
    finally:
        body.close()


def _listed(page: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """A page's objects. What names no bucket is no listing, and not an empty one."""
    if not page.get("Name"):
        raise StorageError(f"the object store failed at {prefix}: no listing came")
    found: list[dict[str, Any]] = page.get("Contents", [])
    return found


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def _translate(error: Exception, name: str) -> NoReturn:
    """A missing bucket is a StorageError: it may be made at any time, and a painted job is worth another try."""
    code = _code(error)
    if code == _NO_OBJECT:
        raise NotFound(f"there is no object {name}") from error
    raise StorageError(f"the object store failed at {name}: {code}") from error
