"""The morning's report: a batch and its jobs in; one HTML file that opens offline, or CSV, or JSON, out, as it is made.

Of a large batch it holds the scores, and the jobs of one prompt at a time.
"""

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from api.figures import AXES, Figures, count
from common.errors import NotFound
from common.ids import show_id
from common.jobs.read import Image, Job
from common.jobs.tally import Batch
from common.objects import Objects

Jobs = Callable[[], Iterator[Job]]

MAX_PICTURES = 2000  # of a contact sheet
MAX_DOTS = 300  # of a plot
WIDTH, HEIGHT = 320, 22  # of a plot, in pixels

COLUMNS = (
    "job", "custom_id", "status", "prompt", "style", "scheduler", "num_inference_steps", "guidance_scale", "model",
    "seed", "clip_score", "kept", "width", "height", "sha256", "error",
)  # fmt: skip


def stream_html(batch: Batch, jobs: Jobs, objects: Objects) -> Iterator[str]:
    """The whole report. ``jobs`` is asked twice. Raises StorageError where the store goes away: the file is cut off."""
    figures = count(jobs())
    template = Environment(loader=PackageLoader("api", "."), autoescape=select_autoescape()).get_template("report.html")
    per_cell = max(1, MAX_PICTURES // max(1, len(figures.cells)))
    styles = list(figures.scores["style"])
    yield from template.generate(
        batch=batch,
        id=show_id("batch", batch.id),
        figures=figures,
        tables=[(axis, _plotted(figures, axis)) for axis in AXES if axis == "prompt" or len(figures.scores[axis]) > 1],
        styles=styles if len(styles) > 1 else [],
        rows=_rows(jobs(), objects, per_cell),
        rerun=sum(failure.jobs for failure in figures.failures.values()),
    )


def stream_csv(jobs: Jobs) -> Iterator[str]:
    """A header, and a line for each picture; a job without pictures has one line."""
    yield _csv_line(dict(zip(COLUMNS, COLUMNS, strict=True)))
    for job in jobs():
        asked = {name: getattr(job.spec, name) for name in COLUMNS if hasattr(job.spec, name)}
        own = asked | {"job": show_id("job", job.id), "custom_id": job.custom_id, "status": job.status.value}
        for image in job.images:
            yield _csv_line(
                own
                | {name: getattr(image, name) for name in ("seed", "width", "height", "sha256")}
                | {"clip_score": round(image.clip_score, 2), "kept": image.key is not None}
            )
        if not job.images:
            yield _csv_line(own | {"error": (job.error or {}).get("code")})


def make_json(batch: Batch, jobs: Jobs) -> str:
    """The report's figures."""
    figures = count(jobs())
    return json.dumps(
        {
            "object": "report",
            "batch": show_id("batch", batch.id),
            "name": batch.name,
            "status": batch.status.value,
            "jobs": dict(figures.statuses),
            "pictures": figures.pictures,
            "kept": figures.kept,
            "reused": figures.reused,
            "evaluations": figures.evaluations,
            "worker_seconds": round(figures.seconds, 1),
            "scores": {axis: figures.groups(axis) for axis in AXES},
            "failures": [asdict(failure) for failure in figures.failures.values()],
        }
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of the contact sheet."""

    source: str  # a data: URL
    score: float
    seed: int
    job: str


@dataclass(frozen=True, slots=True)
class Row:
    """What there is of one prompt: the best pictures of each style, and how many are not shown."""

    prompt: str
    cells: dict[str, list[Shown]]
    more: int


def _rows(jobs: Iterator[Job], objects: Objects, per_cell: int) -> Iterator[Row]:
    """Jobs of one prompt stand together, as they were asked for."""
    for prompt, found in groupby(jobs, key=lambda job: job.spec.prompt):
        pictures: dict[str, list[tuple[Image, Job]]] = {}
        for job in found:
            pictures.setdefault(job.spec.style, []).extend((image, job) for image in job.images if image.key)
        best = {style: sorted(own, key=_score, reverse=True)[:per_cell] for style, own in pictures.items()}
        shown = {style: [each for one in own if (each := _show(*one, objects))] for style, own in best.items()}
        more = sum(map(len, pictures.values())) - sum(map(len, shown.values()))
        if any(shown.values()):
            yield Row(prompt, shown, more)


def _score(found: tuple[Image, Job]) -> float:
    return found[0].clip_score


def _show(image: Image, job: Job, objects: Objects) -> Shown | None:
    assert image.thumbnail_key is not None  # noqa: S101 - only kept pictures come here
    try:
        data = b"".join(objects.open(image.thumbnail_key))
    except NotFound:  # deleted by its owner meanwhile
        return None
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return Shown(source, round(image.clip_score, 2), image.seed, show_id("job", job.id))


def _plotted(figures: Figures, axis: str) -> list[dict[str, Any]]:
    """The groups of an axis, each with where its dots, its mean and its spread lie on a scale that all share."""
    everything = [score for scores in figures.scores[axis].values() for score in scores]
    if not everything:
        return []
    low, high = min(everything), max(everything)

    def place(score: float) -> float:
        return round(6 + (WIDTH - 12) * (score - low) / ((high - low) or 1), 1)

    return [
        group
        | {
            "value": group[axis],
            "dots": [place(score) for score in scores[:: max(1, len(scores) // MAX_DOTS)]],
            "middle": place(group["mean"]),
            "reach": [place(max(low, min(high, group["mean"] + side * (group["deviation"] or 0)))) for side in (-1, 1)],
        }
        for group, scores in zip(figures.groups(axis), figures.scores[axis].values(), strict=True)
    ]


def _csv_line(values: dict[str, Any]) -> str:
    line = io.StringIO()
    csv.DictWriter(line, COLUMNS, extrasaction="ignore").writerow(values)
    return line.getvalue()
