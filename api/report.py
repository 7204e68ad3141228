"""The morning's report: a batch and its jobs in; one HTML file that opens offline, or CSV, or JSON, out, as it is made.

Of a large batch it holds the scores, and the jobs of one prompt at a time.
"""

import base64
import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from api.archive import Open
from api.figures import AXES, Figures, count
from api.plots import plot
from common.ids import show_id
from common.jobs.read import Image, Job
from common.jobs.state import Status
from common.jobs.tally import Batch
from common.names import duration

Jobs = Callable[[], Iterator[Job]]

MAX_PICTURES = 2000  # of a contact sheet
ORDER = (Status.SUCCEEDED, Status.FAILED, Status.EXPIRED, Status.CANCELED, Status.RUNNING, Status.QUEUED)
AHEAD = 8  # rows whose thumbnails are fetched before the page gets to them, and thumbnails fetched at once
TEMPLATES = Environment(loader=PackageLoader("api", "."), autoescape=select_autoescape())

# Wide forms too: spreadsheets of East Asia read them as the narrow ones. Space before it is cut off by some
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+@\-\uff0b\uff0d\uff1d\uff20]")

COLUMNS = (
    "job", "custom_id", "status", "prompt", "style", "scheduler", "num_inference_steps", "guidance_scale", "model",
    "seed", "clip_score", "kept", "width", "height", "sha256", "error",
)  # fmt: skip


def stream_html(batch: Batch, jobs: Jobs, open_object: Open) -> Iterator[str]:
    """The whole report. ``jobs`` is asked twice. Raises StorageError where the store goes away: the file is cut off."""
    figures = count(jobs())
    cells, most = len(figures.cells), max(figures.cells.values(), default=0)
    per_cell = max(1, MAX_PICTURES // max(1, cells))
    counts = [(status.value, batch.counts[status]) for status in ORDER if batch.counts.get(status)]
    yield from TEMPLATES.get_template("report.html").generate(
        batch=batch,
        id=show_id("batch", batch.id),
        told=_tell(batch, figures),
        counts=counts,
        bar=_bar(counts),
        figures=figures,
        spent=duration,
        tables=[plot(figures, axis) for axis in AXES if axis == "prompt" or len(figures.scores[axis]) > 1]
        if figures.pictures
        else [],
        styles=list(figures.scores["style"]),
        cards=len(figures.scores["style"]) == 1 and most == 1,
        many=min(4, most, per_cell),
        rows=_rows(jobs(), open_object, per_cell),
        rerun=sum(failure.jobs for failure in figures.failures.values()) - figures.retried,
    )


def _bar(counts: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """A part of a bar for each state, as long as it has jobs; a hundredth at least, to be seen at all."""
    least = sum(jobs for _, jobs in counts) / 100
    parts, x = [], 0.0
    for status, jobs in counts:
        width = max(jobs, least)
        parts.append({"status": status, "x": round(x, 3), "width": round(width, 3)})
        x += width
    return {"width": round(x, 3) or 1, "parts": parts}


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
    width: int
    height: int
    score: float
    seed: int
    best: bool  # of all pictures of its prompt that are shown, where there are several


@dataclass(frozen=True, slots=True)
class Row:
    """What there is of one prompt: the best pictures of each style, and how many are not shown."""

    prompt: str
    cells: dict[str, list[Shown]]
    more: int


def _tell(batch: Batch, figures: Figures) -> str:
    """The morning in a sentence."""
    jobs, done = sum(batch.counts.values()), batch.counts.get(Status.SUCCEEDED, 0)
    if done == jobs:
        return f"All {jobs:,} jobs succeeded." if jobs > 1 else "The job succeeded."
    left = batch.counts.get(Status.QUEUED, 0) + batch.counts.get(Status.RUNNING, 0)
    reasons = [f"{jobs - done - left:,} did not"] * (jobs > done + left) + [f"{left:,} are not over yet"] * (left > 0)
    return f"{done:,} of {jobs:,} jobs succeeded; {', and '.join(reasons)}."


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best pictures of one prompt, by style, and how many there are in all."""

    prompt: str
    cells: dict[str, list[Image]]
    total: int

    @property
    def images(self) -> list[Image]:
        return [image for own in self.cells.values() for image in own]


def _rows(jobs: Iterator[Job], open_object: Open, per_cell: int) -> Iterator[Row]:
    """A row for each prompt with pictures. Thumbnails are fetched some rows ahead: a far store takes its time."""
    with ThreadPoolExecutor(AHEAD) as threads:
        begun: deque[tuple[Chosen, list[Future[str | None]]]] = deque()
        for chosen in _choose(jobs, per_cell):
            begun.append((chosen, [threads.submit(_source, open_object, image) for image in chosen.images]))
            if len(begun) > AHEAD:
                yield from _finish(*begun.popleft())
        for chosen, sources in begun:
            yield from _finish(chosen, sources)


def _choose(jobs: Iterator[Job], per_cell: int) -> Iterator[Chosen]:
    """Jobs of one prompt stand together, as they were asked for."""
    for prompt, found in groupby(jobs, key=lambda job: job.spec.prompt):
        cells: dict[str, list[Image]] = {}
        for job in found:
            cells.setdefault(job.spec.style, []).extend(image for image in job.images if image.key)
        best = {style: sorted(own, key=_score, reverse=True)[:per_cell] for style, own in cells.items()}
        yield Chosen(prompt, best, sum(map(len, cells.values())))


def _finish(chosen: Chosen, sources: Iterable[Future[str | None]]) -> Iterator[Row]:
    """The row, once its thumbnails are there; none where all are gone."""
    there = dict(zip(chosen.images, (source.result() for source in sources), strict=True))
    best = max(there, key=_score) if len(there) > 1 else None
    cells = {
        style: [_show(image, source, image is best) for image in own if (source := there[image])]
        for style, own in chosen.cells.items()
    }
    if shown := sum(map(len, cells.values())):
        yield Row(chosen.prompt, cells, chosen.total - shown)


def _score(image: Image) -> float:
    return image.clip_score


def _source(open_object: Open, image: Image) -> str | None:
    assert image.thumbnail_key is not None  # noqa: S101 - only kept pictures come here
    if (pieces := open_object(image, image.thumbnail_key)) is None:
        return None
    return f"data:image/webp;base64,{base64.b64encode(b''.join(pieces)).decode()}"


def _show(image: Image, source: str, best: bool) -> Shown:
    return Shown(source, image.width, image.height, round(image.clip_score, 2), image.seed, best)


def _csv_line(values: dict[str, Any]) -> str:
    line = io.StringIO()
    guarded = {name: _guard(value) if isinstance(value, str) else value for name, value in values.items()}
    csv.DictWriter(line, COLUMNS, extrasaction="ignore").writerow(guarded)
    return line.getvalue()


def _guard(text: str) -> str:
    """``text`` behind an apostrophe, where a spreadsheet would take it for a formula (OWASP, CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) else text
