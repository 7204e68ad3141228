"""`kiln batch`: a file of prompts in, a batch of jobs out; watched, steered, and its pictures fetched into a folder."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from tzlocal import get_localzone_name

from client.api import Batch, Kiln
from client.errors import InvalidUse
from client.fetch import fetch_pictures
from client.generate import AsJson
from client.output import INTERRUPTED, Output, answering, printable
from client.watch import BatchProgress, batch_line
from common.names import duration

batch_app = typer.Typer(help="Many jobs at once: load them in the evening, open them in the morning.")

KINDS = {".csv": True, ".ndjson": False, ".jsonl": False}  # whether it is CSV

BatchId = Annotated[str, typer.Argument(metavar="ID", help="A batch's id.")]


@batch_app.command(
    "run",
    epilog="Example: kiln batch run prompts.csv --styles cinematic,anime --seeds 4 --keep-best 1 "
    "--window 22:00-06:00 --watch",
)
def run(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a header and a column prompt; NDJSON (.ndjson, .jsonl) with a job a line; "
            "or any other text with a prompt a line.",
        ),
    ],
    styles: Annotated[str | None, typer.Option(help="Paint every line in each of these, separated by commas.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Paint every line with so many seeds.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the batch.  [default: the file's name]")] = None,
    lane: Annotated[str | None, typer.Option(help="batch, or interactive to go before others' batches.")] = None,
    deadline: Annotated[str | None, typer.Option(help="What has not started by then expires: RFC 3339.")] = None,
    window: Annotated[str | None, typer.Option(help="Run only then, every night: 22:00-06:00.")] = None,
    tz: Annotated[str | None, typer.Option(help="The window's time zone.  [default: this machine's]")] = None,
    days: Annotated[str | None, typer.Option(help="Days on which the window opens, as mon,tue.")] = None,
    keep_best: Annotated[
        int | None, typer.Option(min=1, help="Of each prompt's seeds, keep so many pictures: those that fit it best.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would be, and queue nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until all jobs are over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a job for each line of a file, all of them or none, and print the batch's id."""
    names = {name: f"--{name}" for name in ("styles", "deadline", "lane", "window", "tz", "days")}
    with (
        answering(as_json, names | {"seeds_per_line": "--seeds", "keep_best": "--keep-best"}) as output,
        Kiln() as kiln,
    ):
        lines, as_csv = _read(file)
        options = {
            "styles": [style.strip() for style in styles.split(",")] if styles else None,
            "seeds_per_line": seeds,
            "name": file.name if name is None else name,
            "lane": lane,
            "deadline": deadline,
            "window": window,
            "tz": (tz or get_localzone_name()) if window else tz,
            "days": days.split(",") if days else None,
            "keep_best": keep_best,
        }
        if dry_run:
            estimate = kiln.submit_batch(lines, as_csv=as_csv, dry_run=True, **options)
            output.answer(estimate, _estimate(estimate))
            return
        batch = kiln.submit_batch(lines, as_csv=as_csv, **options)
        if watch:
            output.note(batch["id"])
            _watch(kiln, batch, output)
        else:
            output.answer(batch, batch["id"])
            queued = f"{_jobs(batch)} job{'s' * (_jobs(batch) != 1)}"
            output.note(f"Queued {queued}. `kiln batch watch {batch['id']}` shows how far it is.")


@batch_app.command("watch", epilog="Example: kiln batch watch batch_0192f3a4b5c67d8e9f00112233445566")
def watch(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Show how far a batch is until all its jobs are over; Ctrl-C leaves, and the batch goes on."""
    with answering(as_json) as output, Kiln() as kiln:
        _watch(kiln, kiln.batch(batch_id), output)


@batch_app.command("list", epilog="Example: kiln batch list --limit 5")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first. With --json: an array of batches."""
    with answering(as_json) as output, Kiln() as kiln:
        found = list(kiln.batches(limit=limit))
        output.show(found, _table(found) if found else "No batches.")


@batch_app.command("pause", epilog="Example: kiln batch pause batch_0192f3a4b5c67d8e9f00112233445566")
def pause(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Let no more of its jobs start; those that run are kept at their step."""
    with answering(as_json) as output, Kiln() as kiln:
        _say(kiln.steer(batch_id, "pause"), output)


@batch_app.command("resume", epilog="Example: kiln batch resume batch_0192f3a4b5c67d8e9f00112233445566")
def resume(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Let the jobs of a paused batch start again."""
    with answering(as_json) as output, Kiln() as kiln:
        _say(kiln.steer(batch_id, "resume"), output)


@batch_app.command("cancel", epilog="Example: kiln batch cancel batch_0192f3a4b5c67d8e9f00112233445566")
def cancel(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Cancel what is not over yet; running jobs stop at their next step."""
    with answering(as_json) as output, Kiln() as kiln:
        _say(kiln.steer(batch_id, "cancel"), output)


@batch_app.command("retry", epilog="Example: kiln batch retry batch_0192f3a4b5c67d8e9f00112233445566")
def retry(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Queue a new job in the batch for each that failed or expired."""
    with answering(as_json) as output, Kiln() as kiln:
        _say(kiln.steer(batch_id, "retry-failed"), output)


@batch_app.command("download", epilog="Example: kiln batch download batch_0192f3a4b5c67d8e9f00112233445566 pictures")
def download(
    batch_id: BatchId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder, which is made.")],
    as_json: AsJson = False,
) -> None:
    """Save the pictures that there are by now, named by prompt, style and seed. What is there already is not fetched.

    Every picture is checked against its sha256; so a download that was cut off goes on where it stopped.
    """
    with answering(as_json) as output, Kiln() as kiln:
        kiln.batch(batch_id)  # the sentence for an id that is none, before a folder is made for it
        fetched = fetch_pictures(kiln, batch_id, folder, output.note)
        told = f"{fetched.saved} saved, {fetched.present} were there already: {folder}"
        output.answer({"id": batch_id, "saved": fetched.saved, "present": fetched.present}, told)


def _read(file: Path) -> tuple[bytes, bool]:
    """The file's lines as the API reads them, and whether they are CSV. Numbers of lines stay as they are."""
    try:
        content = file.read_bytes()
        if file.suffix.lower() in KINDS:
            return content, KINDS[file.suffix.lower()]
        prompts = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InvalidUse(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidUse(f"{file} is not UTF-8 at byte {error.start}.") from error
    lines = [json.dumps({"prompt": prompt.strip()}) if prompt.strip() else "" for prompt in prompts]
    return "\n".join(lines).encode(), False


def _watch(kiln: Kiln, batch: Batch, output: Output) -> None:
    """Until it is over; exit 1 where a job failed or expired, 130 on Ctrl-C."""
    try:
        failures = partial(kiln.jobs, "failed", batch_id=batch["id"])
        with BatchProgress(output.notes, failures) as view:
            batch = kiln.wait_batch(batch["id"], on_update=view.update)
    except KeyboardInterrupt:
        output.answer(batch)
        output.note(f"\nThe batch goes on without you. Watch it: kiln batch watch {batch['id']}")
        raise typer.Exit(INTERRUPTED) from None
    output.answer(batch, batch_line(batch))
    if batch["counts"]["failed"] or batch["counts"]["expired"]:
        output.note(f"`kiln batch retry {batch['id']}` tries again what failed or expired.")
        raise typer.Exit(1)


def _say(batch: Batch, output: Output) -> None:
    output.answer(batch, f"{batch['id']} {batch_line(batch)}")


def _estimate(estimate: dict[str, Any]) -> str:
    takes = "nobody knows how long" if estimate["seconds"] is None else f"about {duration(estimate['seconds'])}"
    size = "" if estimate["bytes"] is None else f", about {estimate['bytes'] / 1e6:.1f} MB"
    return (
        f"{estimate['jobs']} jobs, {estimate['images']} pictures, {estimate['evaluations']} evaluations, {takes}{size}"
    )


def _jobs(batch: Batch) -> int:
    return sum(batch["counts"].values())


def _table(found: list[Batch]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "status", "jobs", "done"):
        table.add_column(column, no_wrap=True)
    table.add_column("name", no_wrap=True, overflow="ellipsis", ratio=1)
    for batch in found:
        done = f"{batch['progress']['percent']:.0f} %"
        cells = (batch["id"], batch["status"], str(_jobs(batch)), done, printable(batch["name"]))
        table.add_row(*[Text(cell) for cell in cells])
    return table
