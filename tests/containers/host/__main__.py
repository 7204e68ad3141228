"""``make containers``: build the images and go through the README's commands, on a Docker host made for it.

Needs root and a Debian with debootstrap and slirp4netns; says what lacks, and ends with 1 where anything went wrong.
"""

import shutil
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containers.host import pip
from tests.containers.host.machine import (
    DOCKER,
    HERE,
    PYTHON,
    Failed,
    Machine,
    make_debian,
    running_machine,
    say_what_lacks,
)
from tests.containers.host.walk import Walk
from tests.containers.readme import ROOT

CACHE = ROOT / ".containers"  # the two Debians stay there; `make clean` removes it
STAND_INS = {
    "base": "python:3.12-slim",
    "postgres": "postgres:18",
    "redis": "redis:8.2.2",
    "minio": "minio/minio:RELEASE.2025-09-07T16-13-09Z",
}


def main() -> None:
    if lacking := say_what_lacks():
        sys.exit(f"make containers {lacking}")
    work = CACHE / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _go(work)
    except Failed as error:
        _say(f"FAILED: {error}")
        sys.exit(1)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _say("all as it should be")


def _go(work: Path) -> None:
    with step("Debian 13 with its Docker, and Debian 12 for the images"):
        host = make_debian(CACHE / "trixie", "trixie", DOCKER)
        base = make_debian(CACHE / "bookworm", "bookworm", PYTHON)
    checkout = work / "kiln"
    checkout.mkdir()
    _copy_checkout(checkout)
    shown = work / "shown"
    shown.mkdir()
    with running_machine(host, work, checkout) as machine, pip.serving(machine, shown):
        _say(machine.run("docker version --format 'Docker {{.Server.Version}}'; docker compose version").strip())
        with step(f"stand-ins for {', '.join(STAND_INS.values())}"):
            _make_stand_ins(machine, base, checkout, shown)
        try:
            Walk(machine, step).go()
        except Failed:
            _say(machine.run("docker compose ps --all; docker compose logs --tail 15", seconds=60))
            raise


def _copy_checkout(place: Path) -> None:
    """What git has, or would take: a fresh clone, with what is not committed yet."""
    named = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(named, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def _make_stand_ins(machine: Machine, base: Path, checkout: Path, shown: Path) -> None:
    """No registry is asked: each image that ours or compose begin with is made here. See images/*/Dockerfile."""
    archive, images = machine.work / "upper/debian.tar", machine.work / "upper/images"
    with tarfile.open(archive, "w") as packed:
        packed.add(base, arcname=".")
    machine.run("docker import /debian.tar kiln-debian && rm /debian.tar")
    shutil.copytree(HERE / "images", images)
    certificates = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copy(certificates, images / "base/ca-certificates.crt")
    pip.write_config(images / "base", shown)
    for name, stands_for in STAND_INS.items():
        machine.run(f"docker build --tag kiln-{name} /images/{name} && docker tag kiln-{name} {stands_for}")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done, and once it is, how long it took."""
    began = time.monotonic()
    yield
    _say(f"{time.monotonic() - began:6.1f} s  {what}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
