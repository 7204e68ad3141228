"""``python -m tests.chaos.painter``: the real worker over a model that paints noise in milliseconds, for large doses.

Claim, heartbeat, device thread, engine, store and settle are the worker's own; only the weights are not there. Each
U-Net call takes CHAOS_CALL_MS, waits while the file CHAOS_GATE is there, and adds a byte for each row to CHAOS_TALLY.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from worker import celery_app
from worker.weights import Model
from worker.workshop import Workshop

SIDE = 16  # pixels of a picture, whatever was asked for


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
    """Takes its time, and keeps count of the rows that it was given."""

    config = SimpleNamespace(in_channels=4, cross_attention_dim=4)

    def __init__(self) -> None:
        self._seconds = float(os.environ.get("CHAOS_CALL_MS", "2")) / 1000
        self._gate = Path(gate) if (gate := os.environ.get("CHAOS_GATE")) else None
        self._tally = Path(os.environ.get("CHAOS_TALLY", os.devnull)).open("ab", buffering=0)  # noqa: SIM115 - stays

    def __call__(
        self, sample: torch.Tensor, timesteps: torch.Tensor, *, encoder_hidden_states: torch.Tensor
    ) -> SimpleNamespace:
        while self._gate and self._gate.exists():
            time.sleep(0.01)
        time.sleep(self._seconds)
        self._tally.write(b"." * len(sample))
        return SimpleNamespace(sample=torch.sin(sample) / 2)


class Vae:
    """Every picture is another: two attempts that write to one key can be told apart."""

    config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=torch.rand(len(latents), 3, SIDE, SIDE) * 2 - 1)


class Words(dict[str, int]):
    """What a tokenizer gives: how many texts there are."""

    def to(self, _device: torch.device) -> "Words":
        return self


class Tokenizer:
    """Every text is as long as the next."""

    model_max_length = 77

    def __call__(self, texts: list[str] | str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[0] if isinstance(texts, str) else torch.zeros(len(texts), 77))


class Scorer:
    """Every picture fits every text."""

    config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=77))

    def __call__(self, *, texts: int, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(text_embeds=torch.ones(texts, 4), image_embeds=torch.ones(len(pixel_values), 4))


def make_model(name: str) -> Model:
    """As much of a model as the stages look at where nothing is to be enhanced."""
    return cast(
        Model,
        SimpleNamespace(
            name=name,
            unet=Unet(),
            vae=Vae(),
            tokenizer=Tokenizer(),
            text_encoder=lambda ids: SimpleNamespace(last_hidden_state=torch.ones(len(ids), 77, 4)),
            scorer=Scorer(),
            scorer_tokenizer=lambda texts, **_: Words(texts=len(texts)),
            scorer_processor=lambda images, **_: SimpleNamespace(pixel_values=torch.zeros(len(images))),
            device=torch.device("cpu"),
            dtype=torch.float32,
            revisions={},
            karras=(),
            compiled=None,
        ),
    )


if __name__ == "__main__":
    main()
