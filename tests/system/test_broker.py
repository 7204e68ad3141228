"""Celery's settings hold: a worker hears the broker again after whatever happened to it or to its connections.

What is watched is the queue itself, for a worker finds its jobs without any broker too.
"""

from pathlib import Path

from pydantic import SecretStr
from redis import Redis

from common.queue import Doorbell
from tests.deployment import Kiln
from tests.processes import changed, free_port, running_api, wait_for
from tests.proxy import proxied
from tests.system.test_faults import broker

MESSAGES = 3
FROM_THE_START, HALF_OPEN, RESTARTED = 40, 75, 40  # seconds; without a socket_timeout half-open is for good


def hear(doorbell: Doorbell, *, seconds: float) -> None:
    """Wait until the worker takes messages from the broker. One may be taken by the connection that it lost."""
    assert all(doorbell.ring("demo") for _ in range(MESSAGES))
    wait_for("end of the messages", lambda: doorbell.waiting("demo") == 0, seconds=seconds)


def refuse_writes(port: int, log: Path) -> None:
    """For as long as the worker needs to learn of it: as of a broker whose disk or memory is full."""
    told = log.read_text().count("NOREPLICAS")
    with Redis(port=port, password="pass") as redis:
        redis.config_set("min-replicas-to-write", 1)
        wait_for("refusal", lambda: log.read_text().count("NOREPLICAS") > told)
        redis.config_set("min-replicas-to-write", 0)


def test_a_worker_hears_a_broker_that_was_restarted_refused_writes_or_whose_connections_went_half_open(
    kiln: Kiln, tmp_path: Path, database_url: str
) -> None:
    port = free_port()
    doorbell = Doorbell(f"redis://:pass@127.0.0.1:{port}/0")
    with proxied("127.0.0.1", port) as proxy:
        through = SecretStr(f"redis://:pass@127.0.0.1:{proxy.port}/0")
        settings = changed(kiln.settings, broker_url=through, database_url=SecretStr(database_url))
        with running_api(settings, log=tmp_path / "api.log") as url, Kiln(url, settings, tmp_path).worker():
            with broker(tmp_path, port):
                hear(doorbell, seconds=FROM_THE_START)
                assert proxy.become("swallow", later="pass") > 0
                hear(doorbell, seconds=HALF_OPEN)
                refuse_writes(port, tmp_path / "worker.log")
                hear(doorbell, seconds=FROM_THE_START)
            with broker(tmp_path, port):
                hear(doorbell, seconds=RESTARTED)
