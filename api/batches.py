"""Batches over HTTP: a matrix, or lines, in; one batch of many jobs out, all or none; then shown and steered.

What became of one is told in api/outcome.py.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api import orders, schemas
from api.compat import shapes
from api.compat.batches import read_if_order, read_order, show_order
from api.compat.route import Retries
from api.estimate import estimate
from api.intake import BODY, Asked, check_kind, fingerprint, read_batch
from api.jobs import IdempotencyKey
from api.kiln import Kiln, KilnDep, Reader, Submitter, reads_many, writes_many
from api.outcome import find
from api.receipt import LongReceiptRoute
from api.request_body import spooled
from api.route import media_type
from api.turns import LARGE_BYTES, LARGE_JOBS
from api.views import show_batch
from common.errors import InvalidRequest, NotFound
from common.ids import parse_id, show_id
from common.jobs import steer
from common.jobs.batch import BatchReceipt, submit_batch
from common.jobs.batch import retry_failed as retry_failed_jobs
from common.jobs.replay import find_batch
from common.jobs.retention import delete_batch
from common.jobs.tally import Batch, list_batches

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=LongReceiptRoute)

Shown = orders.Batch | shapes.Batch
WAKE = 16  # messages: each wakes a seat, which then goes on until nothing is due; others look by themselves


@router.post("", status_code=202, response_model=Shown | orders.Estimate, openapi_extra=BODY)
async def create(
    options: Annotated[orders.LineOptions, Query()],
    request: Request,
    response: Response,
    kiln: KilnDep,
    owner: Submitter,
    idempotency_key: IdempotencyKey = None,
    x_stainless_retry_count: Retries = 0,
) -> Shown | orders.Estimate:
    """Queue a batch: every combination of a JSON matrix, or a job for each line of NDJSON or CSV.

    All its jobs, or none. A line is {"prompt": "a cat", "seed": 1, "custom_id": "mine"}; CSV has these as columns.
    The options of lines stand in the query. With dry_run the answer is 200 and what the batch would be. JSON that
    names an input_file_id is OpenAI's, and so is the shape in which the batch that it makes is shown from then on.
    """
    kind = check_kind(media_type(request))
    async with spooled(request) as body:
        order = await run_in_threadpool(read_if_order, body, kind)
        read: Callable[[], Asked]
        if order is not None:
            read = partial(read_order, order, options, kiln.writing, owner, again=x_stainless_retry_count > 0)
        else:
            read = partial(read_batch, body, kind, options, kiln.settings, owner)
        sent = partial(fingerprint, body, kind, options)
        large = order is not None or body.seek(0, os.SEEK_END) > LARGE_BYTES
        body.seek(0)
        async with kiln.turns.taken(owner, large=large):
            asked = await _read(read, sent, kiln.writing, owner, idempotency_key, asks_database=order is not None)
    large = isinstance(asked, Asked) and not asked.dry_run and asked.plan.jobs > LARGE_JOBS
    async with kiln.turns.taken(owner, large=large):
        return await kiln.writing.pool.run(_submit, asked, request, response, kiln.writing, owner, idempotency_key)


@router.get("", response_model=schemas.Page[Shown])
@reads_many
def index(
    request: Request,
    kiln: KilnDep,
    owner: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="last_id of the page before")] = None,
) -> schemas.Page[Shown]:
    """The caller's batches, newest first."""
    older = parse_id("batch", after) if after else None
    found, more = list_batches(kiln.engine, owner, after=older, limit=limit, alive_seconds=kiln.settings.lease_seconds)
    shown = [_show_either(batch, request) for batch in found]
    return schemas.Page(data=shown, has_more=more, last_id=shown[-1].id if shown else None)


@router.get("/{batch_id}", response_model=Shown)
@reads_many
def show(batch_id: str, request: Request, kiln: KilnDep, owner: Reader) -> Shown:
    """One batch as it stands."""
    return _show(request, kiln, owner, parse_id("batch", batch_id))


@router.post("/{batch_id}/pause", response_model=Shown)
@writes_many
def pause(batch_id: str, request: Request, kiln: KilnDep, owner: Submitter) -> Shown:
    """Let none of its jobs start; those that run are kept at their step."""
    key = parse_id("batch", batch_id)
    steer.pause_batch(kiln.engine, owner, key)
    return _show(request, kiln, owner, key)


@router.post("/{batch_id}/resume", response_model=Shown)
@writes_many
def resume(batch_id: str, request: Request, kiln: KilnDep, owner: Submitter) -> Shown:
    """Let its jobs start again."""
    key = parse_id("batch", batch_id)
    _ring(kiln, steer.resume_batch(kiln.engine, owner, key))
    return _show(request, kiln, owner, key)


@router.post("/{batch_id}/cancel", response_model=Shown)
@writes_many
def cancel(batch_id: str, request: Request, kiln: KilnDep, owner: Submitter) -> Shown:
    """Cancel its jobs: none starts any more, those that run stop at their next step. What is over stays as it is.

    The counts of a very large batch follow within seconds.
    """
    key = parse_id("batch", batch_id)
    steer.cancel_batch(kiln.engine, owner, key)
    return _show(request, kiln, owner, key)


@router.post("/{batch_id}/retry-failed", status_code=202, response_model=Shown)
@writes_many
def retry_failed(batch_id: str, request: Request, kiln: KilnDep, owner: Submitter) -> Shown:
    """Add a new job, with retried_from, for each that failed or expired and has none yet."""
    key = parse_id("batch", batch_id)
    models = retry_failed_jobs(
        kiln.engine,
        owner,
        key,
        max_queued=kiln.settings.max_queued,
        max_queued_per_owner=kiln.settings.max_queued_per_owner,
    )
    _ring(kiln, models)
    return _show(request, kiln, owner, key)


@router.delete("/{batch_id}", status_code=204)
def delete(batch_id: str, kiln: KilnDep, owner: Submitter) -> None:
    """Delete a batch that is over, with its jobs; their pictures go soon after that."""
    key = parse_id("batch", batch_id)
    if not delete_batch(kiln.engine, owner, key):
        raise NotFound(f"there is no batch {show_id('batch', key)}")


async def _read(
    read: Callable[[], Asked],
    sent: Callable[[], str],
    kiln: Kiln,
    owner: str,
    idempotency_key: str | None,
    *,
    asks_database: bool,
) -> Asked | BatchReceipt:
    """What is asked for. What only computes is in no hurry: it runs where no answer of a service is waited for."""
    try:
        return await (kiln.pool.run(read) if asks_database else run_in_threadpool(read))
    except InvalidRequest:  # what was accepted once is so again, though its deadline has passed meanwhile
        digest = await run_in_threadpool(sent)
        first = await kiln.pool.run(find_batch, kiln.engine, owner, idempotency_key, digest)
        if first is None:
            raise
        return BatchReceipt(first, replayed=True)


def _submit(
    asked: Asked | BatchReceipt,
    request: Request,
    response: Response,
    kiln: Kiln,
    owner: str,
    idempotency_key: str | None,
) -> Shown | orders.Estimate:
    if isinstance(asked, BatchReceipt):
        return _tell(request, response, kiln, owner, asked)
    if asked.dry_run:
        response.status_code = 200
        return estimate(kiln, owner, asked.plan)
    submissions = list(asked.plan.submissions())
    receipt = submit_batch(
        kiln.engine,
        replace(asked.batch, idempotency_key=idempotency_key),
        submissions,
        max_queued=kiln.settings.max_queued,
        max_queued_per_owner=kiln.settings.max_queued_per_owner,
        alive_seconds=kiln.settings.lease_seconds,
    )
    if receipt.due:
        _ring(kiln, [one.spec.model for one in submissions])
    return _tell(request, response, kiln, owner, receipt)


def _tell(request: Request, response: Response, kiln: Kiln, owner: str, receipt: BatchReceipt) -> Shown:
    if receipt.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = f"{request.base_url}v1/batches/{show_id('batch', receipt.batch_id)}"
    return _show(request, kiln, owner, receipt.batch_id)


def _ring(kiln: Kiln, models: Sequence[str]) -> None:
    """Wake some seats for jobs of these models; where the broker is away, seats look by themselves."""
    for model, count in Counter(models).items():
        for _ in range(min(count, WAKE)):
            if not kiln.doorbell.ring(model):
                return


def _show(request: Request, kiln: Kiln, owner: str, batch_id: UUID) -> Shown:
    return _show_either(find(kiln, owner, batch_id), request)


def _show_either(batch: Batch, request: Request) -> Shown:
    """In the shape of the API that it was made by."""
    show = show_order if batch.input_file_id else show_batch
    return show(batch, base_url=str(request.base_url))
