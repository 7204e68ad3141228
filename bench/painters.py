"""Jobs in, the moments at which they were done out: by the real engine, and by batches of equal parameters."""

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from bench.fake import Job, Unet, make_model, make_spec
from common.errors import WorkerDraining
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot, Width
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced

TEXTS = Enhanced("a red apple", "a red apple", "a red apple")


class Painter(Protocol):
    """Whoever paints jobs on a device, one after the other or together."""

    def submit(self, job: Job) -> "Future[float]":
        """When the job was done, by time.perf_counter()."""


class Engine:
    """The engine as a worker has it: seats for half as many jobs again as slots, and a thread that owns the device."""

    def __init__(self, width: Width) -> None:
        self.unet = Unet(width.slots)
        self._model = make_model(self.unet)
        self._device = Device(width)
        self._seats = ThreadPoolExecutor(width.slots + max(2, width.slots // 2))
        self._arrivals = itertools.count()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._seats.shutdown(cancel_futures=True)
        self._device.close()
        self._device._thread.join()  # torch aborts a program that ends while a thread is in its code

    def submit(self, job: Job) -> "Future[float]":
        return self._seats.submit(self.paint, job, lane=1, place=next(self._arrivals))

    def paint(self, job: Job, *, lane: int = 0, place: int = 0) -> float:
        """Paint it from this thread, by the stage that paints; lane 0, the interactive one, goes before 1."""
        with suppress(WorkerDraining):
            diffuse(make_spec(job), TEXTS, self._model, self._device, _Hold((lane, place), self._stopping))
        return time.perf_counter()


class _Hold:
    """A job in hand; it is given up where the engine stops."""

    alone = False

    def __init__(self, urgency: tuple[int, int], stopping: threading.Event) -> None:
        self.urgency = urgency
        self._stopping = stopping

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """It begins afresh."""

    def step(self, done: int) -> None:
        self.look()

    def look(self) -> None:
        if self._stopping.is_set():
            raise WorkerDraining


class Alike:
    """Batching by equal parameters at its best: the oldest job and all that wait with the same ones, without a pause.

    With one slot it is a task per job. No cost is charged for anything but the U-Net.
    """

    def __init__(self, slots: int) -> None:
        self._unet = Unet(slots)
        self._slots = slots
        self._waiting: list[tuple[Job, Future[float]]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job) -> "Future[float]":
        done: Future[float] = Future()
        with self._changed:
            self._waiting.append((job, done))
            self._changed.notify()
        return done

    def _serve(self) -> None:
        while batch := self._next():
            paint_together(self._unet, [job for job, _ in batch])
            now = time.perf_counter()
            for _, done in batch:
                done.set_result(now)

    def _next(self) -> "list[tuple[Job, Future[float]]]":
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch = [pair for pair in self._waiting if pair[0] == self._waiting[0][0]][: self._slots]
            self._waiting = [pair for pair in self._waiting if pair not in batch]
            return batch


def paint_together(unet: Unet, jobs: Sequence[Job]) -> None:
    """What a plain pipeline does with a list of prompts: every step for all of them."""
    rows = sum(job.rows for job in jobs)
    sample, context = torch.ones(rows, 4, 8, 8), torch.ones(rows, 77, 4)
    for _ in range(jobs[0].evaluations):
        unet(sample, torch.zeros(rows), encoder_hidden_states=context)


def play(painter: Painter, jobs: Sequence[Job], arrivals: Sequence[float]) -> list[float]:
    """Seconds from each job's arrival, itself in seconds from now, until it was done."""
    began = time.perf_counter()
    done = []
    for job, arrival in zip(jobs, arrivals, strict=True):
        time.sleep(max(0.0, began + arrival - time.perf_counter()))
        done.append(painter.submit(job))
    return [future.result() - began - arrival for future, arrival in zip(done, arrivals, strict=True)]


def drain(painter: Painter, jobs: Sequence[Job]) -> float:
    """Seconds until all of the jobs, which are there at once, are done."""
    return max(play(painter, jobs, [0.0] * len(jobs)))
