"""`kiln eval`: the notebook's two tables, painted as a batch: scores with their spread, pictures, a matching matrix."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from client.api import Job, Kiln
from client.errors import InvalidUse
from client.generate import AsJson
from client.output import Output, answering
from client.pictures import kept, suffix_of
from client.watch import BatchProgress

eval_app = typer.Typer(help="The two tables of the notebook that Kiln comes from, with the model of your choice.")

PUBLISHED_MODEL = "sd-v1-4"  # whose scores the notebook published
CAT = "an orange cat staring off with pretty eyes"
DIVERSITY = {
    "a red apple on a wooden table": 29.42,
    "a misty forest at dawn": 28.88,
    "an astronaut riding a unicorn in space": 33.46,
    CAT: 24.02,
}
VARIATION = {"photographic": 23.58, "cinematic": 25.64, "anime": 24.48, "line art": 21.67, "van gogh": 27.13}

Steps = Annotated[int, typer.Option(min=1, help="Inference steps of each picture.")]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="Pictures of each row, the same seeds in all.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Which model.  [default: the API's]")]
Folder = Annotated[
    Path | None,
    typer.Option("--output", help="Folder of table.md, report.html and pictures.  [default: the table's name]"),
]
FIRST_SEED = 1


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table: its jobs, what the notebook published, and a picture's file."""

    name: str
    jobs: Sequence[Job]
    published: float | None
    picture: str

    @property
    def scores(self) -> list[float]:
        return [image["clip_score"] for job in self.jobs for image in job["images"]]

    def to_json(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "name": self.name,
            "score": round(statistics.fmean(scores), 2) if scores else None,
            "deviation": round(statistics.stdev(scores), 2) if len(scores) > 1 else None,
            "published": self.published,
            "picture": self.picture,
        }


@eval_app.command("prompt-diversity", epilog="Example: kiln eval prompt-diversity --steps 20 --seeds 4")
def prompt_diversity(
    steps: Steps = 250, seeds: Seeds = 1, model: ModelName = None, output: Folder = None, as_json: AsJson = False
) -> None:
    """Table 4.1: four prompts. The matrix scores every picture against every prompt; it needs torch here."""
    asked = {prompt: {"prompt": prompt} for prompt in DIVERSITY}
    _evaluate("prompt-diversity", asked, DIVERSITY, steps, seeds, model, output, as_json)


@eval_app.command("style-variation", epilog="Example: kiln eval style-variation --steps 20 --seeds 4")
def style_variation(
    steps: Steps = 250, seeds: Seeds = 1, model: ModelName = None, output: Folder = None, as_json: AsJson = False
) -> None:
    """Table 4.2: one prompt in five styles. The matrix scores every picture against the prompt in every style."""
    asked = {style: {"prompt": CAT, "style": style} for style in VARIATION}
    _evaluate("style-variation", asked, VARIATION, steps, seeds, model, output, as_json)


def _evaluate(
    title: str,
    asked: dict[str, dict[str, Any]],
    published: dict[str, float],
    steps: int,
    seeds: int,
    model: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    common = {"num_inference_steps": steps} | ({"model": model} if model else {})
    jobs = [
        fields | common | {"seed": seed, "custom_id": f"{name}/{seed}"}
        for name, fields in asked.items()
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ]
    with answering(as_json) as out, Kiln() as kiln:
        target = _make(folder or Path(title))
        batch = kiln.submit_batch("\n".join(map(json.dumps, jobs)).encode(), name=title)
        out.note(batch["id"])
        with BatchProgress(out.notes) as view:
            kiln.wait_batch(batch["id"], on_update=view.update)
        found = list(kiln.results(batch["id"]))
        lines = [_line(kiln, target, name, found, published[name]) for name in asked]
        matrix = _match(lines, target, out)
        (target / "report.html").write_bytes(kiln.report(batch["id"]))
        (target / "table.md").write_text(_markdown(title, lines, matrix), encoding="utf-8")
        data = {
            "batch": batch["id"],
            "rows": [line.to_json() for line in lines],
            "matrix": matrix,
            "folder": str(target),
        }
        out.show(data, Group(_table(lines), "", _matrix(lines, matrix)) if matrix else _table(lines))
        out.note(f"{target / 'table.md'} has the table with its pictures, {target / 'report.html'} the report.")
        if any(not line.scores for line in lines):
            raise typer.Exit(1)


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidUse(f"{folder} cannot be made a folder: {error.strerror}.") from error
    return folder


def _line(kiln: Kiln, folder: Path, name: str, found: Sequence[Job], published: float) -> Line:
    """The row's jobs, all their pictures saved, the first of them to be shown."""
    own = [job for job in found if job["custom_id"].rpartition("/")[0] == name]
    files = [_save(kiln, folder, name, image) for job in own for image in kept(job)]
    compared = published if own and own[0]["input"]["model"] == PUBLISHED_MODEL else None
    return Line(name, own, compared, files[0] if files else "")


def _save(kiln: Kiln, folder: Path, name: str, image: dict[str, Any]) -> str:
    file = f"{name.replace(' ', '-')}-{image['seed']}{suffix_of(image)}"
    (folder / file).write_bytes(kiln.image(image))
    return file


def _match(lines: Sequence[Line], folder: Path, out: Output) -> list[list[float]] | None:
    """For each row's text, its score with each row's shown picture, by the CLIP of the model; None without torch."""
    texts = tuple(line.jobs[0]["styled_prompt"] or line.name if _styles_vary(lines) else line.name for line in lines)
    try:
        from PIL import Image

        from common.settings import ModelSettings, read_settings
        from worker.stages.score import clip_scores
        from worker.weights import load_scorer
    except ModuleNotFoundError as missing:
        out.note(f"No matrix: it needs {missing.name} on this machine.")
        return None
    if not all(line.picture for line in lines):
        return None
    settings, name = read_settings(ModelSettings), lines[0].jobs[0]["input"]["model"]
    scorer = load_scorer(name, settings.registry[name], home=settings.home)
    images = tuple(Image.open(folder / line.picture).convert("RGB") for line in lines)
    return [[round(score, 2) for score in row] for row in clip_scores(images, texts, scorer)]


def _styles_vary(lines: Sequence[Line]) -> bool:
    return len({job["input"]["style"] for line in lines for job in line.jobs}) > 1


def _table(lines: Sequence[Line]) -> Table:
    table = Table("", "CLIP score", "± deviation", "published", "picture", box=None, pad_edge=False)
    for row in (line.to_json() for line in lines):
        table.add_row(*(_cell(row[key]) for key in ("name", "score", "deviation", "published", "picture")))
    return table


def _matrix(lines: Sequence[Line], matrix: list[list[float]]) -> Table:
    """Each text against each picture, both by the number of their line; the best text of each picture is bold."""
    numbers = [str(number) for number in range(1, len(lines) + 1)]
    table = Table("", "text against picture", *numbers, box=None, pad_edge=False)
    best = [max(column) for column in zip(*matrix, strict=True)]
    for number, line, scores in zip(numbers, lines, matrix, strict=True):
        cells = [
            Text(_cell(score), style="bold" if score == most else "") for score, most in zip(scores, best, strict=True)
        ]
        table.add_row(number, line.name, *cells)
    return table


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)  # noqa: RUF001 - a dash


def _markdown(title: str, lines: Sequence[Line], matrix: list[list[float]] | None) -> str:
    rows = [line.to_json() for line in lines]
    text = [f"# {title}", "", "| | CLIP score | ± deviation | published | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [_cell(row[key]) for key in ("name", "score", "deviation", "published")]
        text.append(f"| {' | '.join(cells)} | ![{row['name']}]({row['picture']}) |")
    if matrix:
        names = [row["name"] for row in rows]
        text += ["", "Each text against each picture above; the highest score of a column is bold.", ""]
        text += [f"| text | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        best = [max(column) for column in zip(*matrix, strict=True)]
        for name, scores in zip(names, matrix, strict=True):
            marked = [f"**{one:.2f}**" if one == most else f"{one:.2f}" for one, most in zip(scores, best, strict=True)]
            text.append(f"| {name} | {' | '.join(marked)} |")
    return "\n".join(text) + "\n"
