"""A loaded model in, the same with a compiled U-Net out. Of libraries, torch; runs on the device, and for minutes."""

import time
from dataclasses import replace
from typing import Any

import structlog
import torch

from common.errors import ModelNotLoadable
from worker.diffusion.slots import Shape, Width, is_even, latents_shape
from worker.weights import Compiled, Model

log = structlog.get_logger()

_ENOUGH: dict[str, Any] = {
    "recompile_limit": 1 << 10,
    "accumulated_recompile_limit": 1 << 14,
    "fail_on_recompile_limit_hit": True,
}
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
        compiled = _compile_calls(model, width, latents_shape(model, *size))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotLoadable(f"model {model.name!r}: KILN_COMPILE is set, and compiling failed: {reason}") from error
    torch.compiler.set_stance("eager_on_recompile")
    rows = sorted(compiled)
    log.info("model_compiled", model=model.name, rows=rows, seconds=round(time.monotonic() - began, 1))
    return replace(model, compiled=Compiled(size, frozenset(compiled)))


def _compile_calls(model: Model, width: Width, shape: Shape) -> list[int]:
    """Compile, and then see that each call is: torch goes on uncompiled, with a warning, where it has had enough."""
    compiled: list[int] = []
    for calls in (width.calls, Width(1, exact=True).calls):
        if compiled and (width.slots == 1 or not width.exact or is_even(model, shape, compiled[-1])):
            break  # else pictures of this size are painted one by one
        # All at once: the limit is counted over all models, and would be 8
        with torch.compiler.set_stance("default"), torch._dynamo.config.patch(_ENOUGH):
            for rows in calls * RUNS:
                _call(model, shape, rows)
        with torch.compiler.set_stance("fail_on_recompile"):
            for rows in calls:
                _call(model, shape, rows)
        compiled += calls
    return compiled


def _call(model: Model, shape: Shape, rows: int) -> None:
    model.unet(
        torch.zeros((rows, *shape), device=model.device, dtype=model.dtype),
        torch.zeros(rows, device=model.device),
        encoder_hidden_states=torch.zeros(
            (rows, 77, model.unet.config.cross_attention_dim), device=model.device, dtype=model.dtype
        ),
    )
