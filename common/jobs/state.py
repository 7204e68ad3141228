"""The states of a job and every arrow between them. README's diagram and the database's trigger follow it, by test."""

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"  # waits for its time and a free seat
    RUNNING = "running"  # held by one worker under a lease
    SUCCEEDED = "succeeded"  # its images exist
    FAILED = "failed"  # a permanent error, or failures used up
    CANCELED = "canceled"  # its user asked for it
    EXPIRED = "expired"  # its deadline passed before it started


class Stage(StrEnum):
    """Where a running job is. Progress, not state."""

    ENHANCE = "enhance"
    DIFFUSE = "diffuse"
    SCORE = "score"
    STORE = "store"


class Lane(StrEnum):
    """Interactive jobs go before batch jobs."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class BatchStatus(StrEnum):
    """Where a batch is: read off its jobs, and off what its owner asked for."""

    QUEUED = "queued"  # none of its jobs has started
    RUNNING = "running"
    PAUSED = "paused"  # its user lets none start
    COMPLETED = "completed"  # all its jobs are over; their counts say how
    CANCELED = "canceled"  # its user asked for it; what runs stops at its next step


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})

TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.QUEUED, Status.RUNNING): "claim",
    (Status.QUEUED, Status.CANCELED): "cancel",
    (Status.QUEUED, Status.EXPIRED): "deadline passed",
    (Status.RUNNING, Status.SUCCEEDED): "images stored",
    (Status.RUNNING, Status.FAILED): "permanent error or failures used up",
    (Status.RUNNING, Status.CANCELED): "cancel seen",
    (Status.RUNNING, Status.QUEUED): "parked, retried or lease ran out",
}
