"""A job as the API tells it in; how far it is out: bars on a terminal, a line per change elsewhere."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from common.names import duration

STAGES = ("queue", "enhance", "diffuse", "score", "store")


@dataclass(frozen=True, slots=True)
class StageRow:
    """One line of the display. ``total`` None: busy, and nobody knows for how long."""

    name: str
    done: int
    total: int | None
    note: str


class JobProgress:
    """``with JobProgress(console) as view: kiln.wait(id, on_update=view.update)``"""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""
        bars = TextColumn("{task.description:<8}"), BarColumn(bar_width=30), TextColumn("{task.fields[note]}")
        self._bars = Progress(*bars, console=console, disable=not console.is_interactive)
        self._rows = {name: self._bars.add_task(name, total=1, note="") for name in STAGES}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, job: dict[str, Any]) -> None:
        """Show ``job`` as it is now."""
        if self._console.is_interactive:
            for row in stage_rows(job):
                self._draw(row)
        elif (line := stage_line(job)) != self._said:
            self._said = line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self, row: StageRow) -> None:
        task = self._rows[row.name]
        self._bars.update(task, total=row.total, completed=row.done, note=row.note)
        if row.total is None:
            self._bars.tasks[task].total = None  # update() takes None for "as before"


def stage_rows(job: dict[str, Any]) -> list[StageRow]:
    """The five rows of a job: what is behind it full, what it is at moving, what lies ahead empty."""
    at = _position(job)
    rows = [_row_done(name, job) for name in STAGES[:at]]
    if at < len(STAGES):
        rows.append(_row_now(STAGES[at], job))
    return rows + [StageRow(name, 0, 1, "") for name in STAGES[at + 1 :]]


def stage_line(job: dict[str, Any]) -> str:
    """The same in one line, which changes with the status and the stage but not with every step."""
    match job["status"]:
        case "queued":
            return f"queued: {waiting_note(job)}" if waiting_note(job) else "queued"
        case "running":
            total = f" ({job['progress']['total']} evaluations)" if job["stage"] == "diffuse" else ""
            return f"{job['stage'] or 'running'}{total}"
        case status:
            return str(status)


def waiting_note(job: dict[str, Any]) -> str:
    """Why a queued job is not running yet, as far as the API knows."""
    if job.get("servable") is False:
        return f"no live worker has the model {job['input']['model']}"
    notes = [f"position {job['queue_position']}"] if job.get("queue_position") is not None else []
    if job.get("attempt"):
        notes.append(f"attempt {job['attempt']} was given up")
    return ", ".join(notes)


def _position(job: dict[str, Any]) -> int:
    """How many rows are full."""
    if job["status"] == "succeeded":
        return len(STAGES)
    if job["stage"] in STAGES and job["status"] != "queued":
        return STAGES.index(job["stage"])
    return 0 if job.get("started_at") is None or job["status"] == "queued" else 1


def _row_done(name: str, job: dict[str, Any]) -> StageRow:
    spent = (job.get("timings") or {}).get("queued_ms" if name == "queue" else f"{name}_ms")
    notes = [f"{job['progress']['total']} evaluations"] if name == "diffuse" else []
    notes += [duration(spent / 1000)] if spent is not None else []
    return StageRow(name, 1, 1, ", ".join(notes))


def _row_now(name: str, job: dict[str, Any]) -> StageRow:
    if job["status"] not in ("queued", "running"):
        return StageRow(name, 0, 1, job["status"])
    eta = f"about {duration(job['eta_seconds'])} left" if job.get("eta_seconds") is not None else ""
    if name == "diffuse":
        progress = job["progress"]
        note = f"{progress['done']}/{progress['total']} evaluations"
        return StageRow(name, progress["done"], progress["total"], ", ".join(filter(None, [note, eta])))
    first = waiting_note(job) if name == "queue" else ""
    return StageRow(name, 0, None, ", ".join(filter(None, [first, eta])))
