"""POST /v1/images/generations: a call in; its pictures out once the job has ended, for as long as a client waits."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response

from api.compat.answer import show_pictures
from api.compat.ask import as_job, in_their_words
from api.compat.route import OpenAIRoute, Retries
from api.compat.shapes import GENERATIONS, Generation, Images
from api.errors import PROBLEM
from api.held import wait_for_end
from api.jobs import IdempotencyKey, Prefer, read_wait, ring_for
from api.kiln import Kiln, KilnDep, SubmitterAndReader
from api.pools import renew
from api.resolve import fingerprint, resolve
from common.errors import Conflict, JobFailed, NotFound, StillRunning, Unavailable
from common.ids import show_id
from common.jobs.call import Call, leave_call, open_call
from common.jobs.log import Watch
from common.jobs.read import Job, get_job
from common.jobs.state import Status
from common.jobs.submit import Submission, submit_job

router = APIRouter(tags=["openai"], route_class=OpenAIRoute)

HOLD_SECONDS = 540.0  # OpenAI's clients wait 600 by themselves
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
    with kiln.places.taken(owner):  # first: what is refused makes no job
        call = await kiln.pool.run(_open, kiln, submission, fingerprint(asked), again=again)
        answered = False
        try:
            if not await wait_for_end(kiln.hub, request, Watch(owner, job_id=call.receipt.job_id), seconds):
                return Response(status_code=CLIENT_GONE)
            renew()
            answer = await _answer(kiln, await _find(kiln, owner, call), asked.response_format)
            answered = not await request.is_disconnected()
            return answer
        except (JobFailed, Conflict):
            answered = True
            raise
        finally:
            with suppress(Unavailable):  # then it is free when the time is up that it may be held
                await kiln.pool.run(leave_call, kiln.engine, call, answered=answered)


def _open(kiln: Kiln, submission: Submission, digest: str, *, again: bool) -> Call:
    limits: dict[str, Any] = {
        "max_queued": kiln.settings.max_queued,
        "max_queued_per_owner": kiln.settings.max_queued_per_owner,
        "alive_seconds": kiln.settings.lease_seconds,
    }
    if submission.idempotency_key:  # what a client names needs no guessing
        call = Call(submit_job(kiln.engine, submission, **limits), held_until=None)
    else:
        call = open_call(kiln.engine, submission, digest, again=again, hold_seconds=HOLD_SECONDS, **limits)
    ring_for(kiln, submission, call.receipt)
    return call


async def _find(kiln: Kiln, owner: str, call: Call) -> Job:
    job = await kiln.pool.run(get_job, kiln.engine, owner, call.receipt.job_id)
    if job is None:
        raise NotFound("the job was deleted while this call waited for it")
    return job


async def _answer(kiln: Kiln, job: Job, response_format: str | None) -> Images:
    """The pictures. Raises what became of the job instead."""
    name = show_id("job", job.id)
    match job.status:
        case Status.SUCCEEDED:
            return await show_pictures(kiln, job, response_format)
        case Status.FAILED:
            error = job.error or {}
            raise JobFailed(str(error.get("code")), f"{name} failed: {error.get('message')}")
        case Status.CANCELED | Status.EXPIRED:
            raise Conflict(f"{name} was {job.status} while this call waited for it")
        case _:
            raise StillRunning(f"{name} is {job.status} and goes on; the same call again waits for it")
