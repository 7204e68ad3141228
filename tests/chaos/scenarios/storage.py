"""C5: the object store away, failing, refusing, cutting uploads. A rig and a dose in; every job over on return."""

import time
from dataclasses import replace

from sqlalchemy import text

from common.db import reading
from tests.chaos.rig import Rig
from tests.chaos.storefront import Fault, storefront
from tests.processes import changed, wait_for

FAULTS: dict[Fault, float] = {"away": 60, "errors": 10, "forbidden": 10, "cut": 10}  # seconds in the full dose
LITTLE = 3
WORKERS, SEATS = 2, 2
JOBS = 3 * WORKERS * SEATS


def outages(rig: Rig, rounds: int) -> None:
    """C5: each fault so many times, while there is more to do than seats.

    No failure is charged, no picture painted twice, and no worker takes more jobs than it has seats for.
    """
    with storefront(rig.kiln.settings.s3_endpoint_url) as store:
        settings = changed(rig.kiln.settings, s3_endpoint_url=store.url)
        behind = replace(rig, kiln=replace(rig.kiln, settings=settings))
        with behind.painters([""] * WORKERS, seats=SEATS):
            for _ in range(rounds):
                for fault, seconds in FAULTS.items():
                    struck, store.fault = store.struck, fault
                    for _ in range(JOBS):
                        rig.post()
                    wait_for(f"{fault} struck", lambda struck=struck: store.struck > struck)
                    watch(rig, seconds if rounds > 1 else LITTLE)
                    store.fault = ""
                    rig.emptied()
    with reading(rig.engine) as connection:
        again = connection.execute(text("SELECT count(*) FROM jobs WHERE failures > 0 OR attempt > 1")).scalar_one()
    assert not again, f"{again} jobs were charged or painted again"


def watch(rig: Rig, seconds: float) -> None:
    """What waits for the store is never more than the seats."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        running = rig.count("running")
        assert running <= WORKERS * SEATS, f"{running} jobs at once in {WORKERS * SEATS} seats"
        time.sleep(0.2)
