"""Settings in; the device, number format and threads that they mean here out. Of libraries, torch alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from common.errors import ModelNotLoadable


def pick_device(setting: str) -> torch.device:
    """The device that KILN_DEVICE names; ``auto``: CUDA, else Apple's MPS, else the CPU.

    Raises ModelNotLoadable when this machine, or this build of torch, has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if setting == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ModelNotLoadable(
            f"there is no device {setting!r}; KILN_DEVICE is auto, cpu, cuda, cuda:N or mps"
        ) from error
    there = {"cpu": True, "mps": mps, "cuda": cuda and (device.index or 0) < torch.cuda.device_count()}
    if not there.get(device.type, False):
        raise ModelNotLoadable(
            f"KILN_DEVICE asks for {setting}, and torch {torch.__version__} sees no such device here"
        )
    return device


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The number format that KILN_DTYPE names; ``auto``: float16 on CUDA, float32 elsewhere."""
    if setting == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[setting]


def share_cores(workers: int) -> None:
    """Let this thread compute on its part of the cores, where ``workers`` share them; OMP_NUM_THREADS, if set, holds.

    torch takes as many threads as the machine has cores, in each process, and OpenMP's spin while they wait for one
    another: those of three workers on two cores mostly for one that has no core.
    """
    threads = max(1, min(torch.get_num_threads(), usable_cores()) // workers)
    if threads < torch.get_num_threads() and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(threads)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: by its affinity, and by the CPU quotas of its control groups, on Linux."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """In cores, of each control group that this process is in. https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    membership = root / "proc/self/cgroup"
    for line in membership.read_text().splitlines() if membership.exists() else []:
        _, controllers, path = line.split(":", 2)  # of version 2, no controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / controllers
        inner = mounted / path.lstrip("/")  # in a container perhaps the host's path: then the mount itself is the group
        for group in (inner, *inner.parents):
            if group.is_relative_to(mounted):
                yield from _quota(group)


def _quota(group: Path) -> Iterator[float]:
    try:
        if (limit := group / "cpu.max").exists():
            quota, period = limit.read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    except OSError:
        return
    if quota != "max" and int(quota) > 0:
        yield int(quota) / int(period)
