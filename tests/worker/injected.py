"""A device that fails as CUDA does: at the n-th of all the calls and copies that jobs ask of it, on the CPU."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from worker.weights import Model

Error = Callable[[], BaseException]

PARTS = ("unet", "vae", "text_encoder", "enhancer", "scorer")
COPIES = ("to", "cpu", "float")


def out_of_memory() -> BaseException:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def shape_bug() -> BaseException:
    return RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")


def illegal_access() -> BaseException:
    """What torch raises: an error with CUDA's number."""
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")
    error.error_code = 700  # type: ignore[attr-defined]
    return error


class Injected:
    """Counts calls, and raises ``error`` at ``times`` of them from number ``at`` on; at all of them, if None."""

    def __init__(self, error: Error = out_of_memory, *, at: int = 0, times: int | None = 1) -> None:
        self.error, self.at, self.times = error, at, times
        self.calls: list[tuple[str, str]] = []  # what was called, and by which thread
        self.struck: tuple[str, str] | None = None  # the first that failed
        self.still_held: list[str] = []  # calls of the device during which something of a failed one was alive
        self._held: list[weakref.ref[torch.Tensor]] = []
        self._lock = threading.Lock()
        self._inside = threading.local()

    def call(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if getattr(self._inside, "it", False):
            return function(*arguments, **options)
        activations = torch.empty(8)
        with self._lock:
            thread = threading.current_thread().name.split("_")[0]
            self.calls.append((name, thread))
            if thread == "device" and any(held() is not None for held in self._held):
                self.still_held.append(name)
            number = len(self.calls)
            if self.at and self.at <= number and (self.times is None or number < self.at + self.times):
                self.struck = self.struck or (name, thread)
                if thread == "device":  # elsewhere the frames may still be on their way
                    self._held.append(weakref.ref(activations))
                raise self.error()
        self._inside.it = True
        try:
            return function(*arguments, **options)
        finally:
            self._inside.it = False

    def holds(self) -> bool:
        """Whether anything keeps what a failed call had allocated."""
        return any(held() is not None for held in self._held)

    @contextmanager
    def under(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
        """The model with every call and copy of its tensors counted, and some failing."""
        with monkeypatch.context() as patched:
            for name in COPIES:
                patched.setattr(torch.Tensor, name, _counting(self, name, getattr(torch.Tensor, name)))
            yield replace(model, **{part: _Part(self, part, getattr(model, part)) for part in PARTS})


def _counting(device: Injected, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: device.call(name, function, *arguments, **options)


class _Part:
    """A module whose calls are counted."""

    def __init__(self, device: Injected, name: str, module: Any) -> None:
        self._device, self._name, self._module = device, name, module

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._device.call(self._name, self._module, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name in ("encode", "decode"):
            return _counting(self._device, f"{self._name}.{name}", found)
        return found
