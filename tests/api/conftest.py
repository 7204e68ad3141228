"""A real API process on a free loopback port, its client, and eyes on what it leaves behind."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
import redis
from sqlalchemy import Engine, text

from common.db import make_engine, transaction
from common.objects import Objects
from common.queue import queue_name
from common.settings import Settings
from tests.processes import running_api


class Api:
    """A client of one API server, with the server's own database, broker and bucket at hand."""

    def __init__(self, base_url: str, settings: Settings) -> None:
        self.base_url = base_url
        self.settings = settings
        self.engine: Engine = make_engine(settings.database_url.get_secret_value(), name="kiln-test")
        self.objects = Objects.from_settings(settings)
        self._broker = redis.Redis.from_url(settings.broker_url.get_secret_value())
        self._http = httpx2.Client(base_url=base_url, timeout=60)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._http.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)

    def stream(self, path: str, **options: Any) -> AbstractContextManager[httpx2.Response]:
        """The answer as soon as it begins."""
        return self._http.stream("GET", path, **options)

    def use(self, key: str) -> None:
        """Send this API key from now on."""
        self._http.headers["Authorization"] = f"Bearer {key}"

    def messages(self) -> int:
        return int(self._broker.llen(queue_name("demo")))  # type: ignore[arg-type] - redis types both of its clients

    def objects_stored(self) -> int:
        store = boto3.client(
            "s3",
            endpoint_url=self.settings.s3_endpoint_url,
            aws_access_key_id=self.settings.s3_access_key.get_secret_value(),
            aws_secret_access_key=self.settings.s3_secret_key.get_secret_value(),
            region_name=self.settings.s3_region,
        )
        return int(store.list_objects_v2(Bucket=self.settings.s3_bucket)["KeyCount"])

    def rows(self) -> int:
        with transaction(self.engine) as connection:
            return int(connection.execute(text("SELECT count(*) FROM jobs")).scalar_one())

    @contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """No row, message or object comes or goes in the block."""
        before = (self.rows(), self.messages(), self.objects_stored())
        yield
        assert (self.rows(), self.messages(), self.objects_stored()) == before

    def empty(self) -> None:
        with transaction(self.engine) as connection:
            connection.execute(text("DELETE FROM jobs"))  # their events refuse TRUNCATE
            connection.execute(text("DELETE FROM deliveries"))  # those of batches
            connection.execute(text("DELETE FROM batches"))
            connection.execute(text("DELETE FROM files"))
            connection.execute(text("DELETE FROM workers"))
        self._broker.flushdb()

    def close(self) -> None:
        self._http.close()
        self._broker.close()
        self.engine.dispose()


def calls(
    api: Api,
    *,
    job_id: str = f"job_{'0' * 32}",
    image_id: str = f"img_{'0' * 32}",
    batch_id: str = f"batch_{'0' * 32}",
    file_id: str = f"file_{'0' * 32}",
    delivery_id: str = f"msg_{'0' * 32}",
) -> list[tuple[str, str]]:
    """Every method and path that the server documents, with these ids filled in: a new route is among them.

    Streams are asked for what there is by now.
    """
    paths = httpx2.get(f"{api.base_url}/openapi.json", timeout=60).json()["paths"]
    ids = {"job_id": job_id, "image_id": image_id, "batch_id": batch_id, "file_id": file_id, "model_id": "demo"}
    ids["delivery_id"] = delivery_id
    asked = {path: path.format(**ids) + ("?follow=false" if path.endswith("/events") else "") for path in paths}
    return [(method.upper(), asked[path]) for path, methods in paths.items() for method in methods]


@pytest.fixture(scope="module")
def _server(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(module_settings, log=tmp_path_factory.mktemp("api") / "api.log") as base_url:
        api = Api(base_url, module_settings)
        api.objects.ensure_bucket()
        yield api
        api.close()


@pytest.fixture
def api(_server: Api) -> Api:
    """The module's server, with an empty queue."""
    _server.empty()
    return _server


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"
