"""The engine: whose turn it is, and that company changes no bit of what a picture becomes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.jobs.spec import SCHEDULERS, JobSpec, SchedulerName
from tests.worker.conftest import MakeSpec
from worker.diffusion.conditioning import condition
from worker.diffusion.schedules import make_scheduler, plot_course
from worker.diffusion.slots import ROWS, Shape, Slot, Width, begin, choose, draw_noise, is_even, tick
from worker.weights import Model

WIDTHS = (Width(1, exact=True), Width(2, exact=True), Width(4, exact=True))

jobs = st.tuples(
    st.sampled_from(SCHEDULERS),
    st.integers(1, 5),  # steps
    st.sampled_from([1.0, 3.0, 7.5]),  # guidance
    st.integers(0, 3),  # priority
    st.integers(0, 6),  # the tick at which it arrives
    st.sampled_from([(64, 64), (96, 64)]),
)


@given(mix=st.lists(jobs, min_size=2, max_size=6), width=st.sampled_from(WIDTHS))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_a_picture_has_the_same_bits_alone_and_in_any_company(
    model: Model, make_spec: MakeSpec, mix: list[tuple[Any, ...]], width: Width
) -> None:
    specs = [spec_of(make_spec, number, *job) for number, job in enumerate(mix)]
    arrivals = [job[4] for job in mix]

    together = [
        take_slot(model, spec, width, (-job[3], number))
        for number, (spec, job) in enumerate(zip(specs, mix, strict=True))
    ]
    run(together, arrivals, width)

    for spec, slot in zip(specs, together, strict=True):
        alone = take_slot(model, spec, width, ())
        run([alone], [0], width)
        assert torch.equal(alone.latents, slot.latents)


def test_the_fast_mode_paints_the_same_picture_up_to_rounding(model: Model, make_spec: MakeSpec) -> None:
    specs = [make_spec(scheduler=name, seed=seed, guidance_scale=1 + seed) for seed, name in enumerate(SCHEDULERS)]
    fast, exact = Width(4, exact=False), Width(1, exact=True)

    together = [take_slot(model, spec, fast, (number,)) for number, spec in enumerate(specs)]
    run(together, [0, 1, 2], fast)

    for spec, slot in zip(specs, together, strict=True):
        alone = take_slot(model, spec, exact, ())
        run([alone], [0], exact)
        assert (alone.latents - slot.latents).norm() < 1e-4 * alone.latents.norm()


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_course_goes_where_the_stock_scheduler_goes(name: SchedulerName, steps: int, karras: bool) -> None:
    """With a stand-in for the U-Net that is neither linear nor the same at every step."""
    generator = torch.Generator().manual_seed(steps)
    noise, mixing = torch.randn(4, 8, 8, generator=generator), torch.randn(4, 4, generator=generator) / 3

    def answer(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ab,bhw->ahw", mixing, sample) / 2 + torch.sin(sample + timestep / 500) / 2

    stock = make_scheduler(name, karras)
    stock.set_timesteps(steps)
    expected = noise * stock.init_noise_sigma
    for timestep in stock.timesteps:
        seen = answer(stock.scale_model_input(expected, timestep), timestep)
        expected = stock.step(seen, timestep, expected).prev_sample

    course = plot_course(name, steps, karras)
    past = begin(course, noise).past
    for at in range(len(course)):
        seen = answer(course.scale[at] * past[0], course.timesteps[at])
        known = torch.stack([past[0], past[1], seen, *past[2:]])
        new = torch.einsum("k,kchw->chw", torch.cat([course.samples[at], course.outputs[at]]), known)
        past = torch.stack([new, past[0], *known[2:5]])

    assert len(course) == len(stock.timesteps)
    assert (past[0] - expected).norm() < 1e-5 * expected.norm()


def test_the_most_urgent_pictures_of_one_size_share_a_call(model: Model, make_spec: MakeSpec) -> None:
    width = Width(2, exact=True)
    batch = [take_slot(model, make_spec(), width, (True, 0, number)) for number in range(4)]
    assert choose(batch, lambda *_: width) == batch[:2]

    person = take_slot(model, make_spec(), width, (False, 0, 9))
    assert choose([*batch, person], lambda *_: width) == [person, batch[0]], "who is more urgent starts at once"

    wide = take_slot(model, make_spec(width=96), width, (False, 0, 10))
    assert choose([*batch, wide], lambda *_: width) == [wide], "another size waits for its turn"
    assert choose([*batch, wide, person], lambda *_: width) == [person, batch[0]]


def test_a_call_of_the_fast_mode_has_few_widths_and_little_padding() -> None:
    """Powers of two alone: at medium load a quarter of the device went into padding, and waiting doubled."""
    for slots in (2, 3, 8, 16):
        width = Width(slots, exact=False)
        assert all(needed <= width.rows(needed) < needed * 1.5 for needed in range(1, slots * ROWS + 1))
    assert width.calls == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_an_interactive_picture_is_not_slowed_by_the_batch_lane(model: Model, make_spec: MakeSpec) -> None:
    """In the fast mode a call of sixteen pictures takes ten times as long as a call of one."""
    batch = [take_slot(model, make_spec(), Width(4, exact=True), (True, 0, number)) for number in range(3)]
    people = [take_slot(model, make_spec(), Width(4, exact=True), (False, 0, number)) for number in range(3, 5)]

    assert choose([*batch, *people], lambda *_: Width(4, exact=False)) == people
    assert choose([*batch, *people], lambda *_: Width(4, exact=True)) == [*people, *batch[:2]], "the same for them"
    assert choose(batch, lambda *_: Width(4, exact=False)) == batch


def test_without_guidance_twice_as_many_pictures_share_a_call(model: Model, make_spec: MakeSpec) -> None:
    width = Width(2, exact=True)
    plain = [take_slot(model, make_spec(guidance_scale=1.0), width, (number,)) for number in range(5)]
    guided = take_slot(model, make_spec(), width, (1.5,))

    assert choose(plain, lambda *_: width) == plain[:4]
    assert choose([*plain, guided], lambda *_: width) == [plain[0], plain[1], guided]


def test_a_job_that_failed_before_has_the_device_for_itself(model: Model, make_spec: MakeSpec) -> None:
    width = Width(4, exact=True)
    first, second, third = (take_slot(model, make_spec(), width, (number,)) for number in range(3))
    second.alone = True

    assert choose([first, second, third], lambda *_: width) == [first, third]
    assert choose([second, third], lambda *_: width) == [second]


def test_an_endless_stream_of_one_size_starves_no_other(model: Model, make_spec: MakeSpec) -> None:
    width = Width(2, exact=True)
    slots = [take_slot(model, make_spec(num_inference_steps=2), width, (number,)) for number in range(3)]
    other = take_slot(model, make_spec(width=96, num_inference_steps=2), width, (2.5,))
    arrivals = [0, 0, 0, 0]
    for number in range(3, 12):
        slots.append(take_slot(model, make_spec(num_inference_steps=2), width, (number,)))
        arrivals.append(number - 2)

    order = run([*slots[:3], other, *slots[3:]], arrivals, width)

    assert order.index(other) < order.index(slots[-1])


def spec_of(make_spec: MakeSpec, number: int, name: str, steps: int, guidance: float, *rest: Any) -> JobSpec:
    width, height = rest[2]
    return make_spec(
        scheduler=name, num_inference_steps=steps, guidance_scale=guidance, seed=number, width=width, height=height
    )


@torch.inference_mode()
def take_slot(model: Model, spec: JobSpec, width: Width, urgency: tuple[Any, ...]) -> Slot:
    said = ("blurry", spec.prompt) if spec.guidance_scale > 1 else (spec.prompt,)
    course = plot_course(spec.scheduler, spec.num_inference_steps)
    return Slot(
        model=model,
        course=course,
        context=condition(model, [said])[0],
        guidance=spec.guidance_scale,
        urgency=urgency,
        alone=False,
        state=begin(course, draw_noise(model, spec.width, spec.height, spec.seed)),
    )


@torch.inference_mode()
def run(slots: list[Slot], arrivals: list[int], width: Width) -> list[Slot]:
    """Tick until all are done, each from its arrival on; the slots in the order in which they were."""

    def width_of(model: Model, shape: Shape) -> Width:
        even = not width.exact or width.slots == 1 or is_even(model, shape, width.slots * ROWS)
        return width if even else Width(1, exact=True)

    finished: list[Slot] = []
    now = 0
    while len(finished) < len(slots):
        here = [slot for slot, arrival in zip(slots, arrivals, strict=True) if arrival <= now and not slot.done]
        if chosen := choose(here, width_of):
            tick(chosen, width_of(*chosen[0].kind))
        finished += [slot for slot in slots if slot.done and slot not in finished]
        now += 1
    return finished


def test_a_tick_that_fails_moves_nobody(model: Model, make_spec: MakeSpec) -> None:
    width = Width(2, exact=True)
    slots = [take_slot(model, make_spec(seed=seed), width, (seed,)) for seed in range(2)]
    before = [slot.state for slot in slots]
    broken = replace(model, unet=lambda *_, **__: None)
    for slot in slots:
        slot.model = broken

    with pytest.raises(AttributeError):
        tick(slots, width)

    assert all(slot.state is state for slot, state in zip(slots, before, strict=True))
