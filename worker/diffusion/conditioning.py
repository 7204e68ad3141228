"""Texts in, what the U-Net is conditioned on out: one row of embeddings, or two for guidance. Runs on the device."""

from collections.abc import Sequence

import torch

from worker.weights import Model


def encode_texts(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """The text encoder's last hidden states, (len(texts), 77, width), in the model's dtype. Longer texts are cut."""
    tokens = model.tokenizer(
        list(texts),
        padding="max_length",
        max_length=model.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    states: torch.Tensor = model.text_encoder(tokens.input_ids.to(model.device)).last_hidden_state
    return states.to(model.dtype)


def is_cut(model: Model, text: str) -> bool:
    """Whether the text encoder sees less than the whole text."""
    tokens: list[int] = model.tokenizer(text).input_ids
    return len(tokens) > int(model.tokenizer.model_max_length)


def condition(model: Model, jobs: Sequence[tuple[str, ...]]) -> list[torch.Tensor]:
    """For each job's texts, (negative prompt, prompt) or the prompt alone where guidance is off, their embeddings.

    Each is (1 or 2, 77, width), in the order of the texts; all in one call.
    """
    encoded = encode_texts(model, [text for job in jobs for text in job])
    return list(torch.split(encoded, [len(job) for job in jobs]))
