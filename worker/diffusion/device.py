"""The device thread: calls and slots in, results and progress out. It alone touches the models. Of libraries, torch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog
import torch

from worker.diffusion.slots import ROWS, Shape, Sitting, Slot, Width, choose, is_even, tick
from worker.weights import Model

log = structlog.get_logger()

T = TypeVar("T")
Item = TypeVar("Item")
Work = Callable[[list[Any]], Sequence[Any]]

IDLE_SECONDS = 1.0  # idle time is counted at least this often, while it lasts


@dataclass(slots=True)
class Figures:
    """What the device has done since its start. Seconds are of the wall."""

    ticks: int = 0
    tick_seconds: float = 0.0
    evaluations: int = 0  # slots that took a step
    rows: int = 0  # rows of the U-Net calls, padding included
    calls: int = 0
    call_seconds: float = 0.0
    called: int = 0  # items of all calls: several share one
    idle_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("no_jobs", "between_stages"), 0.0))

    @property
    def busy_seconds(self) -> float:
        return self.tick_seconds + self.call_seconds


@dataclass(slots=True, eq=False)
class _Call:
    """Something to be done with one item; calls of the same work and key may be done together."""

    work: Work
    key: Any
    item: Any
    result: "Future[Any]" = field(default_factory=Future)


class Device:
    """One thread that owns the device: in turn, the waiting calls and one tick of the most urgent slots."""

    def __init__(self, width: Width | None = None, *, has_jobs: Callable[[], bool] = lambda: False) -> None:
        self.width = width or Width(1, exact=True)
        self.figures = Figures()
        self.slots_used = 0  # by the present tick, or the latest one where another follows
        self._has_jobs = has_jobs
        self._even: dict[tuple[str, Shape, Width], bool] = {}
        self._calls: deque[_Call] = deque()
        self._sittings: list[Sitting] = []
        self._ticking: frozenset[Slot] = frozenset()  # those of which some take a step now
        self._changed = threading.Condition()
        self._closed = False
        self._busy_since: float | None = None
        self._latest_tick = 0.0  # seconds
        self._thread = threading.Thread(target=self._serve, name="device", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` on the device thread, after those that came before, and return, or raise, what it does."""
        result: T = self.share(lambda _: [call()], object(), None)
        return result

    def share(self, work: Callable[[list[Item]], Sequence[T]], key: Any, item: Item) -> T:
        """What ``work`` makes of ``item``, on the device thread.

        ``work`` takes a list of items and gives a result for each. Where the bits may depend on the company, it gets
        the waiting items of the same key together, as many as there are slots at most.
        """
        call = _Call(work, key, item)
        with self._changed:
            if self._closed:
                raise RuntimeError("the device is closed")
            self._calls.append(call)
            self._changed.notify()
        outcome: T = call.result.result()
        return outcome

    @contextmanager
    def seat(self, slots: list[Slot], work: Work, key: Any) -> Iterator[Sitting]:
        """Let ``slots`` take part in the ticks until all are done or the block ends: then none moves any more.

        Each one's final latents then go through ``work`` (see share()): before the next tick, as no thread has to ask.
        """
        sitting = Sitting(slots, work, key)
        with self._changed:
            self._sittings.append(sitting)
            self._end(sitting)
            self._changed.notify()
        try:
            yield sitting
        finally:
            with self._changed:
                self._sittings.remove(sitting)
                self._changed.wait_for(lambda: self._ticking.isdisjoint(sitting.slots))

    def width_of(self, model: Model, shape: Shape) -> Width:
        """The width at which pictures of ``shape`` are painted. On the device thread: it may have to be tried."""
        if self.width.slots == 1 or not self.width.exact:
            return self.width
        key = (model.name, shape, self.width)
        if key not in self._even:
            self._even[key] = is_even(model, shape, self.width.slots * ROWS)
        return self.width if self._even[key] else Width(1, exact=True)

    def pictures(self) -> int:
        """How many pictures take part in the ticks: those that have a slot, and those that wait for one."""
        with self._changed:
            return len(self._to_paint())

    def busy_seconds(self) -> float:
        """How long the present call or tick has been running, in seconds; 0 when idle. What the heartbeat watches."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Stop after the present call or tick; what waits is cancelled."""
        with self._changed:
            self._closed = True
            while self._calls:
                self._calls.popleft().result.cancel()
            self._changed.notify()

    def _serve(self) -> None:
        with torch.inference_mode():
            while self._await_work():
                self._do_calls()
                self._do_tick()

    def _await_work(self) -> bool:
        began = time.monotonic()
        with self._changed:
            self._ticking = frozenset()
            self._changed.notify_all()
            while not (self._closed or self._calls or self._to_paint()):
                self.slots_used = 0
                cause = "between_stages" if self._has_jobs() else "no_jobs"
                self._changed.wait(IDLE_SECONDS)
                before, began = began, time.monotonic()
                self.figures.idle_seconds[cause] += began - before
            return not self._closed

    def _to_paint(self) -> list[Slot]:
        return [slot for sitting in self._sittings if not sitting.failed for slot in sitting.slots if not slot.done]

    def _do_calls(self) -> None:
        """What waits, but for no longer than a tick takes: pictures under way are not to starve."""
        until = time.monotonic() + self._latest_tick
        while self._do_call() and time.monotonic() < until:
            pass

    def _do_call(self) -> bool:
        """The oldest call, with those alike. False where none waits."""
        with self._changed:
            if not self._calls:
                return False
            first = self._calls.popleft()
            alike = [call for call in self._calls if call.key == first.key]
            del alike[self.width.slots - 1 if self.width.floats else 0 :]
            for call in alike:
                self._calls.remove(call)
        calls = [first, *alike]
        began = self._busy_since = time.monotonic()
        _answer(calls)
        self._busy_since = None
        self.figures.calls += 1
        self.figures.called += len(calls)
        self.figures.call_seconds += time.monotonic() - began
        return True

    def _do_tick(self) -> None:
        with self._changed:
            self._ticking = frozenset(waiting := self._to_paint())
        chosen = choose(waiting, self.width_of)
        self.slots_used = len(chosen)
        if not chosen:
            return
        width = self.width_of(*chosen[0].kind)
        began = self._busy_since = time.monotonic()
        news: BaseException | None = None
        try:
            tick(chosen, width)
        except BaseException as error:
            if isinstance(error, torch.OutOfMemoryError) and self._narrow(chosen):
                return
            news = error
        finally:
            self._busy_since = None
        self.figures.ticks += 1
        self._latest_tick = time.monotonic() - began
        self.figures.tick_seconds += self._latest_tick
        self.figures.evaluations += len(chosen)
        self.figures.rows += width.rows(sum(len(slot.context) for slot in chosen))
        self._tell(set(chosen), width, news)

    def _tell(self, chosen: set[Slot], width: Width, error: BaseException | None) -> None:
        """Give every job that took part its news: how far it is, or what went wrong."""
        with self._changed:
            for sitting in self._sittings:
                if not chosen.isdisjoint(sitting.slots):
                    self._end(sitting)
                    sitting.widths.add(width)
                    sitting.failed = error is not None
                    sitting.news.put(error or sitting.done)

    def _end(self, sitting: Sitting) -> None:
        for slot in sitting.slots:
            if slot.done and slot not in sitting.results:
                self._calls.append(call := _Call(sitting.work, sitting.key, slot.latents))
                sitting.results[slot] = call.result

    def _narrow(self, chosen: list[Slot]) -> bool:
        """After memory ran out: halve the width, to try the tick again. False where one slot alone is too much."""
        if self.width.slots == 1:
            return False
        self.width = replace(self.width, slots=self.width.slots // 2)
        torch.cuda.empty_cache()  # where there is no CUDA it does nothing
        log.warning("out of memory: fewer slots", slots=self.width.slots, rows=len(chosen))
        return True


def _answer(calls: list[_Call]) -> None:
    """Do the calls together and give each caller its result, or what went wrong. Without the memory for it: singly."""
    try:
        results = calls[0].work([call.item for call in calls])
    except BaseException as error:
        if isinstance(error, torch.OutOfMemoryError) and len(calls) > 1:
            for call in calls:
                _answer([call])
            return
        for call in calls:
            call.result.set_exception(error)
        return
    for call, result in zip(calls, results, strict=True):
        call.result.set_result(result)
