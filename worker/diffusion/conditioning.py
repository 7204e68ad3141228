"""Texts in, what the U-Net is conditioned on out: one row of embeddings, or two for guidance. Runs on the device."""

import torch

from worker.weights import Model


def encode_text(model: Model, text: str) -> torch.Tensor:
    """The text encoder's last hidden states, shape (1, 77, width), in the model's dtype. Longer texts are cut."""
    tokens = model.tokenizer(
        text,
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


def condition(model: Model, prompt: str, negative_prompt: str, guidance_scale: float) -> torch.Tensor:
    """Embeddings of shape (2, 77, width), negative first; (1, 77, width) where guidance is off (scale <= 1)."""
    positive = encode_text(model, prompt)
    if guidance_scale <= 1:
        return positive
    return torch.cat([encode_text(model, negative_prompt), positive])
