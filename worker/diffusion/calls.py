"""Calls of the device thread: work and its item in; the result, or what went wrong, out. Touches no device itself."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from common.errors import OutOfDeviceMemory
from worker.diffusion.faults import Failed

T = TypeVar("T")
Work = Callable[[list[Any]], Sequence[Any]]  # from items to a result for each


class Attempt(Protocol):
    """How something is tried on the device."""

    def __call__(self, call: Callable[[], T]) -> T | Failed[T]: ...


@dataclass(slots=True, eq=False)
class Call:
    """Something to be done with one item; calls of the same work and key may be done together."""

    work: Work
    key: Any
    item: Any
    fallback: Work | None = None  # the same with less memory
    result: "Future[Any]" = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        """Tell who waits for it, unless that was told already."""
        with suppress(InvalidStateError):
            self.result.set_exception(error)


def answer(calls: Sequence[Call], attempt: Attempt) -> None:
    """Do the calls together and give each caller its result.

    What goes wrong for several is done singly: one item's fault is not to be the others'. One that has not the memory
    falls back.
    """
    outcome = attempt(partial(_do, calls[0].work, calls))
    if isinstance(outcome, Failed) and len(calls) > 1:
        for call in calls:
            answer([call], attempt)
        return
    if isinstance(outcome, Failed) and outcome.of_memory and calls[0].fallback:
        outcome = attempt(partial(_do, calls[0].fallback, calls))
    if isinstance(outcome, Failed):
        calls[0].fail(as_told(outcome))
        return
    for call, result in zip(calls, outcome, strict=True):
        with suppress(InvalidStateError):  # the device was given up meanwhile
            call.result.set_result(result)


def as_told(failed: Failed[Any]) -> BaseException:
    """What is told to the job: of memory that ran out in our own word, whichever library it was."""
    if failed.of_memory:
        return OutOfDeviceMemory("what the job needs at once does not fit into the device's memory")
    return failed.error


def _do(work: Work, calls: Sequence[Call]) -> list[Any]:
    results = list(work([call.item for call in calls]))
    if len(results) != len(calls):
        raise ValueError(f"{len(calls)} items and {len(results)} results")
    return results
