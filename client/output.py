"""What a command has to say in; answers on stdout, everything else on stderr, and an exit code out."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, RenderableType

from client.errors import ClientError, KilnApiError

INTERRUPTED = 130  # as shells count it: 128 + SIGINT

_WIDE = 200  # columns where nobody's terminal sets the width, so that no id is cut


class Output:
    """The two streams of a command. ``as_json``: stdout gets exactly one JSON document and nothing else."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.notes = Console(stderr=True, markup=False, highlight=False)
        self._answers = Console(markup=False, highlight=False)
        if not self._answers.is_terminal:
            self._answers = Console(markup=False, highlight=False, width=_WIDE)

    @property
    def width(self) -> int:
        """Columns for an answer."""
        return self._answers.width

    def note(self, line: str) -> None:
        """A line for the person at the terminal."""
        self.notes.print(printable(line), soft_wrap=True)

    def answer(self, data: Any, *lines: str) -> None:
        """What the command was asked for: ``data`` for scripts, or the ``lines`` for people."""
        if self.as_json:
            typer.echo(json.dumps(data, indent=2))
        else:
            for line in lines:
                self._answers.print(printable(line), soft_wrap=True)

    def show(self, data: Any, picture: RenderableType) -> None:
        """The same with a table or panel for people."""
        if self.as_json:
            self.answer(data)
        else:
            self._answers.print(picture)


@contextmanager
def answering(as_json: bool, names: Mapping[str, str] | None = None) -> Iterator[Output]:
    """Turn whatever a command ends in into a sentence and an exit code; ``names``: the options behind API fields."""
    output = Output(as_json)
    try:
        yield output
    except ClientError as error:
        if as_json:
            output.answer(error.document())
        output.note(error.sentence(names or {}) if isinstance(error, KilnApiError) else str(error))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def printable(text: str) -> str:
    """``text`` without what could steer a terminal or not be encoded: a prompt is somebody else's text."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
