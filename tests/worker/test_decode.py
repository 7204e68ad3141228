"""Latents decoded while memory is short: singly, then in tiles, with the VAE as it was afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from bench.shapes import TINY_VAE
from common.errors import OutOfDeviceMemory
from tests.worker.conftest import Listener, MakeSpec
from tests.worker.injected import Injected, out_of_memory
from worker.diffusion.device import Device
from worker.diffusion.faults import Failed, attempt
from worker.diffusion.sampling import decode, decode_tiled
from worker.diffusion.slots import Width
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced, Rendered
from worker.weights import Model

TEXTS = Enhanced("a cat", "a cat", "a cat")
TILE = 8  # latents of a side


@pytest.fixture
def small(model: Model) -> Model:
    """The demo model with a VAE whose tiles are of 64 pixels."""
    torch.manual_seed(0)
    return replace(model, vae=AutoencoderKL(**TINY_VAE).eval().requires_grad_(False))


@contextmanager
def room_for(model: Model, latents: int) -> Iterator[list[int]]:
    """Memory to decode so many places of latents at once; of each call how many there were."""
    calls: list[int] = []

    def run_out(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        count, _, height, width = arguments[0].shape
        calls.append(count * height * width)
        if calls[-1] > latents:
            raise out_of_memory()

    hook = model.vae.decoder.register_forward_pre_hook(run_out)
    try:
        yield calls
    finally:
        hook.remove()


@contextmanager
def painting(width: Width) -> Iterator[Device]:
    device = Device(width)
    try:
        yield device
    finally:
        device.close()


def test_a_picture_too_large_to_decode_whole_is_decoded_in_tiles_and_its_recipe_says_so(
    small: Model, make_spec: MakeSpec
) -> None:
    large, little = make_spec(width=96, height=96), make_spec(width=64, height=64)
    with painting(Width(1, exact=True)) as device:
        before = paint(large, small, device), paint(little, small, device)
        with room_for(small, TILE * TILE):
            listener = Listener()
            tiled = diffuse(large, TEXTS, small, device, listener)
            after = paint(little, small, device)
        again = paint(large, small, device)
        [expected] = device.run(lambda: decode_tiled(small, [listener.slots[0].latents]))

    assert tiled.recipe == before[0].recipe | {"vae_tiling": True}
    assert tiled.images[0].tobytes() == expected.image.tobytes() != before[0].images[0].tobytes()  # type: ignore[union-attr]
    assert not small.vae.use_tiling
    assert after == before[1], "a picture that fits is decoded as ever"
    assert again == before[0]


def test_without_memory_for_a_tile_the_job_fails_and_the_vae_is_as_it_was(small: Model, make_spec: MakeSpec) -> None:
    with painting(Width(1, exact=True)) as device:
        with room_for(small, 1), pytest.raises(OutOfDeviceMemory, match="96 x 96"):
            paint(make_spec(width=96, height=96), small, device)
        assert not small.vae.use_tiling
        assert paint(make_spec(), small, device).images


def test_pictures_that_do_not_fit_together_are_decoded_one_by_one(small: Model, make_spec: MakeSpec) -> None:
    specs = [make_spec(width=64, height=64, seed=seed) for seed in range(4)]
    with (
        painting(Width(4, exact=False)) as device,
        room_for(small, TILE * TILE) as calls,
        ThreadPoolExecutor(4) as jobs,
    ):
        painted = list(jobs.map(lambda spec: paint(spec, small, device), specs))

    assert max(calls) > TILE * TILE, "they met no lack of memory"
    assert len({rendered.images[0].tobytes() for rendered in painted}) == 4
    assert not any("vae_tiling" in rendered.recipe for rendered in painted)


def test_a_vae_in_half_precision_stays_whole_wherever_memory_runs_out(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To decode in float32 for once, in place, left it half in each format, and every later picture failed."""
    half = replace(small, vae=small.vae.to(torch.bfloat16), dtype=torch.bfloat16)
    for last in small.vae.decoder.conv_out.parameters():
        last.zero_()  # a picture of one color, which is decoded again
    latents = torch.randn(4, TILE, TILE)
    counted = Injected()
    with counted.under(half, monkeypatch) as model, torch.inference_mode():
        decode(replace(model, vae=half.vae), [latents])

    assert len(counted.calls) > len(list(half.vae.parameters()))
    for number in range(1, len(counted.calls) + 1):
        injected = Injected(out_of_memory, at=number)
        with injected.under(half, monkeypatch), torch.inference_mode():
            outcome = attempt(lambda: decode(half, [latents]))
        assert isinstance(outcome, Failed)
        assert outcome.of_memory
        assert {tensor.dtype for tensor in half.vae.state_dict().values()} == {torch.bfloat16}


def paint(spec: Any, model: Model, device: Device) -> Rendered:
    return diffuse(spec, TEXTS, model, device, Listener())
