"""The same jobs through Kiln, a plain loop and a Celery task per job, in turn; pictures per second of each out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.rivals import Loop, Naive, through_kiln
from client.api import Kiln
from common.jobs.spec import JobSpec
from common.local.stack import running_stack


@dataclass(frozen=True, slots=True)
class Speeds:
    """Pictures per second, turn by turn."""

    kiln: list[float]
    plain: list[float]
    naive: list[float]


def race(home: Path, model: str, courses: Sequence[Sequence[JobSpec]], rounds: int) -> list[Speeds]:
    """For each course, a list of jobs, the speeds. Each system is idle while another works."""
    speeds: dict[int, Speeds] = defaultdict(lambda: Speeds([], [], []))
    with (
        running_stack(home, model=model) as stack,
        Kiln(stack.api_url) as kiln,
        Loop(home, model) as loop,
        Naive(home, model, stack.services) as naive,
    ):
        for course in courses:  # what is first of its kind takes longer
            through_kiln(kiln, course[:2])
            loop.paint(course[:2])
            naive.paint(course[:2])
        for _ in range(rounds):
            for number, course in enumerate(courses):
                speeds[number].plain.append(len(course) / loop.paint(course))
                speeds[number].kiln.append(len(course) / through_kiln(kiln, course))
                speeds[number].naive.append(len(course) / naive.paint(course))
    return list(speeds.values())
