"""How an attempt ended in, exactly one lease call out. A database that is away is waited for; a lost lease is final."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_all,
    stop_when_event_set,
    wait_random_exponential,
)

from common.errors import Excused, Interrupted, JobCanceled, KilnError, LeaseLost, Parked, StorageError, Unavailable
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.lease import StoredImage
from common.jobs.state import Status
from worker.metrics import ATTEMPTS, FAILURES
from worker.workshop import Workshop

log = structlog.get_logger()

DRAIN_SECONDS = 30.0  # for a database that is away as the worker is to stop; else as long as it takes


@dataclass(frozen=True, slots=True)
class Finished:
    """The pictures are made, scored and in the bucket."""

    stored: tuple[StoredImage, ...]
    recipe: Mapping[str, Any]
    timings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Given up between two steps, through no fault of the job's."""

    reason: Interrupted


@dataclass(frozen=True, slots=True)
class Broken:
    """Something went wrong; trying again may or may not help."""

    error: KilnError
    retryable: bool
    cause: Exception | None = None


Outcome = Finished | Stopped | Broken


def settle(claim: Claim, outcome: Outcome, workshop: Workshop) -> Status | None:
    """Write down how the attempt ended, once the database takes it; repeating a write that was made is harmless.

    The job keeps its seat meanwhile; nothing else could be claimed from a database that is away. Returns the state that
    the job is in now; None where it is not for us to say.
    """
    patience = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(max=5),
        stop=stop_all(stop_when_event_set(workshop.draining), stop_after_delay(DRAIN_SECONDS)),
        reraise=True,
    )
    try:
        for attempt in patience:
            with attempt:
                status = _write(claim, outcome, workshop)
                _count(outcome, status)
                return status
    except LeaseLost:
        log.warning("lease lost: the result is not written")
    except Unavailable:
        log.error("result not written: the database stayed away; the sweep will return the job")
    ATTEMPTS.labels("lost").inc()
    return None


def _count(outcome: Outcome, status: Status) -> None:
    match outcome:
        case Broken(error) | Stopped(Parked(error=KilnError() as error)):
            FAILURES.labels(error.code).inc()
    again = "retried" if isinstance(outcome, Broken) else "parked"
    ATTEMPTS.labels(again if status is Status.QUEUED else status.value).inc()


def _write(claim: Claim, outcome: Outcome, workshop: Workshop) -> Status:
    engine = workshop.engine
    match outcome:
        case Finished(stored, recipe, timings):
            status = lease.succeed(engine, claim, stored, recipe=recipe, timings=timings)
            if status is Status.CANCELED:
                _discard(stored, workshop)
            log.info("job ended", status=status.value, **timings)
            return status
        case Stopped(JobCanceled()):
            lease.cancel(engine, claim)
            log.info("job canceled")
            return Status.CANCELED
        case Stopped(Excused() as reason):
            status = lease.excuse(engine, claim, reason.error, max_failures=workshop.settings.max_failures)
            log.warning("job given back", status=status.value, code=reason.error.code, reason=reason.error.detail)
            return status
        case Stopped(Parked() as reason):
            lease.park(engine, claim)
            log.info("job parked", why=type(reason).__name__)
            return Status.QUEUED
        case Stopped():
            raise LeaseLost
        case Broken(error, retryable=True, cause=cause):
            status = lease.retry(engine, claim, error, max_failures=workshop.settings.max_failures)
            log.warning("attempt failed", status=status.value, code=error.code, reason=error.detail, exc_info=cause)
            return status
        case Broken(error):
            lease.fail(engine, claim, error)
            log.warning("job failed", code=error.code, reason=error.detail)
            return Status.FAILED


def _discard(stored: tuple[StoredImage, ...], workshop: Workshop) -> None:
    """Remove the objects of a job that was canceled at the last moment."""
    try:
        workshop.objects.delete([key for image in stored for key in (image.key, image.thumbnail_key) if key])
    except StorageError:
        log.warning("objects of a canceled job were left behind")
