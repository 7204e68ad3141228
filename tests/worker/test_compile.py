"""KILN_COMPILE: the same pictures from a compiled U-Net, and no compiling while a job waits."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.utils import counters

from common.errors import ModelNotLoadable
from tests.worker.conftest import Listener, MakeSpec
from worker.compile import compile_unet
from worker.diffusion.device import Device
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced
from worker.weights import Model

TEXTS = Enhanced("a cat", "a cat", "a cat")

pytestmark = pytest.mark.slow


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


def test_a_model_that_cannot_be_compiled_is_told_in_one_line(small: Model, device: Device) -> None:
    small.unet.conv_in = torch.nn.Conv2d(9, 32, 3)

    with pytest.raises(ModelNotLoadable, match="KILN_COMPILE is set, and compiling failed: ") as raised:
        device.run(partial(compile_unet, small, device.width, (64, 64)))
    assert "\n" not in raised.value.detail
