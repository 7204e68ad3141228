"""What a device's errors mean, and how to let go of what a failed call held. Of libraries, torch.

An exception keeps the frames that it came through, and those the tensors of the failed call. So nothing is tried
again inside ``except``: see attempt(), and PyTorch's FAQ, "My out of memory exception handler can't allocate memory".
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

# After these "the process must be terminated and relaunched": CUDA Runtime API, cudaError_t; HIP has the same numbers.
# Uncorrectable ECC and NVLink errors, no device, destroyed contexts and "unknown" are as final.
FATAL_CODES = frozenset({46, 100, 101, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})

# The same in words, for libraries above CUDA and HIP raise RuntimeError without a number
FATAL_WORDS = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "launch timed out",
    "device-side assert",
    "hardware stack error",
    "global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "uncorrectable",
    "context is destroyed",
    "busy or unavailable",
    "no cuda-capable device",
    "unknown error",
    "status_execution_failed",
    "status_mapping_error",
    "gpu is lost",
)
DEVICES = ("cuda", "hip", "cudnn", "cublas", "cusolver", "cufft", "miopen", "mps")  # of which such words may speak

# torch has a class for what its allocator for CUDA lacks, and none for the rest
MEMORY_WORDS = ("out of memory", "status_alloc_failed", "not enough memory", "can't allocate memory")


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """What a call raised, without what it held."""

    error: BaseException

    @property
    def of_memory(self) -> bool:
        return is_out_of_memory(self.error)


def attempt(call: Callable[[], T]) -> T | Failed[T]:
    """What ``call`` returns; or what it raised, once nothing of the call is kept any more."""
    try:
        return call()
    except BaseException as error:
        frames = error.__traceback__
        raised = error.with_traceback(frames and frames.tb_next)  # not this one, which would keep the call itself
    for one in chain(raised):
        traceback.clear_frames(one.__traceback__)  # of their variables; where it was raised can still be told
    return Failed(raised)


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            waiting += [one.__cause__, one.__context__]
            yield one


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY_WORDS)


def find_fatal(error: BaseException) -> RuntimeError | None:
    """The error, or one that led to it, which says that this process can use its device no more."""
    runtime = (one for one in chain(error) if isinstance(one, RuntimeError) and not is_out_of_memory(one))
    return next((one for one in runtime if _is_fatal(one)), None)


def probe(device: torch.device) -> None:
    """Compute something on ``device`` and wait for it. Raises where that cannot be done."""
    torch.ones(1, device=device).add_(1).cpu()


def free_memory() -> None:
    """Give back what nothing holds any more: cycles of Python's, then blocks that torch keeps. A CPU keeps none."""
    if torch.accelerator.is_available():
        gc.collect()
        torch.accelerator.empty_cache()


def _is_fatal(error: RuntimeError) -> bool:
    said = str(error).lower()
    of_device = isinstance(error, torch.AcceleratorError) or any(name in said for name in DEVICES)
    by_number = getattr(error, "error_code", None) in FATAL_CODES
    return of_device and (by_number or any(words in said for words in FATAL_WORDS))
