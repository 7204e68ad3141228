"""Jobs over HTTP: validate, submit, ring the bell, answer 202; then show, list, cancel, retry and delete."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Header, Query, Request, Response

from api import schemas
from api.held import wait_for_end
from api.kiln import Kiln, KilnDep, Reader, Submitter, quick, reads_many
from api.pools import renew
from api.receipt import ReceiptRoute
from api.resolve import ask_again, fingerprint, resolve
from api.views import show_job
from common.errors import InvalidRequest, NotFound, StorageError, TooManyOpen, Unavailable
from common.fault import fault
from common.ids import parse_id, show_id
from common.jobs import owner as owners
from common.jobs.log import Watch
from common.jobs.outlook import Outlook, outlooks
from common.jobs.read import Job, get_job, list_jobs
from common.jobs.replay import find_job
from common.jobs.state import TERMINAL, Status
from common.jobs.submit import Receipt, Submission, submit_job, unheard

log = structlog.get_logger()

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=ReceiptRoute)

MAX_WAIT_SECONDS = 60
RETRY_AFTER_SECONDS = 1

# What can be done with a job that was made: OpenAPI's links, for programs that explore the API
AFTERWARDS = {
    called: {"operationId": f"{called}_v1_jobs__job_id_{rest}", "parameters": {"job_id": "$response.body#/id"}}
    for called, rest in {"show": "_get", "cancel": "_cancel_post", "retry": "_retry_post", "delete": "_delete"}.items()
}
MADE: dict[int | str, dict[str, Any]] = {202: {"links": AFTERWARDS}}

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, description="makes repeating safe")]
Prefer = Annotated[str | None, Header(description="wait=30 holds the answer until the job ends, 60 seconds at most")]


@router.post("", status_code=202, response_model=schemas.Job, responses=MADE)
async def create(
    body: schemas.JobRequest,
    request: Request,
    response: Response,
    kiln: KilnDep,
    owner: Submitter,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> schemas.Job:
    """Queue a job."""
    receipt, job = await kiln.pool.run(_accept, kiln, body, owner, idempotency_key)
    return await _answer(request, response, kiln, receipt, job, prefer)


@router.get("", response_model=schemas.Page[schemas.Job])
@reads_many
def index(
    request: Request,
    kiln: KilnDep,
    owner: Reader,
    status: Status | None = None,
    batch_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="last_id of the page before")] = None,
) -> schemas.Page[schemas.Job]:
    """The caller's jobs, newest first."""
    found, more = list_jobs(
        kiln.engine,
        owner,
        status=status,
        batch_id=parse_id("batch", batch_id) if batch_id else None,
        after=parse_id("job", after) if after else None,
        limit=limit,
    )
    shown = _show_all(request, kiln, found)
    return schemas.Page(data=shown, has_more=more, last_id=shown[-1].id if shown else None)


@router.get("/{job_id}", response_model=schemas.Job)
@quick
def show(job_id: str, request: Request, kiln: KilnDep, owner: Reader) -> schemas.Job:
    """One job as it stands."""
    return _show(request, kiln, _find(kiln, owner, parse_id("job", job_id)))


@router.post("/{job_id}/cancel", response_model=schemas.Job)
@quick
def cancel(job_id: str, request: Request, kiln: KilnDep, owner: Submitter) -> schemas.Job:
    """Cancel a job: at once while it waits, at its next step while it runs. A finished one stays as it is."""
    key = parse_id("job", job_id)
    owners.cancel_job(kiln.engine, owner, key)
    return _show(request, kiln, _find(kiln, owner, key))


@router.post("/{job_id}/retry", status_code=202, response_model=schemas.Job, responses=MADE)
async def retry(
    job_id: str,
    request: Request,
    response: Response,
    kiln: KilnDep,
    owner: Submitter,
    overrides: schemas.Overrides | None = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> schemas.Job:
    """Queue a new job like this one, seed included, with any field changed."""
    old = await kiln.pool.run(_find, kiln, owner, parse_id("job", job_id))
    changes = overrides.model_dump(exclude_unset=True) if overrides else {}
    if changes.get("prompt", "") is None:
        del changes["prompt"]  # null means the default, and a retry's default is what the job said
    again = schemas.JobRequest(**ask_again(old) | changes)
    receipt, job = await kiln.pool.run(_accept, kiln, again, owner, idempotency_key, old.id)
    return await _answer(request, response, kiln, receipt, job, prefer)


@router.delete("/{job_id}", status_code=204)
async def delete(job_id: str, kiln: KilnDep, owner: Submitter) -> None:
    """Delete a finished job, its pictures included. Where the store is away, their objects are removed later."""
    keys = await kiln.pool.run(owners.delete_job, kiln.engine, owner, parse_id("job", job_id))
    if keys is None:
        raise _not_found(parse_id("job", job_id))
    await kiln.removals.leave(_remove, kiln, keys)


def _accept(
    kiln: Kiln, asked: schemas.JobRequest, owner: str, idempotency_key: str | None, retried_from: UUID | None = None
) -> tuple[Receipt, Job]:
    """The job that was asked for. What was accepted once is so again, though its deadline has passed meanwhile."""
    try:
        submission = resolve(
            asked, kiln.settings, owner=owner, idempotency_key=idempotency_key, retried_from=retried_from
        )
    except InvalidRequest:
        first = find_job(kiln.engine, owner, idempotency_key, fingerprint(asked))
        if first is None:
            raise
        return Receipt(first, replayed=True), _find(kiln, owner, first)
    return _submit(kiln, submission)


def _submit(kiln: Kiln, submission: Submission) -> tuple[Receipt, Job]:
    """Commit, then ring: a bell that fails loses nothing, for the row is the truth and the sweeper rings again."""
    receipt = submit_job(
        kiln.engine,
        submission,
        max_queued=kiln.settings.max_queued,
        max_queued_per_owner=kiln.settings.max_queued_per_owner,
        alive_seconds=kiln.settings.lease_seconds,
    )
    ring_for(kiln, submission, receipt)
    return receipt, _find(kiln, submission.owner, receipt.job_id)


def ring_for(kiln: Kiln, submission: Submission, receipt: Receipt) -> None:
    """Wake a seat for the job that was committed, unless there is nothing to do, or not yet."""
    fault("committed")
    due = submission.not_before is None and not receipt.replayed and not receipt.reused
    if due and not kiln.doorbell.ring(submission.spec.model):
        with suppress(Unavailable):  # then the sweeper rings half a minute later than it could
            unheard(kiln.engine, receipt.job_id)
    fault("published")


def _remove(kiln: Kiln, keys: Sequence[str]) -> None:
    """Remove objects that no row names any more. What a store that is away keeps, the collector of garbage finds."""
    try:
        kiln.objects.delete(keys)
    except StorageError as error:
        log.warning("objects of a deleted job are left to be collected", reason=error.detail)


async def _answer(
    request: Request, response: Response, kiln: Kiln, receipt: Receipt, job: Job, prefer: str | None
) -> schemas.Job:
    """202 with the job as it stands; or, where the client prefers to wait and the job ends in time, 200."""
    wait = read_wait(prefer)
    if wait is not None:
        wait = min(wait, MAX_WAIT_SECONDS)
        with suppress(TooManyOpen):  # then it is not waited: a job that was accepted is told of
            job = await _wait(request, kiln, job, wait)
            response.headers["Preference-Applied"] = f"wait={wait}"
    if wait is not None and job.status in TERMINAL:
        response.status_code = 200
    else:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if receipt.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = str(request.base_url) + f"v1/jobs/{show_id('job', job.id)}"
    try:
        return await kiln.pool.run(_show, request, kiln, job)
    except Unavailable:  # since it was accepted
        return _show_one(request, kiln, job, None)


def read_wait(prefer: str | None) -> int | None:
    """The seconds for which a client prefers to wait."""
    wait = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer or "")
    return int(wait[1]) if wait else None


async def _wait(request: Request, kiln: Kiln, job: Job, seconds: float) -> Job:
    """The job once it has ended, or as it stands when the time is up; as it stood, if that cannot be known."""
    if job.status in TERMINAL:
        return job
    with kiln.places.taken(job.owner):
        await wait_for_end(kiln.hub, request, Watch(job.owner, job_id=job.id), seconds)
    renew()
    with suppress(Unavailable):
        job = await kiln.pool.run(_find, kiln, job.owner, job.id)
    return job


def _find(kiln: Kiln, owner: str, job_id: UUID) -> Job:
    job = get_job(kiln.engine, owner, job_id)
    if job is None:
        raise _not_found(job_id)
    return job


def _not_found(job_id: UUID) -> NotFound:
    return NotFound(f"there is no job {show_id('job', job_id)}")


def _show(request: Request, kiln: Kiln, job: Job) -> schemas.Job:
    return _show_all(request, kiln, [job])[0]


def _show_all(request: Request, kiln: Kiln, found: Sequence[Job]) -> list[schemas.Job]:
    expected = outlooks(kiln.engine, found, alive_seconds=kiln.settings.lease_seconds)
    return [_show_one(request, kiln, job, expected.get(job.id)) for job in found]


def _show_one(request: Request, kiln: Kiln, job: Job, outlook: Outlook | None) -> schemas.Job:
    return show_job(
        job,
        outlook,
        base_url=str(request.base_url),
        objects=kiln.objects,
        url_seconds=kiln.settings.presign_seconds,
    )
