"""The device thread: calls and slots in, results and progress out. It alone touches the models. Of libraries, torch.

One that fails for good is lost: who waits for it is told, and nothing more is tried. So is one whose thread ends.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog
import torch

from common.errors import DeviceLost
from worker.diffusion.calls import Call, Work, answer, as_told
from worker.diffusion.faults import Failed
from worker.diffusion.figures import Figures
from worker.diffusion.guard import Guard
from worker.diffusion.slots import ROWS, Shape, Sitting, Slot, Width, choose, is_even, tick
from worker.weights import Model

log = structlog.get_logger()

T = TypeVar("T")
Item = TypeVar("Item")

IDLE_SECONDS = 1.0  # idle time is counted at least this often, while it lasts


class Device:
    """One thread that owns the device: in turn, the waiting calls and one tick of the most urgent slots."""

    def __init__(
        self,
        width: Width | None = None,
        *,
        has_jobs: Callable[[], bool] = lambda: False,
        probe: Callable[[], None] = lambda: None,  # raises where the device does nothing more
    ) -> None:
        self.width = width or Width(1, exact=True)
        self.figures = Figures()
        self.slots_used = 0  # by the present tick, or the latest one where another follows
        self.guard = Guard(probe, self._stop)
        self._has_jobs = has_jobs
        self._even: dict[tuple[str, Shape, Width], bool] = {}
        self._calls: deque[Call] = deque()
        self._answering: Sequence[Call] = ()
        self._sittings: list[Sitting] = []
        self._ticking: frozenset[Slot] = frozenset()  # those of which some take a step now
        self._changed = threading.Condition()
        self._over = ""  # why there will be no more calls and ticks
        self._latest_tick = 0.0  # seconds
        self._thread = threading.Thread(target=self._serve, name="device", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` on the device thread, after those that came before, and return, or raise, what it does."""
        result: T = self.share(lambda _: [call()], object(), None)
        return result

    def share(self, work: Callable[[list[Item]], Sequence[T]], key: Any, item: Item) -> T:
        """What ``work`` makes of ``item``, on the device thread. Raises what it raises, OutOfDeviceMemory, DeviceLost.

        ``work`` takes a list of items and gives a result for each. Where the bits may depend on the company, it gets
        the waiting items of the same key together, as many as there are slots at most.
        """
        call = Call(work, key, item)
        with self._changed:
            self._put(call)
            self._changed.notify()
        outcome: T = call.result.result()
        return outcome

    @contextmanager
    def seat(self, slots: list[Slot], work: Work, key: Any, fallback: Work | None = None) -> Iterator[Sitting]:
        """Let ``slots`` take part in the ticks until all are done or the block ends: then none moves any more.

        Each one's final latents then go through ``work`` (see share()): before the next tick, as no thread has to ask.
        ``fallback`` is work that takes less memory, for latents of which not even one has enough for ``work``.
        """
        sitting = Sitting(slots, work, key, fallback)
        with self._changed:
            if self._over:
                raise DeviceLost(self._over)
            self._sittings.append(sitting)
            self._end(sitting)
            self._changed.notify()
        try:
            yield sitting
        finally:
            with self._changed:
                self._sittings.remove(sitting)
                self._changed.wait_for(lambda: self._over or self._ticking.isdisjoint(sitting.slots))

    def width_of(self, model: Model, shape: Shape) -> Width:
        """The width for pictures of ``shape``: 1 where more, tried on the device thread, are uneven or too much."""
        if self.width.slots == 1 or not self.width.exact:
            return self.width
        key = (model.name, shape, self.width)
        if key not in self._even:
            self._even[key] = self.guard.attempt(partial(is_even, model, shape, self.width.slots * ROWS)) is True
        return self.width if self._even[key] else Width(1, exact=True)

    def pictures(self) -> int:
        """How many pictures take part in the ticks: those that have a slot, and those that wait for one."""
        with self._changed:
            return len(self._to_paint())

    def busy_seconds(self) -> float:
        """How long the present call or tick has been running, in seconds; 0 when idle. What the heartbeat watches."""
        since = self.guard.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def is_alive(self) -> bool:
        """Whether it takes calls, and does them."""
        return self._thread.is_alive() and not self._over

    def close(self) -> None:
        """Stop after the present call or tick; who waits is told."""
        self._stop("the device is closed")

    def _serve(self) -> None:
        try:
            with suppress(DeviceLost), torch.inference_mode():
                while self._await_work():
                    self._do_calls()
                    self._do_tick()
        except (
            BaseException
        ) as error:  # a fault of ours: no job's, and a thread that ended in silence would be waited for
            log.exception("the device thread ended")
            self.guard.lose(f"its thread ended with {type(error).__name__}")

    def _stop(self, reason: str) -> None:
        """No more calls and ticks: tell all who wait."""
        with self._changed:
            self._over = self._over or reason
            for call in (*self._answering, *self._calls):
                call.fail(DeviceLost(reason))
            self._calls.clear()
            for sitting in self._sittings:
                sitting.failed = True
                sitting.news.put(DeviceLost(reason))
            self._changed.notify_all()

    def _await_work(self) -> bool:
        began = time.monotonic()
        with self._changed:
            self._ticking = frozenset()
            self._changed.notify_all()
            while not (self._over or self._calls or self._to_paint()):
                self.slots_used = 0
                cause = "between_stages" if self._has_jobs() else "no_jobs"
                self._changed.wait(IDLE_SECONDS)
                before, began = began, time.monotonic()
                self.figures.idle_seconds[cause] += began - before
            return not self._over

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
            self._answering = calls = [first, *alike]
        began = self.guard.busy_since = time.monotonic()
        answer(calls, self.guard.attempt)
        self.guard.busy_since = None
        self._answering = ()
        self.figures.calls += 1
        self.figures.called += len(calls)
        self.figures.call_seconds += time.monotonic() - began
        return True

    def _do_tick(self) -> None:
        with self._changed:
            self._ticking = frozenset(waiting := self._to_paint())
        began = self.guard.busy_since = time.monotonic()
        chosen = choose(waiting, self.width_of)
        self.slots_used = len(chosen)
        if chosen:
            self._step(chosen, self.width_of(*chosen[0].kind))
            self._latest_tick = time.monotonic() - began
            self.figures.tick_seconds += self._latest_tick
        self.guard.busy_since = None

    def _step(self, chosen: list[Slot], width: Width) -> None:
        """A step for each of the ``chosen``; singly where it goes wrong: one job's fault is not to be the others'."""
        outcome = self.guard.attempt(partial(tick, chosen, width))
        if isinstance(outcome, Failed) and outcome.of_memory and self._narrow(chosen, width):
            return
        if isinstance(outcome, Failed) and len(chosen) > 1:
            for slot in chosen:
                self._step([slot], width)
            return
        rows = width.rows(sum(len(slot.context) for slot in chosen))
        self.figures.ticks += 1
        self.figures.evaluations += len(chosen)
        self.figures.rows += rows
        self._tell(set(chosen), width, rows, as_told(outcome) if isinstance(outcome, Failed) else None)

    def _narrow(self, chosen: list[Slot], width: Width) -> bool:
        """Halve the slots, to try the tick again. False where that makes its call no smaller."""
        if width.slots == 1 or (width.floats and len(chosen) == 1):
            return False
        self.width = replace(self.width, slots=self.width.slots // 2)
        log.warning("out of memory: fewer slots", slots=self.width.slots, rows=len(chosen))
        return True

    def _tell(self, chosen: set[Slot], width: Width, rows: int, error: BaseException | None) -> None:
        """Give every job that took part its news: how far it is, or what went wrong."""
        with self._changed:
            for sitting in self._sittings:
                if not chosen.isdisjoint(sitting.slots):
                    self._end(sitting)
                    sitting.widths.add(width)
                    sitting.rows.add(rows)
                    sitting.failed = error is not None or sitting.failed
                    sitting.news.put(error or sitting.done)

    def _end(self, sitting: Sitting) -> None:
        for slot in sitting.slots:
            if slot.done and slot not in sitting.results:
                call = Call(sitting.work, sitting.key, slot.latents, sitting.fallback)
                sitting.results[slot] = call.result
                self._put(call)

    def _put(self, call: Call) -> None:
        if self._over:
            call.fail(DeviceLost(self._over))
        else:
            self._calls.append(call)
