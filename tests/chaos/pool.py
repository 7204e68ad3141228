"""Scenarios and doses in; several done at a time, each in a process of its own; their results, as they come, out.

Most of a scenario is waiting, for leases and outages: two cores bear a handful of them.
"""

import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from tests.chaos.crew import share_nursery
from tests.chaos.perform import Result, perform, unheard


def perform_all(doses: Mapping[str, int], at_once: int) -> Iterator[Result]:
    """Each scenario's result. Whoever is still at it when this ends is told to stop, and waited for."""
    share_nursery()
    waiting, running = deque(doses), dict[Connection, tuple[str, ForkProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.popleft()
                told, process = _start(name, doses[name])
                running[told] = (name, process)
            for told in wait(list(running)):
                name, process = running.pop(told)  # type: ignore[index]
                yield _hear(told, process, name, doses[name])  # type: ignore[arg-type]
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _start(name: str, dose: int) -> tuple[Connection, ForkProcess]:
    """Forked from here, where everything is imported and nothing runs yet."""
    context = multiprocessing.get_context("fork")
    told, telling = context.Pipe(duplex=False)
    process = context.Process(target=_perform, args=(telling, name, dose))
    process.start()
    telling.close()
    return told, process


def _perform(telling: Connection, name: str, dose: int) -> None:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C ends the one that waits for us, and it tells us
    try:
        telling.send(perform(name, dose))
    except Exception as error:
        traceback.print_exc()
        telling.send(unheard(name, dose, f"{type(error).__name__}: {error}"[:2000]))


def _end(*_: object) -> None:
    """Leave all blocks, which ends what they started; once."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(143)


def _hear(told: Connection, process: ForkProcess, name: str, dose: int) -> Result:
    with told:
        try:
            result: Result = told.recv()
        except EOFError:
            process.join()
            return unheard(name, dose, f"its process ended with {process.exitcode}")
    process.join()
    return result
