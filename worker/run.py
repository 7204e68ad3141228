"""THE job: a claim in; enhance, diffuse, score, store; one outcome out, settled. Reads from top to bottom."""

from common.errors import Interrupted, KilnError, Parked
from common.fault import fault
from common.jobs.claim import Claim
from common.jobs.state import TERMINAL, Stage
from worker.breaker import Breaker
from worker.hold import Hold
from worker.settle import Broken, Finished, Outcome, Stopped, settle
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.stages.score import score
from worker.stages.store import store
from worker.workshop import Workshop


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
    try:
        return _work(claim, hold, workshop)
    except Parked as reason:
        hold.checkpoints.keep(now=True)  # off the device, where the pictures would move on meanwhile
        return Stopped(reason)
    except Interrupted as reason:
        return Stopped(reason)
    except KilnError as error:
        return Broken(error, retryable=error.retryable)
    except Exception as error:  # a fault of ours: charged and tried again, until the failures are used up
        return Broken(KilnError(f"{type(error).__name__} in stage {hold.stage}"), retryable=True, cause=error)


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
