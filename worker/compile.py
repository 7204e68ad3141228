"""A loaded model in, the same with a compiled U-Net out. Of libraries, torch; runs on the device, and for minutes."""

import time
from dataclasses import replace

import structlog
import torch

from common.errors import ModelNotLoadable
from worker.diffusion.slots import Shape, Width, latents_shape
from worker.weights import Compiled, Model

log = structlog.get_logger()

RUNS = 3  # of each call before readiness: torch.compile records its CUDA graph in the second


def compile_unet(model: Model, width: Width, size: tuple[int, int]) -> Model:
    """Compile the U-Net for every number of rows that a call of ``width`` may have; ``size`` is (width, height) in
    pixels.

    Pictures of other sizes take the way that is not compiled: to compile in the middle of a job would look like a
    device that hangs. Raises ModelNotLoadable with what torch says, which may be that there is no C++ compiler.
    """
    began = time.monotonic()
    mode = "reduce-overhead" if model.device.type == "cuda" else "default"  # the first with CUDA graphs
    model.unet.to(memory_format=torch.channels_last)
    model.unet.compile(mode=mode, dynamic=False)
    try:
        with torch.compiler.set_stance("default"):
            for rows in width.calls * RUNS:
                _call(model, latents_shape(model, *size), rows)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotLoadable(f"model {model.name!r}: KILN_COMPILE is set, and compiling failed: {reason}") from error
    torch.compiler.set_stance("eager_on_recompile")
    log.info("model_compiled", model=model.name, rows=width.calls, seconds=round(time.monotonic() - began, 1))
    return replace(model, compiled=Compiled(size, frozenset(width.calls)))


def _call(model: Model, shape: Shape, rows: int) -> None:
    model.unet(
        torch.zeros((rows, *shape), device=model.device, dtype=model.dtype),
        torch.zeros(rows, device=model.device),
        encoder_hidden_states=torch.zeros(
            (rows, 77, model.unet.config.cross_attention_dim), device=model.device, dtype=model.dtype
        ),
    )
