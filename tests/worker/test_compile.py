"""KILN_COMPILE: the same pictures from a compiled U-Net, and no compiling while a job waits."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.utils import counters

from bench.shapes import TINY_UNET, make_unet
from common.errors import ModelNotLoadable
from tests.worker.conftest import Listener, MakeSpec
from worker import compile as compile_module
from worker.compile import compile_unet
from worker.diffusion.device import Device
from worker.diffusion.slots import Width
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced
from worker.weights import Compiled, Model

TEXTS = Enhanced("a cat", "a cat", "a cat")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.compiler.set_stance("default")
    torch.compiler.reset()


@pytest.fixture
def small(model: Model) -> Model:
    """The demo model with a U-Net that a C++ compiler can stand."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 32),
        layers_per_block=1,
        cross_attention_dim=model.unet.config.cross_attention_dim,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    return replace(model, unet=unet.eval().requires_grad_(False))


def test_a_compiled_model_paints_the_same_and_compiles_nothing_once_jobs_come(
    small: Model, device: Device, make_spec: MakeSpec
) -> None:
    usual, other = make_spec(width=64, height=64), make_spec(width=64, height=96)
    before = [diffuse(spec, TEXTS, small, device, Listener()) for spec in (usual, other)]

    compiled = device.run(partial(compile_unet, small, device.width, (64, 64)))
    graphs = counters["stats"]["unique_graphs"]
    after = [diffuse(spec, TEXTS, compiled, device, Listener()) for spec in (usual, other)]

    assert graphs == counters["stats"]["unique_graphs"] == len(device.width.calls) == 2
    assert [rendered.recipe["compiled"] for rendered in (*before, *after)] == [False, False, True, False]
    for one, same in zip(before, after, strict=True):
        assert np.abs(np.asarray(one.images[0], int) - np.asarray(same.images[0], int)).max() <= 1


def test_every_width_is_compiled_of_every_model(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch stops at a limit, counted over all models, and goes on uncompiled. Here it is two, to take less long."""
    compiled: list[int] = []  # rows

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.extend({len(one) for one in inputs if isinstance(one, torch.Tensor) and one.shape[1:] == (4, 8, 8)})
        return graph.forward

    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda unet, **_: plain(unet, backend=count, dynamic=False))
    width = Width(2, exact=False)
    another = make_unet(TINY_UNET | {"cross_attention_dim": 32, "block_out_channels": (8, 8)})

    for unet in (small.unet, another):
        with torch.inference_mode(), torch._dynamo.config.patch(recompile_limit=2):
            model = compile_unet(replace(small, unet=unet), width, (64, 64))
        assert compiled == width.calls == [1, 2, 3, 4]
        assert model.compiled == Compiled((64, 64), frozenset(width.calls))
        compiled.clear()


def test_a_width_that_torch_leaves_uncompiled_fails_the_load(
    small: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compile_module._ENOUGH, "recompile_limit", 1)
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda unet, **_: plain(unet, backend="eager", dynamic=False))

    with pytest.raises(ModelNotLoadable, match="compiling failed: Hard failure"):
        device.run(partial(compile_unet, small, Width(2, exact=False), (64, 64)))


def test_a_picture_of_which_some_calls_were_not_compiled_does_not_say_that_it_was(
    small: Model, device: Device, make_spec: MakeSpec
) -> None:
    """As when memory ran out: the new width may need calls that were not compiled."""
    spec = make_spec(width=64, height=64)
    for rows, told in ((frozenset({2}), True), (frozenset({4, 8}), False)):
        model = replace(small, compiled=Compiled((64, 64), rows))
        assert diffuse(spec, TEXTS, model, device, Listener()).recipe["compiled"] == told


def test_a_model_that_cannot_be_compiled_is_told_in_one_line(small: Model, device: Device) -> None:
    small.unet.conv_in = torch.nn.Conv2d(9, 32, 3)

    with pytest.raises(ModelNotLoadable, match="KILN_COMPILE is set, and compiling failed: ") as raised:
        device.run(partial(compile_unet, small, device.width, (64, 64)))
    assert "\n" not in raised.value.detail
