"""``kiln up`` and ``kiln demo``: a home folder in, a whole Kiln on this machine out, and every process ended after."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from client.api import Kiln
from client.background import addresses, start_detached
from client.generate import finish
from client.output import Output, answering
from client.pictures import Target
from client.systemd import offer_unit

if TYPE_CHECKING:
    from common.local.stack import Stack

Home = Annotated[
    Path, typer.Option("--home", envvar="KILN_HOME", help="Folder of the databases, pictures, logs and run.json.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The API's port; 0 picks a free one.")]
Model = Annotated[str | None, typer.Option("--model", envvar="KILN_MODEL", help="The model to serve.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; unless given one for each GPU, else one.")
]
Postgres = Annotated[
    Path | None,
    typer.Option("--postgres", metavar="FOLDER", help="Folder of postgres and initdb; else PATH's, else the wheel's."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once it is ready; it runs on until `kiln down`.")]
Systemd = Annotated[bool, typer.Option("--systemd", help="Start nothing: print a systemd unit that would.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="FOLDER", help="With --systemd: write kiln.service there instead.", file_okay=False
    ),
]

DEFAULT_HOME = Path(".kiln")
LOOK_SECONDS = 0.2  # between two rounds of looking after the processes
DEMO_STEM = "kiln-demo"


def up(
    home: Home = DEFAULT_HOME,
    port: Port = 0,
    model: Model = None,
    workers: Workers = None,
    postgres: Postgres = None,
    detach: Detach = False,
    systemd: Systemd = False,
    folder: Folder = None,
) -> None:
    """Start Kiln on this machine and stay until Ctrl-C: PostgreSQL, broker, storage, API, sweeper and workers.

    Each process that ends by itself is started again, after 1 second, then 2, 4, up to 60; a line here says why. One
    that cannot start is tried again every minute, while the others serve; a database or store whose data is damaged
    is left alone. Jobs and pictures are kept in the home folder: the next start finds them. While it runs, run.json
    there tells every address, password and process id, readable by you alone.

    Exit codes once it is told to end: 0 no process had ended by itself; 4 some had, and all ran again; 5 one did not
    run at the end; 65 data is damaged; 1 Kiln did not start.
    """
    output = Output(as_json=False)
    began = time.monotonic()
    options = {
        "--port": str(port),
        "--model": model,
        "--workers": workers,
        "--postgres": postgres and postgres.resolve(),
    }
    arguments = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    if systemd:
        return offer_unit(output, home, arguments, folder)
    if detach:
        start_detached(output, home, arguments)
        return output.show({}, addresses(home))
    with _kiln(output, home, port=port, workers=workers, model=model, postgres=postgres, serves=True) as stack:
        output.show({}, addresses(home))
        output.note(f"Ready after {time.monotonic() - began:.1f} s. Ctrl-C ends every process.")
        while True:
            stack.look()
            time.sleep(LOOK_SECONDS)


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
    output: Output,
    home: Path,
    *,
    port: int,
    workers: int | None,
    model: str | None,
    postgres: Path | None,
    serves: bool = False,
) -> Iterator["Stack"]:
    """The stack during the block. Ctrl-C and SIGTERM end it in good order; what does not start is one message.

    One that ``serves`` goes on without what does not start, and tells what ends and comes back.
    """
    from common.errors import KilnError  # here, so that other commands start without database drivers
    from common.local.children import DataDamaged
    from common.local.stack import running_stack

    def tell(line: str) -> None:
        with suppress(OSError):  # a full disk, a terminal that is gone: looking after the rest matters more
            output.note(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {line}")

    heard, stack = _Signals(), None
    try:
        with (
            heard.raised(),
            running_stack(
                home,
                port=port,
                workers=workers,
                model=model or "",
                postgres_programs=postgres,
                tell=tell if serves else None,
            ) as stack,
        ):
            try:
                yield stack
            finally:
                heard.mute()  # a second Ctrl-C must not leave half of it running
    except KilnError as error:
        output.note(error.detail)
        raise typer.Exit(65 if isinstance(error, DataDamaged) else 1) from None
    except KeyboardInterrupt:
        tell_end(output, stack)
        raise typer.Exit(stack.supervisor.outcome if stack else 0) from None


def tell_end(output: Output, stack: "Stack | None") -> None:
    """What happened in all, now that it is over."""
    for process in stack.supervisor.processes if stack else ():
        if process.ended:
            times = "once" if process.ended == 1 else f"{process.ended} times"
            output.note(f"{process.program.name} ended by itself {times}, the last time: {process.reason}")
    output.note("\nStopped.")


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
