"""A home folder and the options of `kiln up` in, a systemd unit that runs it out, printed or written to a folder."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from client.output import Output

NAME = "kiln.service"

UNIT = """\
# Made by `kiln up --systemd`. Kiln starts its own processes and starts them again when they end; systemd starts Kiln.
#   for yourself:     cp {name} ~/.config/systemd/user/ && systemctl --user enable --now kiln
#                     (and, to run without you being logged in: loginctl enable-linger)
#   for the machine:  add User= below, cp {name} /etc/systemd/system/ && systemctl enable --now kiln
# Settings (KILN_*) are read from .env in the working directory. `kiln status` and `kiln down` work as without systemd.

[Unit]
Description=Kiln, a queue for text-to-image diffusion
After=network.target
StartLimitIntervalSec=0

[Service]
Type=exec
# User=kiln
WorkingDirectory={folder}
Environment={path}
ExecStart={command}
Restart=on-failure
RestartSec=10
# some processes had to be started again (4), or did not run at the end (5): both are told in the journal
SuccessExitStatus=4 5
# wrong usage, and damaged data, on which nothing must be started
RestartPreventExitStatus=2 65
# Kiln alone is told to end, and ends its processes in good order
KillMode=mixed
TimeoutStopSec=120
# a worker that the kernel ends for want of memory is started again by Kiln
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def offer_unit(output: Output, home: Path, arguments: Sequence[str], folder: Path | None) -> None:
    """Print the unit, or write it to ``folder``. Refuses what a unit file cannot hold."""
    command = [sys.executable, "-m", "client", "up", "--home", str(home.resolve()), *arguments]
    path = f"PATH={os.environ.get('PATH', os.defpath)}"  # where PostgreSQL was found, it is to be found again
    if not all(word.isprintable() for word in (*command, path, str(Path.cwd()))):
        output.note("A path with control characters cannot stand in a systemd unit.")
        raise typer.Exit(2)
    unit = UNIT.format(
        name=NAME,
        folder=str(Path.cwd()).replace("%", "%%"),
        path=_quote(path),
        command=" ".join([_quote(command[0]), *(_quote(word).replace("$", "$$") for word in command[1:])]),
    )
    if folder is None:
        typer.echo(unit, nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(unit, encoding="utf-8")
    output.note(f"Wrote {folder / NAME}; its first lines say how to install it.")


def _quote(word: str) -> str:
    """By systemd.syntax(7): quotes around it, backslashes before what they would end, and each % doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
