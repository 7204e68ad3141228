"""`kiln jobs`, `show`, `cancel`, `retry` and `delete`: ids in, jobs as a table, as lines or as JSON out."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from client.api import Job, Kiln
from client.generate import OPTIONS, AsJson
from client.output import answering, printable
from client.progress import stage_line
from common.names import duration

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id.")]


def jobs(
    status: Annotated[
        str | None, typer.Option(help="Only queued, running, succeeded, failed, canceled or expired ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first. With --json: an array of jobs."""
    with answering(as_json, {"status": "--status"}) as output, Kiln() as kiln:
        found = list(kiln.jobs(status=status, limit=limit))
        output.show(found, _table(found) if found else "No jobs.")


def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job: its state, its input, its prompts, its pictures, or its error."""
    with answering(as_json) as output, Kiln() as kiln:
        job = kiln.job(job_id)
        output.answer(job, *_lines(job))


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job; a running one stops at its next step. Of a finished job it changes nothing."""
    with answering(as_json) as output, Kiln() as kiln:
        job = kiln.cancel(job_id)
        asked = "is asked to stop" if job["status"] == "running" else f"is {job['status']}"
        output.answer(job, f"{job['id']} {asked}")


def retry(
    job_id: JobId,
    seed: Annotated[int | None, typer.Option(help="Another seed.")] = None,
    steps: Annotated[int | None, typer.Option(help="Another number of steps.")] = None,
    style: Annotated[str | None, typer.Option(help="Another style.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Queue a new job with the input of another one, seed included, and print its id."""
    overrides = {"seed": seed, "num_inference_steps": steps, "style": style, "model": model}
    with answering(as_json, OPTIONS) as output, Kiln() as kiln:
        job = kiln.retry(job_id, **{name: value for name, value in overrides.items() if value is not None})
        output.answer(job, job["id"])
        output.note(f"Queued. `kiln watch {job['id']}` waits for it and saves its pictures.")


def delete(job_id: JobId, as_json: AsJson = False) -> None:
    """Remove a finished job and its pictures from the storage. There is no way back."""
    with answering(as_json) as output, Kiln() as kiln:
        kiln.delete(job_id)
        output.answer({"id": job_id, "deleted": True}, f"{job_id} and its pictures are gone")


def _table(found: list[Job]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "status", "created", "model"):
        table.add_column(column, no_wrap=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in found:
        prompt = printable(job["input"]["prompt"].replace("\n", " "))
        cells = (job["id"], _state(job), _local(job["created_at"]), job["input"]["model"], prompt)
        table.add_row(*[Text(cell) for cell in cells])
    return table


def _state(job: Job) -> str:
    """The status, and of a running job the stage and the share that is done."""
    if job["status"] != "running":
        return str(job["status"])
    return f"{job['stage'] or 'running'} {job['progress']['percent']:.0f} %"


def _lines(job: Job) -> list[str]:
    """What a person wants to know of a job, a fact a line; facts that are not known yet are left out."""
    facts: list[tuple[str, Any]] = [
        ("id", job["id"]),
        ("status", stage_line(job)),
        ("progress", "{done}/{total} evaluations".format(**job["progress"])),
        ("time left", duration(job["eta_seconds"]) if job["eta_seconds"] is not None else None),
        ("created", _local(job["created_at"])),
        ("finished", _local(job["finished_at"])),
        ("retry of", job["retried_from"]),
        *((name.replace("_", " "), value) for name, value in job["input"].items()),
        ("styled prompt", job["styled_prompt"]),
        ("enhanced prompt", job["enhanced_prompt"]),
        ("error", (job["error"] or {}).get("message")),
        *((f"picture {image['index']}", _picture(image)) for image in job["images"]),
    ]
    return [f"{name:<20} {value}" for name, value in facts if value is not None]


def _picture(image: dict[str, Any]) -> str:
    score = f"CLIP score {image['clip_score']:.2f}, seed {image['seed']}"
    return f"{score}, {image['url']}" if image.get("url") else f"{score}, dropped by keep_best"


def _local(stamp: str | None) -> str:
    """An RFC 3339 time in this machine's zone."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S") if stamp else ""
