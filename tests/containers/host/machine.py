"""A Docker host in a folder: Debian's own Docker, in namespaces of its own, reached as its user would.

It touches nothing of this machine but the folders given: its network is a process's (slirp4netns), its mounts and
processes end with it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
DOCKER = "ca-certificates,curl,docker-buildx,docker-cli,docker-compose,docker.io,iproute2,iptables,openssl,procps"
PYTHON = "ca-certificates,python3,python3-dev,python3-pip,python3-venv"
NEEDED = {"debootstrap": "debootstrap", "slirp4netns": "slirp4netns", "unshare": "util-linux", "setpriv": "util-linux"}
LEASH = ("setpriv", "--pdeathsig", "KILL")  # what is started here does not outlive us


class Failed(Exception):
    """What went wrong, and the last that was said."""


@dataclass(frozen=True)
class Machine:
    """A running Docker host. ``pid`` is its first process, as this machine counts."""

    pid: int
    work: Path

    def enter(self, *spaces: str) -> list[str]:
        """The words that run a command in these of its namespaces."""
        return ["nsenter", f"--target={self.pid}", *(f"--{space}" for space in spaces)]

    def run(self, command: str, *, seconds: float = 900) -> str:
        """What a line of shell prints there, in the checkout. Raises Failed with its last lines."""
        line = self.enter("mount", "net", "pid", "uts", "ipc", "root")
        script = f"cd /kiln && {command}"
        ended = subprocess.run(
            [*line, "sh", "-euc", script],
            env={"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if ended.returncode:
            raise Failed(f"{command}\nended with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-3000:]}")
        return ended.stdout


def say_what_lacks() -> str:
    """Why this machine cannot do it; "" where it can."""
    if os.geteuid() != 0:
        return "needs root: it makes a Debian in a folder, mounts, and namespaces"
    lacking = sorted({package for program, package in NEEDED.items() if not shutil.which(program)})
    if lacking:
        return f"needs programs that are not here. On Debian: apt-get install {' '.join(lacking)}"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun, for the network of the Docker host"
    return ""


def make_debian(folder: Path, suite: str, packages: str) -> Path:
    """A minimal Debian in ``folder``, made once. Raises Failed."""
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]  # what it mounts meanwhile ends with it
    command = [*apart, "debootstrap", "--variant=minbase", f"--include={packages}", suite, str(unfinished), MIRROR]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Failed(f"{' '.join(command)}\n{ended.stdout[-2000:]}{ended.stderr[-1000:]}")
    return unfinished.rename(folder)


@contextmanager
def running_machine(root: Path, work: Path, checkout: Path) -> Iterator[Machine]:
    """A Docker host on the file system of ``root``, which stays as it is, with ``checkout`` as its /kiln."""
    spaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--propagation=private"]
    boot = ["sh", str(HERE / "boot.sh"), str(root), str(work), str(checkout)]
    with (work / "boot.log").open("wb") as log:
        space = subprocess.Popen([*LEASH, "unshare", *spaces, *boot], stdout=log, stderr=log)
    network = None
    try:
        children = Path(f"/proc/{space.pid}/task/{space.pid}/children")
        wait_for("first process", lambda: children.read_text().split(), seconds=10)
        machine = Machine(int(children.read_text().split()[0]), work)
        own = Path(f"/proc/{machine.pid}/ns/net")
        wait_for("network of its own", lambda: os.readlink(own) != os.readlink("/proc/self/ns/net"), seconds=10)
        network = subprocess.Popen(
            [*LEASH, "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", str(machine.pid), "tap0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for("dockerd", lambda: machine.run("docker version --format '{{.Server.Version}}'"), seconds=90)
        yield machine
    finally:
        for process in (network, space):
            if process:
                process.kill()
                process.wait()
        _remove_groups()


def wait_for(what: str, check: Callable[[], object], *, seconds: float) -> object:
    """What ``check`` returns, once it is true. Raises Failed with the last thing seen."""
    end = time.monotonic() + seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    seen: object = None
    while time.monotonic() < end:
        try:
            seen = check()
        except (Failed, OSError, ValueError, KeyError) as error:
            seen = error
        else:
            if seen:
                return seen
        time.sleep(0.5)
    raise Failed(f"no {what} in time; last seen: {seen}")


def _remove_groups() -> None:
    """The control groups that dockerd made: the kernel keeps them, empty, and until all that was in them has ended."""
    made = [inner for group in Path("/sys/fs/cgroup").glob("**/kiln-containers") for inner in group.glob("**/")]

    def gone() -> bool:
        for group in sorted(made, reverse=True):
            if group.exists():
                group.rmdir()
        return True

    wait_for("end of the control groups", gone, seconds=20)
