"""Previews: small pictures that come to look like the picture, for every scheduler, and never at the job's cost."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from common.jobs.spec import SCHEDULERS, SchedulerName
from tests.worker.conftest import Listener, MakeSpec
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot
from worker.preview import MOST_PIXELS, Previews, data_url, paint
from worker.stages.diffuse import diffuse
from worker.ticket import Enhanced
from worker.weights import Model

TEXTS = Enhanced("a green tree", "a green tree", "a green tree")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_preview_looks_like_the_picture_long_before_it_is_done(
    model: Model, device: Device, make_spec: MakeSpec, scheduler: SchedulerName
) -> None:
    previews, shown = Previews(device), list[str]()

    def look(_: int) -> None:
        slot: Slot = holder.slots[0]
        if len(shown) == 0 and slot.state.at >= 0.75 * len(slot.course) and not slot.done:
            shown.append(previews.show(slot))

    holder = Listener(look)
    spec = make_spec(scheduler=scheduler, num_inference_steps=16, width=128, height=192)
    picture = diffuse(spec, TEXTS, model, device, holder).images[0]

    early = opened(shown[0])
    assert early.size == (16, 24)
    small = np.asarray(picture.resize(early.size, Image.Resampling.BOX), float)
    assert np.corrcoef(np.asarray(early, float).ravel(), small.ravel())[0, 1] > 0.7


def test_a_picture_that_is_done_by_the_time_it_is_shown_is_shown_as_it_is(
    model: Model, device: Device, make_spec: MakeSpec
) -> None:
    holder = Listener()
    rendered = diffuse(make_spec(), TEXTS, model, device, holder)
    [slot] = holder.slots
    assert slot.done

    shown = opened(Previews(device).show(slot))

    small = np.asarray(rendered.images[0].resize(shown.size, Image.Resampling.BOX), float)
    assert np.corrcoef(np.asarray(shown, float).ravel(), small.ravel())[0, 1] > 0.7


def test_a_preview_of_the_largest_picture_is_small() -> None:
    mapped = torch.randn((5, 3), generator=torch.Generator().manual_seed(0))
    for shape in ((4, 128, 128), (4, 256, 64)):
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        shown = data_url(paint(latents, mapped))
        assert max(opened(shown).size) == MOST_PIXELS
        assert len(shown) < 1 << 15  # an API takes messages of twice the length


def opened(shown: str) -> Image.Image:
    kind, _, data = shown.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
