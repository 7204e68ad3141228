"""Painters: settings in; workers, forked from a process that has imported everything, and their end, out."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import uuid4

from tests.chaos.painter import serve
from tests.processes import slowness

forkserver.set_forkserver_preload([serve.__module__])

Break = Callable[[], None]  # what makes a process do wrong what Kiln does right: see wrong.py


@dataclass(frozen=True, slots=True)
class Painter:
    """One worker, which we started and may hurt."""

    process: BaseProcess
    log: Path
    group: bool = False  # it leads a group of processes, which are hurt together

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """As of subprocess: None while it runs, the negative number of the signal that killed it."""
        return self.process.exitcode

    def hurt(self, signum: int) -> None:
        """Send a signal, unless it has ended by itself."""
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                (os.killpg if self.group else os.kill)(self.pid, signum)

    def stop(self) -> None:
        """Ask it to end, and end it where that is not heeded."""
        self.hurt(signal.SIGTERM)
        self.hurt(signal.SIGCONT)  # a stopped process hears no SIGTERM
        self.process.join(20 * slowness())
        self.hurt(signal.SIGKILL)
        self.process.join()
        if self.group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # whom its leader left behind


def start_painter(variables: dict[str, str], folder: Path, broken: Break | None = None) -> Painter:
    """A worker with these variables, which logs to a new file of ``folder``."""
    log = folder / f"painter-{uuid4().hex[:8]}.log"
    return Painter(fork(serve, variables, log, broken), log)


def fork(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """``target`` in a process of its own.

    Importing torch and diffusers takes seconds of a core; the fork server does it once for all.
    """
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def share_nursery() -> None:
    """Start the fork server. Whoever is forked from this process has painters forked by the same one.

    By itself multiprocessing would start another in each, as it can only wait for a child of its own.
    """
    forkserver.ensure_running()
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]


@contextmanager
def ending(painters: Sequence[Painter]) -> Iterator[None]:
    """Whoever of them is left ends with the block."""
    try:
        yield
    finally:
        for painter in painters:
            painter.hurt(signal.SIGCONT)
            painter.hurt(signal.SIGTERM)
        for painter in painters:
            painter.stop()


def has_stopped(pid: int) -> bool:
    """Whether it is stopped by a signal: proc(5), the state after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
