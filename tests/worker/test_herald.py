"""What is told of a job while it runs: heard where somebody listens, and nobody's burden where the broker is away."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import redis

from common.ids import show_id
from common.jobs.claim import Claim
from common.jobs.state import Lane, Stage
from common.live import channel
from common.settings import Settings
from tests.jobs.make import SPEC
from tests.processes import wait_for
from tests.proxy import proxied
from worker.diffusion.device import Device
from worker.herald import Herald, News
from worker.preview import Previews

JOB, BATCH = UUID(int=1), UUID(int=2)
CLAIM = Claim(JOB, 1, UUID(int=3), SPEC, Lane.INTERACTIVE, 0, 0, "ann", BATCH)


@pytest.fixture
def broker_url(module_settings: Settings) -> str:
    return module_settings.broker_url.get_secret_value()


@contextmanager
def hearing(broker_url: str, owner: str) -> Iterator[Any]:
    with redis.Redis.from_url(broker_url) as broker, broker.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(channel(broker_url, owner))
        wait_for("subscription", lambda: dict(broker.pubsub_numsub(channel(broker_url, owner))).popitem()[1])
        yield heard


def test_a_jobs_owner_hears_of_it_and_nobody_else(broker_url: str, device: Device) -> None:
    herald = Herald(broker_url)
    news = News(herald, Previews(device), CLAIM)
    with hearing(broker_url, "ann") as hers, hearing(broker_url, "bob") as his:
        news.entered(Stage.DIFFUSE)
        news.progressed(1)
        news.settled()
        told: list[dict[str, Any]] = []

        def hear() -> bool:
            if message := hers.get_message(timeout=0.1):
                told.append(json.loads(message["data"]))
            return len(told) == 3

        wait_for("three messages", hear)
        assert his.get_message(timeout=0.1) is None
        assert herald.listens("ann")
    names = {"job_id": show_id("job", JOB), "batch_id": show_id("batch", BATCH)}
    assert told == [
        {"event": "stage", "data": names | {"stage": "diffuse"}},
        {"event": "progress", "data": names | {"progress": {"done": 1, "total": 4, "percent": 25.0}}},
        {"event": "settled", "data": names},
    ]
    news.settled()
    wait_for("silence to be noticed", lambda: not herald.listens("ann"))


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
def test_a_broker_that_is_away_keeps_no_job_waiting(broker_url: str, device: Device, mode: Any) -> None:
    address = urlsplit(broker_url)
    with proxied(str(address.hostname), int(address.port or 6379)) as proxy:
        news = News(Herald(broker_url.replace(f":{address.port}", f":{proxy.port}")), Previews(device), CLAIM)
        proxy.become(mode)
        began = time.thread_time(), time.monotonic()
        for done in range(1000):
            news.progressed(done)
        assert time.thread_time() - began[0] < 1
        assert time.monotonic() - began[1] < 20, "on a machine that has other things to do"
