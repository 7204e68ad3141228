"""``python -m tests.chaos.painter``: the real worker over a model that paints noise in milliseconds, for large doses.

Claim, heartbeat, device thread, engine, store and settle are the worker's own; only the weights are not there. Each
U-Net call takes CHAOS_CALL_MS, waits while the file CHAOS_GATE is there, and adds a byte for each row to CHAOS_TALLY.
A job "sticky" takes the file CHAOS_LOSS and breaks the device for this process.
"""

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from worker import celery_app
from worker.weights import Model
from worker.workshop import Workshop

for late in ("celery.bin.celery", "celery.apps.worker", "celery.concurrency.thread", "celery.worker.consumer"):
    importlib.import_module(late)  # here and not in each painter, where it would be half of a start

SIDE = 16  # pixels of a picture, whatever was asked for
HARMS = ("", "memory", "numbers", "black", "wedge", "crash", "sticky")  # that a prompt can name
DARK = 1e9  # what the U-Net makes of a picture that is to become black


def main() -> None:
    celery_app.load_models = load_nothing  # type: ignore[attr-defined]  # imported there by name
    if "FAKETIME" in os.environ:  # libfaketime refuses time.sleep's way to wait, which botocore uses
        time.sleep = threading.Event().wait
    celery_app.main()


def serve(variables: dict[str, str], log: Path, wrong: Callable[[], None] | None) -> None:
    """The same in a process that was forked from one where all is imported already; ``wrong`` breaks it first."""
    os.environ.clear()
    os.environ.update(variables)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if wrong:
        wrong()
    main()


def load_nothing(workshop: Workshop) -> None:
    """Give the workshop a model for each name that it serves."""
    torch.set_num_threads(1)
    torch.seed()  # forked processes would all draw the same noise
    for name in workshop.settings.served:
        workshop.models[name] = make_model(name)


class Unet:
    """Takes its time, and keeps count of the rows that it was given. A prompt that names a harm does it."""

    config = SimpleNamespace(in_channels=4, cross_attention_dim=4)

    def __init__(self) -> None:
        self._lost = False
        self._seconds = float(os.environ.get("CHAOS_CALL_MS", "2")) / 1000
        self._gate = Path(gate) if (gate := os.environ.get("CHAOS_GATE")) else None
        self._tally = Path(os.environ.get("CHAOS_TALLY", os.devnull)).open("ab", buffering=0)  # noqa: SIM115 - stays

    def __call__(
        self, sample: torch.Tensor, timesteps: torch.Tensor, *, encoder_hidden_states: torch.Tensor
    ) -> SimpleNamespace:
        while self._gate and self._gate.exists():
            time.sleep(0.01)
        if self._lost:
            raise _sticky()
        time.sleep(self._seconds)
        self._tally.write(b"." * len(sample))
        harms = (encoder_hidden_states[:, 0, 0].long() - 1).clamp(min=0)  # of rows that pad a call: zeros
        for harm in set(harms.tolist()):
            strike(HARMS[harm])
            self._lost = HARMS[harm] == "sticky" and self._loses()
        if self._lost:
            raise _sticky()
        made = torch.sin(sample) / 2
        made[harms == HARMS.index("numbers")] = torch.nan
        made[harms == HARMS.index("black")] = DARK
        return SimpleNamespace(sample=made)

    def _loses(self) -> bool:
        """Whether the device fails for good, for there was a file CHAOS_LOSS. Then there is none any more."""
        try:
            Path(os.environ.get("CHAOS_LOSS", "")).unlink()
        except OSError:
            return False
        return True


def _sticky() -> Exception:
    """What each call raises once a kernel of the process has read where it may not."""
    return torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def strike(harm: str) -> None:
    """What a job can do to the device and to the process it is in."""
    if harm == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory, says the painter")
    if harm == "wedge":
        threading.Event().wait()
    if harm == "crash":
        os.kill(os.getpid(), signal.SIGKILL)


class Vae:
    """Every picture is another: two attempts that write to one key can be told apart."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        pixels = torch.rand(len(latents), 3, SIDE, SIDE) * 2 - 1
        pixels[latents.abs().amax(dim=(1, 2, 3)) > DARK / 100] = -1
        return SimpleNamespace(sample=pixels)


class Words(dict[str, int]):
    """What a tokenizer gives: how many texts there are."""

    def to(self, _device: torch.device) -> "Words":
        return self


class Tokenizer:
    """Every text is as long as the next, and its first token says what harm it does."""

    model_max_length = 77

    def __call__(self, texts: list[str] | str, **_: Any) -> SimpleNamespace:
        if isinstance(texts, str):
            return SimpleNamespace(input_ids=[0])
        harms = [next((place for place, harm in enumerate(HARMS) if harm and harm in text), 0) for text in texts]
        return SimpleNamespace(input_ids=torch.tensor(harms).float()[:, None].expand(-1, 77))


class Scorer:
    """Every picture fits every text."""

    config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=77))

    def __call__(self, *, texts: int, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(text_embeds=torch.ones(texts, 4), image_embeds=torch.ones(len(pixel_values), 4))


def make_model(name: str) -> Model:
    """As much of a model as the stages look at where nothing is to be enhanced."""
    parts: dict[str, Any] = {
        "unet": Unet(),
        "vae": Vae(),
        "tokenizer": Tokenizer(),
        "text_encoder": lambda ids: SimpleNamespace(last_hidden_state=ids[:, :, None].expand(-1, -1, 4) + 1),
        "enhancer": None,
        "enhancer_tokenizer": None,
        "scorer": Scorer(),
        "scorer_tokenizer": lambda texts, **_: Words(texts=len(texts)),
        "scorer_processor": lambda images, **_: SimpleNamespace(pixel_values=torch.zeros(len(images))),
    }
    return Model(name=name, **parts, device=torch.device("cpu"), dtype=torch.float32, revisions={})


if __name__ == "__main__":
    main()
