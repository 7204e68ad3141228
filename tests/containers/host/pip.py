"""Where this machine's pip looks in, an /etc/pip.conf for builds out: what lies on this machine's disk is served."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.containers.host.machine import LEASH, Machine

HOST = "172.30.0.1"  # dockerd's bridge, as boot.sh says
PORT = 8099
KEPT = ("index-url", "extra-index-url", "find-links", "constraint", "trusted-host", "default-timeout", "timeout")


def write_config(folder: Path, shown: Path) -> None:
    """``folder``/pip.conf; in ``shown``, links to what it names of this machine's disk."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    lines = {"trusted-host": HOST}
    for full, quoted in settings.items():
        name = full.rpartition(".")[2]
        if name in KEPT:
            words = [_served(word, shown) for word in " ".join(shlex.split(quoted)).split()]
            lines[name] = "\n    ".join([*words, *([HOST] if name == "trusted-host" else [])])
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    (folder / "pip.conf").write_text(f"[global]\n{text}")


def _served(word: str, shown: Path) -> str:
    """``word``, or where builds find it, should it be a place on this machine's disk."""
    place = Path(urlsplit(word).path)
    if not (place.is_absolute() and place.exists() and urlsplit(word).scheme in ("", "file")):
        return word
    # the links of an index lead out of its folder, into one beside it
    root = place.parent if place.name == "simple" else place
    link = shown / str(root).lstrip("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(root)
    return f"http://{HOST}:{PORT}{place}{'/' if place.is_dir() else ''}"


@contextmanager
def serving(machine: Machine, shown: Path) -> Iterator[None]:
    """``shown`` over HTTP during the block, on the machine's own network."""
    words = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(shown)]
    command = [*LEASH, *machine.enter("net"), *words]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.kill()
        server.wait()
