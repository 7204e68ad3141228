"""Settings in, the device and the number format that they mean on this machine out. Of libraries, torch alone."""

import torch

from common.errors import ModelNotLoadable


def pick_device(setting: str) -> torch.device:
    """The device that KILN_DEVICE names; ``auto``: CUDA, else Apple's MPS, else the CPU.

    Raises ModelNotLoadable when this machine, or this build of torch, has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if setting == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ModelNotLoadable(
            f"there is no device {setting!r}; KILN_DEVICE is auto, cpu, cuda, cuda:N or mps"
        ) from error
    there = {"cpu": True, "mps": mps, "cuda": cuda and (device.index or 0) < torch.cuda.device_count()}
    if not there.get(device.type, False):
        raise ModelNotLoadable(
            f"KILN_DEVICE asks for {setting}, and torch {torch.__version__} sees no such device here"
        )
    return device


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The number format that KILN_DTYPE names; ``auto``: float16 on CUDA, float32 elsewhere."""
    if setting == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[setting]
