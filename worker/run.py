"""THE job: a claim in; enhance, diffuse, score, store; one outcome out, settled. Reads from top to bottom."""

from functools import partial

import structlog

from common.errors import DeviceLost, JobCanceled, KilnError, LeaseLost, Parked
from common.fault import fault
from common.jobs.claim import Claim
from common.jobs.state import TERMINAL, Stage
from worker.breaker import Breaker
from worker.diffusion.faults import Failed, attempt
from worker.diffusion.guard import Guard
from worker.hold import Hold
from worker.settle import Broken, Finished, Outcome, Stopped, settle
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.stages.score import score
from worker.stages.store import store
from worker.workshop import Workshop

log = structlog.get_logger()


def run(claim: Claim, workshop: Workshop) -> None:
    """Do the claimed job and settle it. Raises nothing: whatever goes wrong becomes the job's outcome."""
    with workshop.hold(claim) as hold:
        outcome = _attempt(claim, hold, workshop)
        _judge(outcome, claim, workshop.breaker)
        fault("finishing")
        status = settle(claim, outcome, workshop)
        fault("finished")
        if status in TERMINAL:
            hold.checkpoints.remove()


def _attempt(claim: Claim, hold: Hold, workshop: Workshop) -> Outcome:
    finished = attempt(partial(_work, claim, hold, workshop))
    if not isinstance(finished, Failed):
        return finished
    try:
        return _conclude(finished.error, hold, workshop)
    except DeviceLost as reason:
        return Stopped(reason)


def _conclude(error: BaseException, hold: Hold, workshop: Workshop) -> Outcome:
    """What an attempt ended in that raised ``error``. Raises DeviceLost."""
    guard = workshop.device.guard
    match error:
        case JobCanceled() | LeaseLost():
            return Stopped(error)
        case _ if guard.lost:  # whatever it looks like to this job
            raise DeviceLost(guard.lost)
        case Parked():
            _keep(hold, guard)
            return Stopped(error)
        case KilnError():
            return Broken(error, retryable=error.retryable)
        case Exception():  # a fault of ours: charged and tried again, until the failures are used up
            told = KilnError(f"{type(error).__name__} in stage {hold.stage}")
            return Broken(told, retryable=True, cause=error)
    raise error


def _keep(hold: Hold, guard: Guard) -> None:
    """Off the device's ticks, in which the pictures would move on meanwhile. Raises DeviceLost."""
    try:
        with guard.reading():
            hold.checkpoints.keep(now=True)
    except DeviceLost:
        raise
    except Exception:  # the job goes back all the same
        log.exception("checkpoint not kept")


def _judge(outcome: Outcome, claim: Claim, breaker: Breaker) -> None:
    """What the outcome says of the worker: one whose attempts mostly fail must claim no more."""
    match outcome:
        case Finished():
            breaker.succeeded(claim)
        case Broken(error):
            breaker.failed(claim, error)
        case Stopped():
            breaker.unused()


def _work(claim: Claim, hold: Hold, workshop: Workshop) -> Finished:
    spec, model, device = claim.spec, workshop.models[claim.spec.model], workshop.device

    hold.enter(Stage.ENHANCE)
    texts = enhance(spec, model, device)

    hold.enter(Stage.DIFFUSE, {"styled_prompt": texts.styled_prompt, "enhanced_prompt": texts.enhanced_prompt})
    rendered = diffuse(spec, texts, model, device, hold)

    hold.enter(Stage.SCORE)
    scored = score(spec, texts, rendered, model, device)

    hold.enter(Stage.STORE)
    stored = store(claim.job_id, claim.attempt, spec, rendered, scored, hold.insisting(workshop.objects.put))

    return Finished(stored, rendered.recipe, hold.timings())
