"""C8: workers whose clocks are two hours ahead or behind. A rig and a dose in; every job over on return."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from subprocess import Popen

from sqlalchemy import text

from common.db import reading
from tests.chaos.disks import NotRun
from tests.chaos.rig import Rig
from tests.processes import wait_for

SKEWS = {"ahead": "+2h", "behind": "-2h"}
WAIT = timedelta(seconds=5)
LIBRARY = "*/faketime/libfaketimeMT.so.1"  # of threads, too, in Debian's place


def skews(rig: Rig, rounds: int) -> None:
    """C8: workers with each clock in turn; each is killed with a job, which one with the other clock then does.

    Jobs start when they are due, expire when they are due, and leases run out, by the database's clock alone.
    """
    for name, other in islice(cycle((("ahead", "behind"), ("behind", "ahead"))), rounds):
        with skewed(rig, name, "diffuse:kill") as doomed:
            rig.post()
            wait_for("death", doomed.poll, seconds=60)
            assert doomed.returncode == -signal.SIGKILL, rig.kiln.tails()
        with skewed(rig, other):
            due = datetime.now(UTC) + WAIT
            job = rig.post(not_before=due.isoformat(), deadline=(due + timedelta(hours=1)).isoformat())
            rig.post()
            rig.emptied()
        began = datetime.fromisoformat(rig.kiln.job(job)["started_at"])
        assert began >= due, f"a worker that is {other} began a job at {began} that was due at {due}"
    with reading(rig.engine) as connection:
        lost, jobs = connection.execute(text("SELECT sum(attempt) - count(*), count(*) FROM jobs")).one()
    assert lost == rounds, f"{lost} attempts too many of {jobs} jobs; {rounds} were killed"


@contextmanager
def skewed(rig: Rig, name: str, fault: str = "") -> Iterator[Popen[bytes]]:
    """A ready light worker that believes another time. Raises NotRun where there is no libfaketime."""
    found = sorted(Path("/usr/lib").glob(LIBRARY))
    if not found:
        raise NotRun("libfaketime is not installed (on Debian: apt-get install faketime)")
    variables = {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": SKEWS[name],
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # waits last as long as they do
    }
    log = f"{name}{fault.partition(':')[0]}"
    with rig.worker(log, fault, "tests.chaos.painter", **variables) as worker:
        check_skew(rig.kiln.logs / f"{log}.log")
        yield worker


def check_skew(log: Path) -> None:
    """The worker's own log has its time, or nothing at all is tried here."""
    told = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", log.read_text())
    assert told, log.read_text()
    off = abs(datetime.fromisoformat(f"{told[0]}+00:00") - datetime.now(UTC))
    assert timedelta(hours=1.5) < off < timedelta(hours=2.5), f"the worker's clock is off by {off}"
