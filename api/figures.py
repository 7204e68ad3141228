"""A batch's jobs in; what the morning's report says of them in numbers, out. Pure."""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from common.ids import show_id
from common.jobs.read import Job
from common.jobs.state import Status

AXES = ("prompt", "style", "scheduler")
EXAMPLES = 3  # jobs that are named for each reason of failing


@dataclass(slots=True)
class Failure:
    """Jobs that ended the same way without pictures."""

    status: str
    code: str
    detail: str
    jobs: int = 0
    examples: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)  # of the examples

    @property
    def shown(self) -> list[tuple[str, str]]:
        return list(zip(self.examples, self.prompts, strict=True))


@dataclass(slots=True)
class Figures:
    """Scores by what was asked for, failures by reason, and what it took."""

    scores: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {axis: {} for axis in AXES})
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)  # pictures kept of each prompt and style
    pictures: int = 0
    kept: int = 0
    evaluations: int = 0
    seconds: float = 0.0  # of workers
    retried: int = 0  # jobs that were tried again, and the new one is over
    reused: int = 0  # jobs that were over at once: neither evaluations nor seconds were spent on them

    def add(self, job: Job) -> None:
        self.statuses[job.status] += 1
        self.retried += job.retried_from is not None
        if job.reused_from:
            self.reused += 1
        else:
            self.evaluations += job.progress_done
        if job.started_at and job.finished_at:
            self.seconds += (job.finished_at - job.started_at).total_seconds()
        if job.status in (Status.FAILED, Status.EXPIRED):
            self._add_failure(job)
        for image in job.images:
            self.pictures += 1
            for axis in AXES:
                self.scores[axis].setdefault(getattr(job.spec, axis), []).append(image.clip_score)
        if kept := sum(image.key is not None for image in job.images):
            self.kept += kept
            self.cells[job.spec.prompt, job.spec.style] += kept

    def _add_failure(self, job: Job) -> None:
        error = job.error or {"code": job.status.value, "message": "its deadline passed before it started"}
        code, detail = str(error.get("code", "")), str(error.get("message") or error.get("detail") or "")
        failure = self.failures.setdefault((job.status, code, detail), Failure(job.status.value, code, detail))
        failure.jobs += 1
        if len(failure.examples) < EXAMPLES:
            failure.examples.append(show_id("job", job.id))
            failure.prompts.append(job.spec.prompt)

    def groups(self, axis: str) -> list[dict[str, Any]]:
        """For each value of the axis, in the order asked: how many pictures, mean, spread, least and most score."""
        return [
            {
                axis: value,
                "pictures": len(scores),
                "mean": round(statistics.fmean(scores), 2),
                "deviation": round(statistics.stdev(scores), 2) if len(scores) > 1 else None,
                "least": round(min(scores), 2),
                "most": round(max(scores), 2),
            }
            for value, scores in self.scores[axis].items()
        ]


def count(jobs: Iterable[Job]) -> Figures:
    """All figures of the jobs. Scores are kept one by one: eight bytes and a little for each picture."""
    figures = Figures()
    for job in jobs:
        figures.add(job)
    return figures
