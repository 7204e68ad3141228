"""What nobody waits for: the best of batches kept, what ended long ago deleted, garbage collected. Touches the bucket.

A thread of the sweeper's, for it may take minutes, and sweeps must not wait. Two sweepers may do the same at once.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import Engine

from common.errors import StorageError, Unavailable
from common.jobs.best import drop_rest
from common.jobs.files import forget_files
from common.jobs.garbage import find_garbage, settled_before
from common.jobs.retention import clear_away, forget_batches, forget_finished
from common.objects import Objects
from common.settings import Settings

log = structlog.get_logger()

HOUR = 3600.0  # seconds, between two rounds of retention and of garbage collection
FEW = 100  # objects of garbage that may be all there is


def do_chores(settings: Settings, engine: Engine, objects: Objects, stop: threading.Event) -> None:
    """The best of batches soon after their end; the rest now and every hour, until ``stop``."""
    due = time.monotonic()
    while not stop.is_set():
        try:
            keep_best(engine, objects)
            remove(objects, partial(clear_away, engine))
            if time.monotonic() >= due:
                _do_hourly(settings, engine, objects)
                due = time.monotonic() + HOUR
        except (Unavailable, StorageError) as error:
            log.warning("chores not done", reason=error.detail)
        except Exception:  # a thread that ended in silence would never do its work again
            log.exception("chores not done")
        stop.wait(settings.sweep_seconds)


def _do_hourly(settings: Settings, engine: Engine, objects: Objects) -> None:
    if settings.retention_days is not None:
        retain(engine, objects, settings.retention_days)
        if files := forget_files(engine, days=settings.retention_days):
            log.info("retention: files deleted", files=files)
    collect(engine, objects, before=settled_before(settings.job_seconds))


def keep_best(engine: Engine, objects: Objects) -> None:
    """Drop what is not among the best of the batches that are over, rows first. Raises StorageError and Unavailable."""
    while (keys := drop_rest(engine)) is not None:
        log.info("the best of a batch were kept", dropped=len(keys))
        objects.delete(keys)


def retain(engine: Engine, objects: Objects, days: float) -> int:
    """Delete what ended over ``days`` ago, rows first; returns how many jobs. Raises Unavailable.

    Rows first, so that no row ever names an object that is gone.
    """
    while batches := forget_batches(engine, days=days):
        log.info("retention: batches deleted", batches=batches)
    return remove(objects, partial(clear_away, engine)) + remove(objects, partial(forget_finished, engine, days=days))


def remove(objects: Objects, some: Callable[[], tuple[int, list[str]]]) -> int:
    """Delete what ``some`` gives until there is no more, rows first; returns how many jobs. Raises Unavailable."""
    total = 0
    while True:
        count, keys = some()
        if not count:
            return total
        total += count
        log.info("jobs deleted", jobs=count)
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
