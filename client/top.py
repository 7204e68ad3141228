"""`kiln top`: what the API tells of workers, lanes and batches in; a live view on a terminal, or one frame, out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client.api import Kiln
from client.errors import ClientError, KilnApiError, Unreachable
from client.generate import AsJson
from client.output import Output, answering, printable
from common.names import duration

NARROW = 90  # columns below which the less important ones are left out
BATCHES = 10  # the newest; those that are over are not shown
RUNNING = 20  # jobs

Frame = dict[str, Any]  # what the API said at one time


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave, as without a terminal.")] = False,
    every: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two frames.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Watch workers, slots, lanes and your batches until Ctrl-C. With --json: one frame, as the API tells it.

    An API that is away is asked again at every frame.
    """
    with answering(as_json) as output, Kiln() as kiln:
        console = Console()
        if once or as_json or not console.is_terminal:
            output.show(frame := look(kiln), Group(*draw(frame, output.width, Paces())))
            return
        _watch(kiln, console, every, output)


def look(kiln: Kiln) -> Frame:
    """All that one frame shows. Raises ClientError."""
    active = ("running", "queued", "paused")
    return {
        "workers": kiln.workers()["data"],
        "lanes": kiln.queue()["lanes"],
        "batches": [batch for batch in kiln.batches(limit=BATCHES) if batch["status"] in active],
        "jobs": list(kiln.jobs(status="running", limit=RUNNING)),
    }


@dataclass(slots=True)
class Paces:
    """How fast each batch moves, in evaluations per second: since it was seen first; before that, since it began."""

    seen: dict[str, tuple[float, int]] = field(default_factory=dict)  # when it was seen first, and how far it was

    def of(self, batch: dict[str, Any]) -> float | None:
        """None for one that does not move."""
        now, done = time.monotonic(), batch["progress"]["done"]
        at, before = self.seen.setdefault(batch["id"], (now, done))
        if now - at > 1:
            return (done - before) / (now - at) or None
        if batch["status"] != "running" or not batch["started_at"]:
            return None
        since = datetime.now(UTC) - datetime.fromisoformat(batch["started_at"])
        return done / since.total_seconds() if done and since.total_seconds() > 0 else None


def draw(frame: Frame, width: int, paces: Paces) -> list[RenderableType]:
    """The tables of one frame, for a terminal of ``width`` columns."""
    narrow = width < NARROW
    parts = [_lanes(frame["lanes"]), _workers(frame["workers"], narrow)]
    if frame["jobs"]:
        parts.append(_jobs(frame["jobs"], narrow))
    if frame["batches"]:
        parts.append(_batches(frame["batches"], narrow, paces))
    return [part for table in parts for part in (table, Text())][:-1]


def _watch(kiln: Kiln, console: Console, every: float, output: Output) -> None:
    paces, trouble = Paces(), ""
    parts: Sequence[RenderableType] = [Text(f"Asking {kiln.base_url}…")]
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                try:
                    parts, trouble = draw(look(kiln), console.width, paces), ""
                except ClientError as error:
                    if not _may_pass(error):
                        raise
                    trouble = f"{error} Trying again; what you see is old."
                live.update(Group(_title(kiln, every, trouble), Text(), *parts), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        output.note("Kiln goes on.")


def _may_pass(error: ClientError) -> bool:
    if isinstance(error, KilnApiError):
        return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status == HTTPStatus.TOO_MANY_REQUESTS
    return isinstance(error, Unreachable)


def _title(kiln: Kiln, every: float, trouble: str) -> Text:
    clock = datetime.now().astimezone().strftime("%H:%M:%S")
    if trouble:
        return Text(f"{clock}  {trouble}", style="bold red")
    return Text(f"{clock}  {kiln.base_url}, every {every:g} s; Ctrl-C leaves", style="dim")


def _table(first: str, *others: str, last: str = "") -> Table:
    """Columns of text, then of numbers, and one that gives way where there is no room."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="ellipsis")  # the one that is cut in a terminal too narrow for all
    for name in others:
        table.add_column(name, no_wrap=True, justify="right")
    if last:
        table.add_column(last, no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _lanes(lanes: dict[str, dict[str, Any]]) -> Table:
    table = _table("lane", "queued", "running", "oldest waits")
    for name, lane in lanes.items():
        age = duration(lane["oldest_seconds"]) if lane["oldest_seconds"] else "-"
        table.add_row(Text(name), str(lane["queued"]), str(lane["running"]), age)
    return table


def _workers(workers: list[dict[str, Any]], narrow: bool) -> RenderableType:
    if not workers:
        return Text("No worker is alive: nothing is painted.", style="bold red")
    table = _table("worker", "state", "device", "slots", "jobs", "evals/s", last="" if narrow else "models, and why")
    for worker in workers:
        pace = worker["evaluations_per_second"]
        cells = [
            worker["id"],
            worker["state"],
            worker["device"],
            f"{_number(worker['slots_used'])}/{_number(worker['slots'])}",
            f"{worker['running']}/{worker['seats']}",
            "-" if pace is None else f"{pace:.1f}",
            ", ".join(worker["models"]) + (f"; {worker['detail']}" if worker["detail"] else ""),
        ]
        style = {"ready": "", "starting": "yellow", "stopping": "yellow"}.get(worker["state"], "bold red")
        table.add_row(*[Text(printable(cell), style=style) for cell in cells[: len(table.columns)]])
    return table


def _jobs(jobs: list[dict[str, Any]], narrow: bool) -> Table:
    table = _table("your running jobs", "stage", "done", "left", last="" if narrow else "prompt")
    for job in jobs:
        left = "-" if job["eta_seconds"] is None else duration(job["eta_seconds"])
        prompt = printable(job["input"]["prompt"].replace("\n", " "))
        cells = [job["id"], job["stage"] or "-", f"{job['progress']['percent']:.0f} %", left, prompt]
        table.add_row(*[Text(cell) for cell in cells[: len(table.columns)]])
    return table


def _batches(batches: list[dict[str, Any]], narrow: bool, paces: Paces) -> Table:
    wide = () if narrow else ("evals/s",)
    table = _table("your batches", "state", "jobs", "done", "left", *wide, last="" if narrow else "name")
    for batch in batches:
        pace, counts = paces.of(batch), batch["counts"]
        over = sum(count for status, count in counts.items() if status not in ("queued", "running"))
        cells = [
            batch["id"],
            batch["status"],
            f"{over}/{sum(counts.values())}",
            f"{batch['progress']['percent']:.0f} %",
            "-" if batch["eta_seconds"] is None else duration(batch["eta_seconds"]),
            "-" if pace is None else f"{pace:.1f}",
            printable(batch["name"].replace("\n", " ")),
        ]
        table.add_row(*[Text(cell) for cell in cells[: len(table.columns)]])
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
