"""``python -m worker.sweeper``: every few seconds returns dead leases, expires, and rings for jobs nobody heard of.

A small process of its own, without torch. Two are safe: a lock in the database lets one sweep at a time. Retention
and garbage collection have a thread of their own, for they may take minutes.
"""

import signal
import threading
import time
from datetime import datetime

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy import Engine

from common.db import make_engine
from common.errors import StorageError, Unavailable
from common.jobs.best import drop_rest
from common.jobs.garbage import find_garbage, settled_before
from common.jobs.sweep import forget_finished, only_sweeper, sweep_once, take_unpublished
from common.objects import Objects
from common.queue import Doorbell
from common.settings import Settings, read_settings
from common.telemetry import log_as

log = structlog.get_logger()

CHORES_SECONDS = 3600  # between two rounds of retention and garbage collection
FEW = 100  # objects of garbage that may be all there is
MAX_WAITING = 64  # messages of one model: enough to wake every seat, whatever the backlog


def main() -> None:
    settings = read_settings(Settings)
    log_as(settings)
    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-sweeper", pool_size=2)
    doorbell = Doorbell(settings.broker_url.get_secret_value())
    objects = Objects.from_settings(settings)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    threading.Thread(target=do_chores, args=(settings, engine, objects, stop), name="chores", daemon=True).start()
    log.info("sweeper ready")
    while not stop.wait(settings.sweep_seconds):
        try:
            sweep(settings, engine, doorbell)
        except Unavailable:
            log.warning("not swept: the database does not answer")


def do_chores(settings: Settings, engine: Engine, objects: Objects, stop: threading.Event) -> None:
    """What batches do not keep goes soon after their end; retention and garbage collection, now and every hour."""
    hourly = time.monotonic()
    while not stop.is_set():
        try:
            keep_best(engine, objects)
            if time.monotonic() < hourly:
                continue
            hourly += CHORES_SECONDS
            if settings.retention_days is not None:
                retain(engine, objects, settings.retention_days)
            collect(engine, objects, before=settled_before(settings.job_seconds))
        except Unavailable:
            log.warning("garbage not collected: the database does not answer")
        except StorageError:
            log.warning("garbage not collected: the object store does not answer")
        except Exception:  # a thread that ended in silence would never do its work again
            log.exception("garbage not collected")
        finally:
            stop.wait(settings.sweep_seconds)


def keep_best(engine: Engine, objects: Objects) -> None:
    """Drop what is not among the best of the batches that are over, rows first. Raises StorageError and Unavailable."""
    while (keys := drop_rest(engine)) is not None:
        log.info("the best of a batch were kept", dropped=len(keys))
        objects.delete(keys)


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


def collect(engine: Engine, objects: Objects, *, before: datetime) -> int:
    """Remove the objects that no row names; returns how many. Raises StorageError and Unavailable.

    Nothing where they are over half of all: then this is more likely another database's bucket, or a database that
    was restored from before them. `kiln gc` removes them all the same.
    """
    pages = [(page.seen, len(page.garbage)) for page in find_garbage(engine, objects, before=before)]
    seen, found = sum(seen for seen, _ in pages), sum(found for _, found in pages)
    if found > max(FEW, seen / 2):
        log.error(
            "no job names most objects of the bucket: none is removed; see `kiln gc`", objects=seen, unnamed=found
        )
        return 0
    removed = 0
    for page in find_garbage(engine, objects, before=before) if found else ():
        objects.delete([entry.key for entry in page.garbage])
        removed += len(page.garbage)
        log.info("garbage collected", objects=len(page.garbage), bytes=page.bytes)
    return removed


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
