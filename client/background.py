"""A Kiln in the background: `kiln up --detach` starts it, `kiln status` tells of it, `kiln down` stops it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from client.address import read_run
from client.generate import AsJson
from client.output import Output, answering

Home = Annotated[Path, typer.Option("--home", envvar="KILN_HOME", help="Folder that `kiln up` was given.")]

DEFAULT_HOME = Path(".kiln")
DOWN_SECONDS = 120  # workers keep what they have in hand, and PostgreSQL closes its files
NOT_ALL, NONE_RUNS = 1, 3


def start_detached(output: Output, home: Path, arguments: Sequence[str]) -> None:
    """Start `kiln up` in a session of its own, and return once it is ready. Exits as it does where it is not."""
    log = home / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "client", "up", "--home", str(home), *arguments]
    with log.open("ab") as said:
        began = said.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        while process.poll() is None and _runs_as(home) != process.pid:
            time.sleep(0.1)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
    if process.poll() is not None:
        output.note(log.read_bytes()[began:].decode(errors="replace").strip())
        raise typer.Exit(process.returncode)
    told = [line for line in log.read_bytes()[began:].decode(errors="replace").splitlines() if line[:1].isdigit()]
    output.note("\n".join([*told, f"Runs in the background, and logs to {log}. `kiln down` ends it."]))


def down(home: Home = DEFAULT_HOME) -> None:
    """Stop the Kiln that runs in this home, however it was started, and wait until it has ended.

    Exit codes: 0 it has ended; 1 it has not within two minutes; 3 none runs there.
    """
    from common.local.children import end_leftovers
    from common.local.lock import holder, is_held, only_one

    output = Output(as_json=False)
    if not is_held(home):
        if (home / "children.json").exists():
            with only_one(home):
                end_leftovers(home.resolve())  # of one that was killed
        output.note(f"No Kiln runs in {home}.")
        raise typer.Exit(NONE_RUNS)
    told, deadline = None, time.monotonic() + DOWN_SECONDS
    while is_held(home) and time.monotonic() < deadline:
        if told is None and (told := holder(home)) is not None:
            try:
                os.kill(told, signal.SIGTERM)
            except PermissionError:
                output.note(f"Kiln in {home} is process {told} of another user.")
                raise typer.Exit(NOT_ALL) from None
        time.sleep(0.1)
    if is_held(home):
        output.note(f"Process {told} was told to end, and has not after {DOWN_SECONDS} s; {home / 'logs'} may say why.")
        raise typer.Exit(NOT_ALL)
    output.note("Stopped.")


def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Tell which processes of the Kiln in this home run, since when, and how often each was started again and why.

    Exit codes: 0 all run; 1 one does not, or it has not started yet; 3 none runs there.
    """
    from common.local.lock import holder, is_held

    with answering(as_json) as output:
        if not is_held(home):
            output.answer({"state": "down", "api": None, "processes": {}}, f"No Kiln runs in {home}.")
            raise typer.Exit(NONE_RUNS)
        run = read_run(home)
        processes: dict[str, dict[str, Any]] = run.get("processes", {})
        if not run or run["pids"]["up"] != holder(home):
            output.answer({"state": "starting", "api": None, "processes": {}}, f"Kiln starts in {home}.")
            raise typer.Exit(NOT_ALL)
        good = all(process["state"] == "running" for process in processes.values())
        told = {"state": "up" if good else "degraded", "api": run["api"], "pid": run["pids"]["up"]}
        output.show(told | {"processes": processes}, _overview(run["api"], processes))
        if not good:
            raise typer.Exit(NOT_ALL)


def _overview(api: str, processes: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=f"Kiln at {api}", title_justify="left")
    for heading in ("process", "state", "since", "pid", "ended by itself", "the last time"):
        table.add_column(heading, overflow="fold")
    for name, process in processes.items():
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process["since"]))
        ended = {0: "never", 1: "once"}.get(process["ended"], f"{process['ended']} times")
        table.add_row(name, process["state"], since, str(process["pid"] or ""), ended, process["reason"])
    return table


def addresses(home: Path) -> Table:
    """Where the Kiln of this home answers, without its passwords."""
    run = read_run(home)
    table = Table(show_header=False, title="Kiln is up", title_justify="left")
    table.add_row("API", run["api"])
    table.add_row("API documentation", f"{run['api']}/docs")
    table.add_row("Database", _without_password(run["database"]))
    table.add_row("Broker", _without_password(run["broker"]))
    table.add_row("Storage", run["storage"]["endpoint_url"])
    table.add_row("Passwords, process ids", str(home / "run.json"))
    table.add_row("Logs", str(home / "logs"))
    return table


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _runs_as(home: Path) -> int | None:
    """The process that a complete run.json names."""
    pid: int | None = read_run(home).get("pids", {}).get("up")
    return pid
