"""A task in, its trained weights out: two processes, a schedule over a time budget, checkpoints, progress.

Whatever ends a run, the next one goes on from the last checkpoint, at the share of the budget that was reached. Where
there is CUDA, one process with that device takes the place of two.
"""

import copy
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from rich.progress import Progress as RichProgress
from torch import nn
from torch.multiprocessing.spawn import spawn

LOG_EVERY = 20.0  # seconds
WARM_UP = 0.02  # of the budget
FLOOR = 0.02  # of the highest rate, at the end
EMA_DECAY = 0.998


class Task(Protocol):
    """What is trained, and on what."""

    modules: nn.ModuleDict
    batch: int  # samples a step and process

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        """The loss of one freshly drawn batch; all chance comes from ``generator``."""

    def show(self, averaged: nn.ModuleDict, path: Path) -> None:
        """Paint what the averaged weights can do so far into the PNG at ``path``."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    name: str
    minutes: float  # of each process's own computing: what else the machine does takes nothing away
    rate: float  # the highest learning rate
    seed: int = 1
    processes: int = 2
    save_every: float = 60.0  # seconds
    show_every: float = 300.0  # seconds
    decay: float = 0.01
    begin_with: str = ""  # the plan whose averaged weights to begin with


@dataclass
class Progress:
    seconds: float = 0.0
    steps: int = 0
    losses: list[float] = field(default_factory=list)


def train(make: Callable[..., Task], arguments: tuple[Any, ...], plan: Plan, folder: Path) -> None:
    """Train ``make(*arguments)`` until the budget is spent; a budget already spent returns at once."""
    if spent(folder, plan.name) >= plan.minutes * 60:
        return
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    plan = replace(plan, processes=1) if torch.cuda.is_available() else plan
    meeting = folder / f"{plan.name}.{os.getpid()}.meet"
    meeting.unlink(missing_ok=True)  # a killed run of the same number left one: in a container numbers come again
    spawn(_run, (make, arguments, plan, folder, meeting), nprocs=plan.processes)  # type: ignore[no-untyped-call]
    meeting.unlink(missing_ok=True)


def spent(folder: Path, name: str) -> float:
    """Seconds of one core that stage ``name`` has been trained for so far."""
    path = folder / f"{name}.pt"
    return float(torch.load(path, map_location="cpu", weights_only=True)["seconds"]) if path.exists() else 0.0


def load_averaged(folder: Path, name: str, modules: nn.ModuleDict) -> nn.ModuleDict:
    """``modules`` with the averaged weights of the last checkpoint."""
    modules.load_state_dict(torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True)["averaged"])
    return modules.eval()


def fastest_device() -> torch.device:
    """Where to train."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _run(
    rank: int, make: Callable[..., Task], arguments: tuple[Any, ...], plan: Plan, folder: Path, meeting: Path
) -> None:
    stopped = _join(rank, plan, meeting)
    task = make(*arguments)
    task.modules.to(fastest_device())
    averaged = copy.deepcopy(task.modules).eval()
    weights = task.modules.parameters()
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, weight_decay=plan.decay, betas=(0.9, 0.99), fused=True)
    progress = _resume(folder, plan, task.modules, averaged, optimizer)
    saved = shown = logged = time.monotonic()
    used, stop = time.process_time(), False
    with RichProgress(disable=rank > 0, refresh_per_second=1) as bar:
        shown_as = bar.add_task(plan.name, total=plan.minutes * 60)
        while not stop:
            progress.seconds, stop = _agree(progress.seconds, plan.minutes * 60, bool(stopped))
            if not stop:
                _set_rate(optimizer, plan.rate * _rate_at(progress.seconds / (plan.minutes * 60)))
                generator = torch.Generator().manual_seed((plan.seed * 1_000_003 + progress.steps) * 64 + rank)
                progress.losses.append(_step(task, optimizer, averaged, progress.steps, generator))
                progress.steps += 1
            now, before, used = time.monotonic(), used, time.process_time()
            progress.seconds += used - before
            bar.update(shown_as, completed=progress.seconds)
            if rank == 0 and (stop or now - saved > plan.save_every):
                _save(folder / f"{plan.name}.pt", task.modules, averaged, optimizer, progress)
                saved = now
            if rank == 0 and now - logged > LOG_EVERY:
                _log(folder, plan, progress, task.batch)
                logged, progress.losses = now, []
            if rank == 0 and (stop or now - shown > plan.show_every):
                task.show(averaged, folder / f"{plan.name}-{progress.steps:06}.png")
                shown = time.monotonic()
    dist.destroy_process_group()  # or gloo's thread, which still frees tensors, meets an interpreter that ends: abort


def _join(rank: int, plan: Plan, meeting: Path) -> list[int]:
    """Meet the other processes. The signals that ask for an end arrive in the returned list."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(meeting), plan.processes)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=plan.processes)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: stopped.append(signum))
    torch.manual_seed(plan.seed)
    return stopped


def _step(
    task: Task, optimizer: torch.optim.Optimizer, averaged: nn.ModuleDict, steps: int, generator: torch.Generator
) -> float:
    loss = task.loss(generator)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in task.modules.parameters() if weight.grad is not None]
    _share_gradients(gradients)
    nn.utils.clip_grad_norm_(task.modules.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    keep = min(EMA_DECAY, (1 + steps) / (10 + steps))
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(task.modules.parameters()), 1 - keep)
    return float(loss.detach())


def _share_gradients(gradients: list[torch.Tensor]) -> None:
    """Replace every gradient by its mean over the processes."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def _agree(seconds: float, budget: float, stop: bool) -> tuple[float, bool]:
    """What the busiest process has used of the budget, and whether to stop: the same everywhere."""
    said = torch.tensor([seconds, float(stop)], dtype=torch.float64)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return float(said[0]), bool(said[1]) or float(said[0]) >= budget


def _rate_at(share: float) -> float:
    """Up in a line, then down on a cosine."""
    if share < WARM_UP:
        return max(share / WARM_UP, 0.01)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _save(
    path: Path, modules: nn.ModuleDict, averaged: nn.ModuleDict, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    state = {
        "modules": modules.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seconds": progress.seconds,
        "steps": progress.steps,
    }
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _resume(
    folder: Path, plan: Plan, modules: nn.ModuleDict, averaged: nn.ModuleDict, optimizer: torch.optim.Optimizer
) -> Progress:
    path = folder / f"{plan.name}.pt"
    if not path.exists():
        if plan.begin_with:
            load_averaged(folder, plan.begin_with, averaged)
            modules.load_state_dict(averaged.state_dict())
        return Progress()
    state = torch.load(path, map_location="cpu", weights_only=True)
    modules.load_state_dict(state["modules"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(state["seconds"], state["steps"])


def _log(folder: Path, plan: Plan, progress: Progress, batch: int) -> None:
    losses: Iterable[float] = progress.losses
    mean = sum(losses) / max(1, len(progress.losses))
    pace = progress.steps * batch * plan.processes / progress.seconds
    line = (
        f"{plan.name}: step {progress.steps}, {progress.seconds / 60:.1f} of {plan.minutes:g} min, "
        f"loss {mean:.4f}, {pace:.1f} samples/s\n"
    )
    with (folder / "log.txt").open("a") as file:
        file.write(line)
