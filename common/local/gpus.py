"""The environment in, the CUDA devices that a process may use out, as CUDA_VISIBLE_DEVICES names them.

Asked without torch, whose import takes seconds.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_NVIDIA_SMI_SECONDS = 10  # without its persistence daemon the driver wakes first


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Their numbers or UUIDs; none where there is no GPU, or none may be seen."""
    count = _count_gpus()
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return [str(number) for number in range(count)]
    found: list[str] = []
    for name in map(str.strip, allowed.split(",")):
        if not re.match(r"\d+$|GPU-|MIG-", name) or (name.isdigit() and int(name) >= count):
            break  # as CUDA does: what comes after the first that is not there does not count
        found.append(name)
    return found if count else []


def _count_gpus() -> int:
    """By nvidia-smi, which knows which of them work; else by the driver's folder."""
    if program := shutil.which("nvidia-smi"):
        try:
            told = subprocess.run(  # noqa: S603
                [program, "--list-gpus"], capture_output=True, text=True, check=False, timeout=_NVIDIA_SMI_SECONDS
            )
        except subprocess.TimeoutExpired:
            return 0
        return sum(line.startswith("GPU ") for line in told.stdout.splitlines())
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
