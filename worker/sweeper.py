"""``python -m worker.sweeper``: every few seconds returns dead leases, expires, and rings for jobs nobody heard of.

A small process of its own, without torch. Two are safe: a lock in the database lets one sweep at a time.
"""

import signal
import threading
import time

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy import Engine

from common.db import make_engine
from common.errors import StorageError, Unavailable
from common.jobs.sweep import forget_finished, only_sweeper, sweep_once, take_unpublished
from common.objects import Objects
from common.queue import Doorbell
from common.settings import Settings, read_settings
from common.telemetry import log_as

log = structlog.get_logger()

RETAIN_SECONDS = 3600  # between two rounds of retention: no index leads to a job's end, so each reads all jobs
MAX_WAITING = 64  # messages of one model: enough to wake every seat, whatever the backlog


def main() -> None:
    settings = read_settings(Settings)
    log_as(settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-sweeper", pool_size=2)
    doorbell = Doorbell(settings.broker_url.get_secret_value())
    objects = Objects.from_settings(settings)
    next_retention = time.monotonic()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    log.info("sweeper ready")
    while not stop.wait(settings.sweep_seconds):
        try:
            sweep(settings, engine, doorbell)
            if settings.retention_days is not None and time.monotonic() >= next_retention:
                retain(engine, objects, settings.retention_days)
                next_retention = time.monotonic() + RETAIN_SECONDS
        except Unavailable:
            log.warning("not swept: the database does not answer")


def sweep(settings: Settings, engine: Engine, doorbell: Doorbell) -> None:
    """One round, unless another sweeper is at it. Raises Unavailable."""
    with only_sweeper(engine) as alone:
        if not alone:
            return
        swept = sweep_once(engine, lease_seconds=settings.lease_seconds, max_failures=settings.max_failures)
        if swept.returned or swept.expired or swept.closed:
            log.info("swept", returned=swept.returned, expired=swept.expired, closed=swept.closed)
        for model in settings.registry:
            ring_for_waiting(engine, doorbell, model)


def retain(engine: Engine, objects: Objects, days: float) -> int:
    """Delete what ended over ``days`` ago, rows first; returns how many jobs. Raises Unavailable.

    Rows first, so that no row ever names an object that is gone.
    """
    total = 0
    while True:
        count, keys = forget_finished(engine, days=days)
        if not count:
            return total
        total += count
        log.info("retention: jobs deleted", jobs=count)
        try:
            objects.delete(keys)
        except StorageError:
            log.warning("objects of deleted jobs were left behind", keys=keys)
            return total


def ring_for_waiting(engine: Engine, doorbell: Doorbell, model: str) -> int:
    """Send messages for jobs of ``model`` that are due and unheard of; returns how many, 0 with the broker away."""
    try:
        room = MAX_WAITING - doorbell.waiting(model)
    except (OperationalError, OSError):
        log.warning("not rung: the broker does not answer", model=model)
        return 0
    unheard = take_unpublished(engine, model, room) if room > 0 else 0
    return sum(doorbell.ring(model) for _ in range(unheard))


if __name__ == "__main__":
    main()
