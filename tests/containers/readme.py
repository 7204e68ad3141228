"""README's section on containers in, its commands out."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    """The lines of shell, in their order, without comments."""
    (section,) = re.findall(r"^## Containers\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    block = section.split("```sh\n")[1].split("```")[0]
    lines = [re.sub(r"\s+# .*$", "", line) for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def command(beginning: str) -> str:
    """The one command that begins so."""
    (found,) = [line for line in commands() if line.startswith(beginning)]
    return found


def words(line: str) -> list[str]:
    """Of a command, as the shell would split it."""
    return shlex.split(line)
