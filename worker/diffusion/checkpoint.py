"""Slots half-way in, bytes out, and back: safetensors, with what they belong to. Pure."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from worker.diffusion.slots import State


class UnusableCheckpoint(Exception):
    """These bytes are damaged, or belong to another recipe."""


def identify(recipe: dict[str, Any]) -> str:
    """SHA-256 (hex) of a recipe's canonical JSON: what a checkpoint must have in common with the job that resumes."""
    return sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def pack(states: Sequence[State], identity: str) -> bytes:
    """The states of a job's pictures, with a checksum. What noise there is was drawn before the first step, so latents
    and history are all that a scheduler of ours remembers."""
    tensors = {f"past.{index}": state.past.cpu().contiguous() for index, state in enumerate(states)}
    steps = json.dumps([state.at for state in states])
    return save(tensors, {"identity": identity, "steps": steps, "sha256": _digest(tensors, steps)})


def unpack(data: bytes, identity: str) -> list[State]:
    """The states that ``pack`` wrote, on the CPU. Raises UnusableCheckpoint."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        tensors, steps = load(data), header["steps"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # whatever the bytes are
        raise UnusableCheckpoint("it is damaged") from error
    if header.get("sha256") != _digest(tensors, steps):
        raise UnusableCheckpoint("it is damaged")
    if header.get("identity") != identity:
        raise UnusableCheckpoint("it belongs to another recipe")
    return [State(at, tensors[f"past.{index}"]) for index, at in enumerate(json.loads(steps))]


def _digest(tensors: dict[str, torch.Tensor], steps: str) -> str:
    digest = sha256(steps.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
