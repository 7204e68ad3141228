"""``kiln up`` and ``kiln demo``: a home folder in, a whole Kiln on this machine out, and every process ended after."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from client.api import Kiln
from client.generate import finish
from client.output import Output, answering
from client.pictures import Target

if TYPE_CHECKING:
    from common.local.stack import Stack

Home = Annotated[
    Path, typer.Option("--home", envvar="KILN_HOME", help="Folder of the databases, pictures, logs and run.json.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The API's port; 0 picks a free one.")]
Model = Annotated[str | None, typer.Option("--model", envvar="KILN_MODEL", help="The model to serve.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Worker processes.")]
Postgres = Annotated[
    Path | None,
    typer.Option("--postgres", metavar="FOLDER", help="Folder of postgres and initdb; else PATH's, else the wheel's."),
]

DEFAULT_HOME = Path(".kiln")
DEMO_STEM = "kiln-demo"


def up(
    home: Home = DEFAULT_HOME,
    port: Port = 0,
    model: Model = None,
    workers: Workers = 1,
    postgres: Postgres = None,
) -> None:
    """Start Kiln on this machine and stay until Ctrl-C: PostgreSQL, broker, storage, API, sweeper and workers.

    Jobs and pictures are kept in the home folder: the next start finds them. While it runs, run.json there tells
    every address, password and process id, readable by you alone.
    """
    output = Output(as_json=False)
    began = time.monotonic()
    with _kiln(output, home, port=port, workers=workers, model=model, postgres=postgres) as stack:
        output.show({}, _addresses(stack, home))
        output.note(f"Ready after {time.monotonic() - began:.1f} s. Ctrl-C ends every process.")
        while (dead := stack.dead()) is None:
            time.sleep(0.2)
        output.note(f"{dead.name} ended by itself, exit code {dead.process.returncode}\n{dead.tail()}")
        raise typer.Exit(1)


def demo(home: Home = DEFAULT_HOME, model: Model = None, postgres: Postgres = None) -> None:
    """Start Kiln, paint one picture through its API into kiln-demo-0.png, and stop everything again."""
    with answering(as_json=False) as output:
        output.note("Starting PostgreSQL, broker, storage, API, sweeper and one worker…")
        with (
            _kiln(output, home, port=0, workers=1, model=model, postgres=postgres) as stack,
            Kiln(stack.api_url, stack.api_key) as kiln,
        ):
            prompt = kiln.defaults()["prompt"]
            output.note(f"Painting: {prompt}")
            finish(kiln, kiln.submit(prompt), Target(Path.cwd(), DEMO_STEM), output)


@contextmanager
def _kiln(
    output: Output, home: Path, *, port: int, workers: int, model: str | None, postgres: Path | None
) -> Iterator["Stack"]:
    """The stack during the block. Ctrl-C and SIGTERM end it in good order; what does not start is one message."""
    from common.errors import KilnError  # here, so that other commands start without database drivers
    from common.local.stack import running_stack

    heard = _Signals()
    try:
        with (
            heard.raised(),
            running_stack(home, port=port, workers=workers, model=model or "", postgres_programs=postgres) as stack,
        ):
            try:
                yield stack
            finally:
                heard.mute()  # a second Ctrl-C must not leave half of it running
    except KilnError as error:
        output.note(error.detail)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        output.note("\nStopped.")
        raise typer.Exit(0) from None


class _Signals:
    """SIGINT, SIGTERM and SIGHUP as one KeyboardInterrupt; after it, silence while things are put away."""

    def __init__(self) -> None:
        self._muted = False

    @contextmanager
    def raised(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def mute(self) -> None:
        self._muted = True

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self._muted:
            self._muted = True
            raise KeyboardInterrupt


def _addresses(stack: "Stack", home: Path) -> Table:
    table = Table(show_header=False, title="Kiln is up", title_justify="left")
    table.add_row("API", stack.api_url)
    table.add_row("API documentation", f"{stack.api_url}/docs")
    table.add_row("Database", _without_password(stack.services.database_url))
    table.add_row("Broker", _without_password(stack.services.broker_url))
    table.add_row("Storage", stack.services.s3_endpoint_url)
    table.add_row("Passwords, process ids", str(home / "run.json"))
    table.add_row("Logs", str(home / "logs"))
    return table


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
