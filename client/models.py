"""`kiln models list` and `pull`: names of the registry in, what is here of each out; pull fetches from the hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from client.errors import ClientError, InvalidUse
from client.generate import AsJson
from client.output import answering

if TYPE_CHECKING:
    from common.models import ModelEntry
    from common.settings import ModelSettings
    from worker.pull import OnProgress

models_app = typer.Typer(help="The models that jobs can name: what is on this machine, and fetching the rest.")


class NotLoadable(ClientError):
    """A part of a model cannot be fetched or used."""

    code, exit_code = "model_not_loadable", 1


@models_app.command("list", epilog="Example: kiln models list --json")
def list_models(as_json: AsJson = False) -> None:
    """List the models of the registry and how many parts of each are on this machine."""
    with answering(as_json) as output, _explained():
        settings = _settings()
        found = [_row(name, entry, settings) for name, entry in settings.registry.items()]
        output.show(found, _table(found))


@models_app.command("pull", epilog="Example: kiln models pull sd-v1-4")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of models, as `kiln models list`.")],
    as_json: AsJson = False,
) -> None:
    """Fetch every part of a model from its hub, so that workers start without a network.

    What is here is not fetched again; what was interrupted goes on. HF_ENDPOINT and HF_TOKEN are respected.
    """
    from worker.pull import pull_model  # here: it brings the hub's library, which no other command needs

    with answering(as_json) as output, _explained():
        settings = _settings()
        if unknown := [name for name in names if name not in settings.registry]:
            raise InvalidUse(f"There is no model {unknown[0]!r}; known: {', '.join(settings.registry)}.")
        commits = {}
        for name in names:
            with _bars(output.notes) as on_progress:
                commits[name] = pull_model(name, settings.registry[name], settings.home, on_progress)
            output.note(f"{name} is complete.")
        output.answer(commits, *(_line(name, parts) for name, parts in commits.items()))


def _settings() -> "ModelSettings":
    from common.settings import ModelSettings, read_settings

    return read_settings(ModelSettings)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what a part's errors say into what commands end with."""
    from common.errors import ModelNotLoadable

    try:
        yield
    except ModelNotLoadable as error:
        raise NotLoadable(error.detail) from error


@contextmanager
def _bars(console: Console) -> "Iterator[OnProgress]":
    """One bar for each file on a terminal; elsewhere a line when a file begins."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TimeRemainingColumn()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_interactive) as bars:

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
                if not console.is_interactive:
                    console.print(f"fetching {file} ({total} bytes)", soft_wrap=True)
            bars.update(tasks[file], completed=done)

        yield show


def _row(name: str, entry: "ModelEntry", settings: "ModelSettings") -> dict[str, Any]:
    from common.models import PARTS
    from worker.pull import is_folder, is_pulled

    parts = {
        part: {
            **entry.part(part).model_dump(),
            "here": is_folder(entry.part(part)) or is_pulled(part, entry.part(part), settings.home),
        }
        for part in PARTS
    }
    return {"name": name, "description": entry.description, "parts": parts}


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table("NAME", "PARTS HERE", "DESCRIPTION", box=None, pad_edge=False)
    for model in found:
        here = sum(part["here"] for part in model["parts"].values())
        table.add_row(model["name"], f"{here} of {len(model['parts'])}", model["description"])
    return table


def _line(name: str, parts: dict[str, str]) -> str:
    fetched = ", ".join(f"{part} {commit[:12]}" for part, commit in parts.items())
    return f"{name}: {fetched or 'every part is a folder on this machine'}"
