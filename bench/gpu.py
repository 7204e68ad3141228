"""What a GPU gives: the time of a U-Net call by its rows, steps and pictures per second, and the bit contract on it.

``python -m bench.gpu`` measures on random weights of Stable Diffusion v1-4's real shape, compiled and not.
``--device cpu --tiny`` is its self-test: the same at a size for one core, in under a minute.
"""

import io
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench import contract
from bench.pipeline import make_pipeline, paint
from bench.result import Result, at_least, ratios, told
from bench.shapes import make_model
from common.jobs.spec import JobSpec
from worker.compile import compile_unet
from worker.diffusion.conditioning import condition
from worker.diffusion.device import Device
from worker.diffusion.schedules import plot_course
from worker.diffusion.slots import ROWS, Slot, Width, begin, draw_noise, latents_shape, tick
from worker.hardware import pick_device, pick_dtype
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced
from worker.weights import Model

EVALUATIONS = 25
TEXTS = Enhanced("a red apple", "a red apple", "a red apple")
STEPS, PICTURES, RATIO = (
    "pair-steps/s with all slots taken",
    f"pictures/s of {EVALUATIONS} evaluations, from text to PNG",
    "the same ÷ a plain pipeline that paints one after the other",
)
AIMS = {STEPS: 200.0, PICTURES: 7.2, RATIO: 4.0}  # on an H100, compiled


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it: slots, the side of a picture, and how often."""

    slots: int
    side: int
    rounds: int
    pictures: int  # of one round
    contract: int  # jobs that must keep their bits


FULL, TINY = Plan(16, 512, 5, 48, 24), Plan(2, 64, 2, 4, 4)


class Hold:
    """A job that nobody cancels."""

    alone = False

    def __init__(self, place: int) -> None:
        self.urgency = (0, place)

    def resume(self, slots: list[Slot], recipe: dict[str, Any]) -> None:
        """It begins afresh."""

    def step(self, done: int) -> None:
        """Nobody asks how far it is."""

    def look(self) -> None:
        """Nobody cancels it."""


def measure(home: Path, quick: bool) -> list[Result]:
    """As a section of RESULTS.md: open where there is no GPU."""
    if torch.cuda.is_available():
        return measure_on(torch.device("cuda"), tiny=quick, compiled=not quick)
    reason = "open: no GPU was at hand; `python -m bench --rows gpu` measures it on one"
    return [Result(f"H100, 16 slots, compiled: {what}", reason, f"≥ {aim:g}", None) for what, aim in AIMS.items()]


def measure_on(device: torch.device, *, tiny: bool, compiled: bool) -> list[Result]:
    plan, dtype = TINY if tiny else FULL, pick_dtype("auto", device)
    model, rival = (make_model(device, dtype, tiny=tiny) for _ in range(2))
    thread = Device(Width(plan.slots, exact=False))
    try:
        rows = _measure_model(thread, model, rival, plan)
        if compiled:
            work = partial(compile_unet, model, thread.width, (plan.side, plan.side))
            rows += _measure_model(thread, thread.run(work), rival, plan)
        return rows
    finally:
        thread.close()


def _measure_model(thread: Device, model: Model, rival: Model, plan: Plan) -> list[Result]:
    """On the device's thread, as CUDA graphs belong to the thread that recorded them."""
    floating, exact = thread.width, Width(plan.slots, exact=True)
    pairs = sorted({rows // ROWS for rows in floating.calls} - {0}) if model.compiled else range(1, plan.slots + 1)
    calls = [thread.run(partial(time_call, model, plan, n)) for n in pairs]
    steps = [thread.run(partial(time_ticks, model, plan)) for _ in range(plan.rounds)]
    ours, theirs = [], []
    for _ in range(plan.rounds):
        ours.append(paint_with_engine(thread, model, plan))
        theirs.append(paint_in_turn(rival, plan))
    thread.width = exact
    same = contract.check(thread, model, contract.mix(plan.contract, [(plan.side, plan.side)], steps=6))
    thread.width = floating
    slope, intercept = statistics.linear_regression(list(pairs), calls)
    line = f"{1000 * intercept:.2f} + {1000 * slope:.2f}·n ms"
    rows = [
        Result(f"a U-Net call of n pairs, n = 1 to {plan.slots}", line, "", None),
        _judge(STEPS, steps, plan, model),
        _judge(PICTURES, ours, plan, model),
        _judge(RATIO, ratios(ours, theirs), plan, model),
        same,
    ]
    how = "compiled" if model.compiled else "not compiled"
    return [replace(row, what=f"{model.name} shape on {model.device.type}, {how}: {row.what}") for row in rows]


def _judge(what: str, values: list[float], plan: Plan, model: Model) -> Result:
    return at_least(what, values, AIMS[what]) if model.compiled and plan is FULL else told(what, values)


def time_call(model: Model, plan: Plan, pairs: int) -> float:
    """Seconds of one U-Net call of so many pairs of rows: the median."""
    rows = ROWS * pairs
    sample = torch.randn((rows, *latents_shape(model, plan.side, plan.side)), device=model.device, dtype=model.dtype)
    steps = torch.full((rows,), 500.0, device=model.device)
    width = model.unet.config.cross_attention_dim
    context = torch.randn((rows, 77, width), device=model.device, dtype=model.dtype)
    return statistics.median(
        _time(model, lambda: model.unet(sample, steps, encoder_hidden_states=context)) for _ in range(plan.rounds + 2)
    )


def time_ticks(model: Model, plan: Plan) -> float:
    """Pair-steps per second of the engine's own tick, with every slot taken."""
    slots = [_take_slot(model, plan, seed) for seed in range(plan.slots)]
    width = Width(plan.slots, exact=False)
    tick(slots, width)

    def run() -> None:
        for _ in range(EVALUATIONS - 1):
            tick(slots, width)

    return plan.slots * (EVALUATIONS - 1) / _time(model, run)


def _take_slot(model: Model, plan: Plan, seed: int) -> Slot:
    course = plot_course("dpm_solver_multistep", EVALUATIONS)
    return Slot(
        model=model,
        course=course,
        context=condition(model, [("blurry", "a red apple")])[0],
        guidance=7.5,
        urgency=(0, seed),
        alone=False,
        state=begin(course, draw_noise(model, plan.side, plan.side, seed)),
    )


def _time(model: Model, call: Callable[[], object]) -> float:
    """Seconds, with what was queued on the device before and by the call done."""
    _finish(model)
    began = time.perf_counter()
    call()
    _finish(model)
    return time.perf_counter() - began


def _finish(model: Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def paint_with_engine(thread: Device, model: Model, plan: Plan) -> float:
    """Pictures per second through the stage that paints, with a worker's seats; PNG beside the device."""

    def job(place: int) -> None:
        rendered = diffuse(_spec(plan, place), TEXTS, model, thread, Hold(place))
        _write(rendered.images[0])

    began = time.perf_counter()
    with ThreadPoolExecutor(plan.slots + 2) as seats:
        list(seats.map(job, range(plan.pictures)))
    return plan.pictures / (time.perf_counter() - began)


def paint_in_turn(model: Model, plan: Plan) -> float:
    """Pictures per second of a plain pipeline, each painted and made a PNG before the next."""
    pipeline, pictures = make_pipeline(model), max(1, plan.pictures // 4)
    began = time.perf_counter()
    for seed in range(pictures):
        spec = _spec(plan, seed)
        _write(paint(pipeline, spec, spec.prompt))
    return pictures / (time.perf_counter() - began)


def _write(image: Image.Image) -> None:
    image.save(io.BytesIO(), "PNG", compress_level=1)


def _spec(plan: Plan, seed: int) -> JobSpec:
    chance = random.Random(seed)  # noqa: S311 - the same jobs each time
    spec = contract.make_spec(chance, seed, (plan.side, plan.side), EVALUATIONS)
    return replace(spec, scheduler="dpm_solver_multistep", guidance_scale=7.5)


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1 or cpu")] = "cuda",
    tiny: Annotated[bool, typer.Option(help="a model for one core, to try this program")] = False,
    compiled: Annotated[bool, typer.Option(help="torch.compile too: minutes")] = False,
) -> None:
    """Measure and print; `python -m bench --rows gpu` writes it down. Exit code 2 where the bit contract is broken."""
    results = measure_on(pick_device(device), tiny=tiny, compiled=compiled)
    table = Table("measured", "median (least-most)", "aim", "")
    for result in results:
        table.add_row(result.what, result.measured, result.aim, result.verdict)
    Console().print(table)
    raise typer.Exit(2 if any(result.aim == "100 %" and not result.met for result in results) else 0)


if __name__ == "__main__":
    typer.run(main)
