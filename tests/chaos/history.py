"""One job's events in; what in them breaks a promise, and how long lost attempts took to be made good, out. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

OVER = ("succeeded", "failed", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a job's state, as the database wrote it down."""

    at: datetime
    attempt: int
    from_status: str | None
    to_status: str


def second_ends(job: str, events: Sequence[Event]) -> list[str]:
    """A job has one end."""
    ends = [event.to_status for event in events if event.to_status in OVER]
    return [f"{job} ended {len(ends)} times: {', '.join(ends)}"] if len(ends) > 1 else []


def broken_history(job: str, status: str, events: Sequence[Event]) -> list[str]:
    """Each event begins where the one before it ended, none comes after the end, and the last one is the row's."""
    states = [event.to_status for event in events]
    said = []
    if any(state in OVER for state in states[:-1]):
        said.append(f"{job} has events after its end: {', '.join(states)}")
    if [event.from_status for event in events] != [None, *states[:-1]]:
        said.append(f"{job} has events that do not follow from each other: {', '.join(states)}")
    if states[-1:] != [status]:
        said.append(f"{job} is {status}, and its last event says {states[-1] if states else 'nothing'}")
    attempts = [event.attempt for event in events if event.to_status == "running"]
    if attempts != list(range(1, len(attempts) + 1)):
        said.append(f"{job} began attempts {attempts}")
    return said


def recoveries(events: Sequence[Event]) -> list[float]:
    """Of each attempt that gave no end: the seconds from its beginning to that of the next one, or to the end."""
    marks = [event for event in events if event.to_status != "queued"]
    return [
        (later.at - earlier.at).total_seconds()
        for earlier, later in pairwise(marks)
        if earlier.to_status == "running" and later.from_status == "queued"
    ]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The least value that ``share`` of the values do not exceed; None of no values."""
    return round(sorted(values)[math.ceil(share * len(values)) - 1], 2) if values else None
