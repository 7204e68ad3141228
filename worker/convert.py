"""A pytorch_model.bin in, a safetensors file out, in a child process: no worker ever unpickles anything.

``python -m worker.convert SOURCE TARGET`` is that child. It reads tensors only and refuses everything else.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from worker.parts import PartError

# The child reads a stranger's pickle: it gets what Python needs to start, and none of the worker's passwords.
CHILD_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


def convert(source: Path, target: Path) -> None:
    """Write the tensors of ``source`` to ``target``, which appears whole or not at all. Raises PartError."""
    partial = target.with_name(target.name + ".part")
    environment = {name: os.environ[name] for name in CHILD_ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    try:
        child = subprocess.run(  # noqa: S603 - our own module, and two paths that we made
            [sys.executable, "-m", "worker.convert", str(source), str(partial)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            lines = child.stderr.strip().splitlines()
            raise PartError(lines[-1] if lines else f"converting {source.name} ended with {child.returncode}")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def main(source: Path, target: Path) -> str | None:
    """Convert; the reason why not, if so, is what the process ends with."""
    import torch  # here, because ``kiln models pull`` itself needs no torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except Exception as error:  # whatever a hostile or broken file makes the reader raise
        named = re.search(r"GLOBAL (\S+)", str(error))
        return f"{source.name} is refused: it holds more than weights" + (f" ({named[1]})" if named else "")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        return f"{source.name} is refused: it is not a table of tensors"
    # Clones: tied weights (GPT-2's lm_head) share memory, which safetensors refuses.
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, target, {"format": "pt"})
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
