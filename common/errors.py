"""The glossary of what can go wrong: for each class a sentence, an HTTP status, and whether trying again can help."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, named by its JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


class KilnError(Exception):
    """Something that a user or an operator is told about by ``code``; the message is the sentence they read."""

    code = "internal_error"
    status = 500
    retryable = False
    retry_after = 2  # seconds, where trying again can help

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


def as_json(error: KilnError) -> dict[str, str | bool]:
    """How a failed job's row tells its error."""
    return {"code": error.code, "message": error.detail, "retryable": error.retryable}


# What a request can do wrong


class MalformedBody(KilnError):
    """The body is not the JSON that the endpoint reads."""

    code, status = "malformed_body", 400


class Unauthorized(KilnError):
    """No API key, or one that is unknown, revoked or expired; the answer is the same."""

    code, status = "unauthorized", 401


class Forbidden(KilnError):
    """This caller may not do this: its key lacks the scope; or there are no keys, and it is not on this machine."""

    code, status = "forbidden", 403


class NotFound(KilnError):
    """There is no such thing, or it belongs to somebody else; the answer is the same."""

    code, status = "not_found", 404


class Conflict(KilnError):
    """The job is not in a state in which this can be done."""

    code, status = "conflict", 409


class UnknownMediaType(KilnError):
    """The body is of a kind that the endpoint does not read."""

    code, status = "unknown_media_type", 415


class BodyTooLarge(KilnError):
    """The body is longer than the limit."""

    code, status = "body_too_large", 413


class BodyCut(KilnError):
    """The connection ended before the body did: nothing was done."""

    code, status = "body_cut", 400


class BodyTooSlow(KilnError):
    """The body comes so slowly that it is not waited for any longer: nothing was done."""

    code, status, retryable = "body_too_slow", 408, True


class InvalidRequest(KilnError):
    """A field is outside what this deployment accepts; ``errors`` names it."""

    code, status = "invalid_request", 422


class BadParameter(KilnError):
    """The same, as OpenAI's clients know it: they take a 422 for something else."""

    code, status = "invalid_value", 400


class IdempotencyMismatch(KilnError):
    """The idempotency key was used before with another body."""

    code, status = "idempotency_key_reused", 422


class QueueFull(KilnError):
    """The queue holds as many jobs as it may, or as many of this owner."""

    code, status, retryable = "queue_full", 429, True


class RateLimited(KilnError):
    """The key made as many requests as it may in a minute."""

    code, status, retryable = "rate_limited", 429, True

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Overloaded(KilnError):
    """The API has as much in hand as it may have at once."""

    code, status, retryable, retry_after = "overloaded", 503, True, 5


class TooManyOpen(KilnError):
    """As many requests that wait, follow or download are open as there may be, or as many of this owner."""

    code, status, retryable = "too_many_open", 429, True


class StillRunning(KilnError):
    """The job goes on, and the call that waits for it has waited long enough: the next one goes on waiting."""

    code, status, retryable = "still_running", 408, True


class JobFailed(KilnError):
    """The job that the call waited for failed; code and sentence are the job's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unavailable(KilnError):
    """A service that the answer needs is down."""

    code, status, retryable = "unavailable", 503, True


# What can end a job


class StorageError(KilnError):
    """The object store did not take or give an object."""

    code, status, retryable = "storage_unavailable", 503, True


class OutOfDeviceMemory(KilnError):
    """The picture does not fit into the device's memory."""

    code = "out_of_memory"


class NumericalError(KilnError):
    """The latents became NaN or infinite."""

    code = "numerical_error"


class WorkerLost(KilnError):
    """Workers died or went silent with this job too often. Written by the sweeper, never raised."""

    code = "worker_lost"


class DeadlinePassed(KilnError):
    """One attempt ran longer than KILN_JOB_SECONDS."""

    code = "job_deadline_passed"


class DeviceFailed(KilnError):
    """The device failed with this job, again and again."""

    code = "device_failed"


class ModelNotLoadable(KilnError):
    """A part of a model cannot be loaded: says which, from where, and why."""

    code = "model_not_loadable"


class Interrupted(Exception):
    """Base of the reasons for which a running job gives up its seat between two steps: no errors of the job."""


class JobCanceled(Interrupted):
    """Its user asked for it."""


class Parked(Interrupted):
    """Base of the reasons to give the job back unharmed, and to go on later where it is."""

    error: KilnError | None = None  # what went wrong, where something did


class WorkerDraining(Parked):
    """The worker is asked to stop."""


class NotNow(Parked):
    """Its batch was paused, or its window has closed."""


class OutOfTime(Parked):
    """The attempt has lasted KILN_JOB_SECONDS: the next one goes on from what it did, or from what it waited for."""

    error = DeadlinePassed("the attempt lasted as long as one may: the next goes on where it stopped")


class Excused(Parked):
    """Base of the reasons that do not look like the job's fault, but may be: so often they are (charge.py), no more."""

    error: KilnError  # what the job is charged with beyond that


class NoProgress(Excused):
    """The same, and it neither took a step nor waited for something: the next one would end as this one did."""

    error = DeadlinePassed("attempts took as long as one may, without a single step")


class DeviceLost(Excused):
    """The device is of no more use to this process, whichever job it was that broke it."""

    error = DeviceFailed("the device failed with this job again and again")


class LeaseLost(Interrupted):
    """Another worker may hold the job now: nothing more may be written."""
