"""Small disks: folders and their MiB in, a tmpfs mounted on each, and filled to the brim on demand. Needs root."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PIECE = bytes(1 << 16)


class NotRun(Exception):
    """This machine lacks what the scenario needs; says what."""


@contextmanager
def small(home: Path, disks: Mapping[str, int]) -> Iterator[None]:
    """Each of these folders of ``home`` is a disk of so many MiB during the block. Raises NotRun."""
    with ExitStack() as stack:
        for name, size in disks.items():
            home.parent.chmod(0o755)  # PostgreSQL's user has to come here
            folder = home / name
            folder.mkdir(parents=True)
            mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
            mounted = subprocess.run(mount, capture_output=True, check=False)
            if mounted.returncode:
                raise NotRun(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
            stack.callback(subprocess.run, ["/bin/umount", "--lazy", str(folder)], check=True)
        yield


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """The disk that ``folder`` is has no room left during the block."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):  # whole pieces, then what is left
            while True:
                file.write(PIECE)
        yield
    finally:
        filler.unlink()
