"""POST /v1/images/generations: a call in; its pictures out once the job has ended, for as long as a client waits."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.compat.answer import show_pictures
from api.compat.ask import as_job, in_their_words
from api.compat.route import OpenAIRoute, Retries
from api.compat.shapes import GENERATIONS, Generation, Images
from api.errors import PROBLEM
from api.jobs import IdempotencyKey, Prefer, read_wait, ring_for
from api.kiln import Kiln, KilnDep, SubmitterAndReader
from api.resolve import fingerprint, resolve
from common.errors import Conflict, JobFailed, NotFound, StillRunning, Unavailable
from common.ids import show_id
from common.jobs.call import Call, leave_call, open_call
from common.jobs.read import Job, get_job
from common.jobs.state import TERMINAL, Status
from common.jobs.submit import Submission, submit_job

router = APIRouter(tags=["openai"], route_class=OpenAIRoute)

HOLD_SECONDS = 540.0  # OpenAI's clients wait 600 by themselves
LISTEN_SECONDS = 0.1  # between two looks whether the client is still there
LOOK_SECONDS = (0.1, 1.0)  # between two looks at the job: the first, and the longest
CLIENT_GONE = 499  # nginx's word for it; nobody reads it but the metrics

ENDS: dict[int | str, dict[str, Any]] = {
    408: {"description": "the job goes on: the same call again waits for the same job", "content": PROBLEM},
    500: {"description": "the job failed; code and sentence are the job's", "content": PROBLEM},
}


@router.post(GENERATIONS, response_model=Images, response_model_exclude_none=True, responses=ENDS)
async def generate(
    asked: Generation,
    request: Request,
    kiln: KilnDep,
    owner: SubmitterAndReader,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    x_stainless_retry_count: Retries = 0,
) -> Images | Response:
    """Paint pictures, and answer once they are there. A client that gives up and asks again makes no second job."""
    with in_their_words():
        submission = resolve(as_job(asked), kiln.settings, owner=owner, idempotency_key=idempotency_key)
    wait = read_wait(prefer)
    seconds = HOLD_SECONDS if wait is None else min(wait, HOLD_SECONDS)
    again = x_stainless_retry_count > 0
    call = await run_in_threadpool(_open, kiln, submission, fingerprint(asked), again=again)
    answered = False
    try:
        job = await _hold(request, kiln, owner, call, seconds)
        if job is None:
            return Response(status_code=CLIENT_GONE)
        answer = await run_in_threadpool(_answer, kiln, job, asked.response_format)
        answered = not await request.is_disconnected()
        return answer
    except (JobFailed, Conflict):
        answered = True
        raise
    finally:
        with suppress(Unavailable):  # then it is free when the time is up that it may be held
            await run_in_threadpool(leave_call, kiln.engine, call, answered=answered)


def _open(kiln: Kiln, submission: Submission, digest: str, *, again: bool) -> Call:
    limits = {
        "max_queued": kiln.settings.max_queued,
        "max_queued_per_owner": kiln.settings.max_queued_per_owner,
    }
    if submission.idempotency_key:  # what a client names needs no guessing
        call = Call(submit_job(kiln.engine, submission, **limits), held_until=None)
    else:
        call = open_call(kiln.engine, submission, digest, again=again, hold_seconds=HOLD_SECONDS, **limits)
    ring_for(kiln, submission, call.receipt)
    return call


async def _hold(request: Request, kiln: Kiln, owner: str, call: Call, seconds: float) -> Job | None:
    """The job once it has ended, or when the time is up; None as soon as the client has gone.

    Holds no connection to the database between two looks, and looks less often at what takes long.
    """
    began = time.monotonic()
    shortest, longest = LOOK_SECONDS
    while True:
        job = await run_in_threadpool(get_job, kiln.engine, owner, call.receipt.job_id)
        if job is None:
            raise NotFound("the job was deleted while this call waited for it")
        waited = time.monotonic() - began
        if job.status in TERMINAL or waited >= seconds:
            return job
        look_at = time.monotonic() + min(longest, shortest + waited / 20, seconds - waited)
        while time.monotonic() < look_at:
            if await request.is_disconnected():
                return None
            await asyncio.sleep(min(LISTEN_SECONDS, max(0.0, look_at - time.monotonic())))


def _answer(kiln: Kiln, job: Job, response_format: str | None) -> Images:
    """The pictures. Raises what became of the job instead."""
    name = show_id("job", job.id)
    match job.status:
        case Status.SUCCEEDED:
            return show_pictures(kiln, job, response_format)
        case Status.FAILED:
            error = job.error or {}
            raise JobFailed(str(error.get("code")), f"{name} failed: {error.get('message')}")
        case Status.CANCELED | Status.EXPIRED:
            raise Conflict(f"{name} was {job.status} while this call waited for it")
        case _:
            raise StillRunning(f"{name} is {job.status} and goes on; the same call again waits for it")
