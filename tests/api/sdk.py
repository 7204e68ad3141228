"""OpenAI's own client, of the package as it is, pointed at a running Kiln; and a hand that plays the worker."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from common.jobs import lease
from common.jobs.claim import Claim
from tests.api.conftest import Api
from tests.jobs.make import PICTURE, claim
from tests.processes import wait_for

RETRY = {"x-stainless-retry-count": "1"}  # what the client itself sends with its second try


def connect(url: str, **options: Any) -> OpenAI:
    return OpenAI(**{"base_url": f"{url}/v1", "api_key": "none", "timeout": 300, "max_retries": 0} | options)


@contextmanager
def asking(client: OpenAI, count: int = 1, **asked: Any) -> Iterator[list[Future[Any]]]:
    """So many calls for a picture that go on during the block; they have ended after it."""
    with ThreadPoolExecutor(count) as pool:
        words = {"prompt": "a cat", "response_format": "url"} | asked
        yield [pool.submit(client.images.generate, **words) for _ in range(count)]


def taken(api: Api) -> Claim:
    """A job, once there is one that waits."""
    found: list[Claim] = []
    wait_for("job to claim", lambda: (one := claim(api.engine)) and (found.append(one) or True), seconds=60)
    return found[0]


def paint(api: Api, count: int = 1) -> None:
    for _ in range(count):
        lease.succeed(api.engine, taken(api), [PICTURE], recipe={}, timings={})
