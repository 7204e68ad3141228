"""C3: the broker flushed, killed, stopped, half-open, not there. A rig and a dose in; every job over on return."""

import signal
import time
from dataclasses import replace

import httpx2
from sqlalchemy import text

from common.db import reading
from tests.chaos.rig import Rig
from tests.chaos.scenarios import messages
from tests.chaos.servers import Servers
from tests.processes import running_api, slowness

TOGETHER = 3  # jobs that are sent into an outage, fewer than there are seats
ANSWER_SECONDS = 2
LATEST = 15.5  # seconds: the longest wait between two idle look-ups, and a claim
STOPPED_SECONDS = 60
FIRST_STARTS = (
    "SELECT max(extract(epoch FROM began.at - asked.at)) FROM events asked JOIN events began USING (job_id)"
    " WHERE asked.from_status IS NULL AND began.to_status = 'running' AND began.attempt = 1"
)


def outages(rig: Rig, rounds: int) -> None:
    """C3: a broker lost in five ways. Each job is accepted within 2 s, and starts 15 s later at most."""
    servers = Servers(rig)
    for _ in range(rounds):
        servers.end("redis", signal.SIGKILL)
        with rig.painters(["", ""], seats=2):
            begin_without(rig)
            servers.start_broker()
            flush(rig)
            servers.end("redis", signal.SIGKILL)
            send(rig, "killed")
            servers.start_broker()
            with servers.stopped("redis"):
                until = time.monotonic() + (STOPPED_SECONDS if rounds > 1 else 0)
                send(rig, "stopped")
                while time.monotonic() < until:
                    send(rig, "stopped")
            assert rig.proxies["broker_url"].become("swallow", later="pass")
            send(rig, "half-open")


def begin_without(rig: Rig) -> None:
    """An API that never saw a broker takes jobs, too."""
    log = rig.kiln.logs / "api-without-broker.log"
    with running_api(rig.kiln.settings, log) as url, httpx2.Client(base_url=url, timeout=60) as client:
        send(replace(rig, client=client), "not there")


def flush(rig: Rig) -> None:
    """Empty the broker before jobs come, of what they are sent by, and once more after, of their messages."""
    with messages.broker(rig) as redis:
        redis.flushall()
        post(rig, "flushed")
        redis.flushall()
    start_in_time(rig, "flushed")


def send(rig: Rig, fault: str) -> None:
    """Jobs that are accepted and started in time although the broker is ``fault``, and done."""
    post(rig, fault)
    start_in_time(rig, fault)


def post(rig: Rig, fault: str) -> None:
    for _ in range(TOGETHER):
        began = time.monotonic()
        rig.post()
        took = time.monotonic() - began
        assert took <= ANSWER_SECONDS * slowness(), f"with the broker {fault} the API needed {took:.1f} s for its 202"


def start_in_time(rig: Rig, fault: str) -> None:
    rig.emptied()
    with reading(rig.engine) as connection:
        late = connection.execute(text(FIRST_STARTS)).scalar_one()
    assert late <= LATEST * slowness(), f"with the broker {fault} a job started {late:.1f} s after it was accepted"
