"""Checkpoints: a job that is taken up again ends with the same bits, and what is unusable is left alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from common.errors import WorkerDraining
from common.jobs.claim import Claim
from common.objects import Objects
from common.settings import Settings
from tests.jobs.make import claimed, submit
from tests.worker.conftest import Listener, MakeSpec
from tests.worker.test_diffuse import TEXTS
from worker.checkpoints import Checkpoints
from worker.diffusion.checkpoint import UnusableCheckpoint, pack, unpack
from worker.diffusion.device import Device
from worker.diffusion.slots import Slot, State, Width
from worker.stages.diffuse import diffuse
from worker.ticket import Rendered
from worker.weights import Model


class Keeper(Listener):
    """Keeps the job's pictures, and drains when so many evaluations are behind."""

    def __init__(self, checkpoints: Checkpoints, drain_at: int | None = None) -> None:
        super().__init__(self._step)
        self.checkpoints, self.drain_at, self.heard = checkpoints, drain_at, list[int]()

    def resume(self, slots: list[Slot], recipe: dict[str, object]) -> None:
        super().resume(slots, recipe)
        self.checkpoints.resume(slots, recipe)
        self.heard = [sum(slot.state.at for slot in slots)]

    def _step(self, done: int) -> None:
        self.heard.append(done)
        if self.drain_at is not None and done >= self.drain_at:
            self.checkpoints.keep(now=True)
            raise WorkerDraining


@pytest.fixture(scope="module")
def objects(module_settings: Settings) -> Objects:
    store = Objects.from_settings(module_settings)
    store.ensure_bucket()
    return store


@pytest.fixture
def claim(engine: object) -> Claim:
    submit(engine)  # type: ignore[arg-type]
    return claimed(engine)  # type: ignore[arg-type]


@pytest.fixture(params=[1, 4])
def own_device(request: pytest.FixtureRequest) -> Iterator[Device]:
    device = Device(Width(request.param, exact=True))
    yield device
    device.close()


@pytest.mark.parametrize("scheduler", ["lms_discrete", "heun_discrete", "dpm_solver_multistep"])
def test_a_parked_job_ends_with_the_bits_that_it_has_uninterrupted(
    model: Model, own_device: Device, make_spec: MakeSpec, objects: Objects, claim: Claim, scheduler: str
) -> None:
    spec = make_spec(scheduler=scheduler, num_inference_steps=6, num_images=2)
    straight = Listener()
    diffuse(spec, TEXTS, model, own_device, straight)

    with pytest.raises(WorkerDraining):
        diffuse(spec, TEXTS, model, own_device, Keeper(Checkpoints(objects, claim, 1e9), drain_at=5))
    again = Keeper(Checkpoints(objects, replace(claim, attempt=claim.attempt + 1), 1e9))
    rendered: Rendered = diffuse(spec, TEXTS, model, own_device, again)

    assert again.heard[0] >= 5, "it started afresh"
    assert len(rendered.images) == 2
    for whole, parked in zip(straight.slots, again.slots, strict=True):
        assert torch.equal(whole.latents, parked.latents)

    again.checkpoints.remove()
    assert objects.keys(f"checkpoints/{claim.job_id}/") == []


def test_it_is_kept_as_often_as_asked_under_a_key_of_the_attempt(
    model: Model, device: Device, make_spec: MakeSpec, objects: Objects, claim: Claim
) -> None:
    keeper = Keeper(Checkpoints(objects, claim, seconds=0))
    keeper.step = lambda done: keeper.checkpoints.keep()
    diffuse(make_spec(), TEXTS, model, device, keeper)

    assert objects.keys(f"checkpoints/{claim.job_id}/") == [f"checkpoints/{claim.job_id}/000001.safetensors"]


def test_a_first_attempt_that_kept_nothing_asks_the_store_nothing(
    model: Model, device: Device, make_spec: MakeSpec, objects: Objects, claim: Claim, caplog: pytest.LogCaptureFixture
) -> None:
    """A listing of a bucket costs more than a step of a small picture."""
    caplog.set_level("DEBUG", logger="botocore.endpoint")
    keeper = Keeper(Checkpoints(objects, claim, 1e9))
    diffuse(make_spec(), TEXTS, model, device, keeper)
    keeper.checkpoints.remove()
    assert not caplog.records

    keeper.checkpoints.keep(now=True)
    keeper.checkpoints.remove()
    assert caplog.records
    assert objects.keys(f"checkpoints/{claim.job_id}/") == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another recipe", "another number of pictures"])
def test_an_unusable_checkpoint_is_left_alone_and_the_job_starts_afresh(
    model: Model, device: Device, make_spec: MakeSpec, objects: Objects, claim: Claim, damage: str
) -> None:
    spec = make_spec(num_inference_steps=4)
    with pytest.raises(WorkerDraining):
        diffuse(spec, TEXTS, model, device, Keeper(Checkpoints(objects, claim, 1e9), drain_at=2))
    key = f"checkpoints/{claim.job_id}/000001.safetensors"
    data = b"".join(objects.open(key))
    flipped = bytearray(data)
    flipped[-3] ^= 1
    damaged = {"cut": data[:-100], "flipped": bytes(flipped), "empty": b""}.get(damage, data)
    objects.put(key, damaged, "application/octet-stream")
    if damage == "another recipe":
        spec = replace(spec, guidance_scale=3.0)
    if damage == "another number of pictures":
        spec = replace(spec, num_images=2)

    again = Keeper(Checkpoints(objects, replace(claim, attempt=2), 1e9))
    diffuse(spec, TEXTS, model, device, again)

    assert again.heard[0] == 0


def test_bytes_of_any_kind_are_refused_in_one_way() -> None:
    good = pack([State(3, torch.randn(5, 4, 8, 8))], "abc")
    assert unpack(good, "abc")[0].at == 3
    for bad in (b"", b"x" * 7, b"\xff" * 64, good[:40], good.replace(b"[3]", b"[4]"), b"\x02" + bytes(7) + b"[]"):
        with pytest.raises(UnusableCheckpoint):
            unpack(bad, "abc")
