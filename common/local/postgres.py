"""A home folder in, a running PostgreSQL on loopback out, with its data kept there. Drops to a plain user as root."""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from common.local import children
from common.local.binaries import WHEEL, find_postgres
from common.local.children import Child, DataDamaged, LocalServiceError

STOP_SIGNAL = signal.SIGINT  # PostgreSQL's fast shutdown: closes sessions, loses nothing

# What it says of data that it cannot start on. Not every PANIC: a full disk is one, too, and passes
DAMAGE = re.compile(
    r"checkpoint record|database files are incompatible|could not find the database system"
    r"|could not access status of transaction|could not access the server configuration file"
    r"|could not (open|read) file .*(pg_control|pg_filenode)|incorrect checksum in control file"
    r"|required WAL directory|could not find redo location|invalid page in block|database subdirectory .* is missing"
    r"|relation mapping file .* (invalid|incorrect)|not a valid data directory|invalid data in .*(control|history) file"
)


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the programs and the data are, and as which user (None: ourselves) the server runs."""

    programs: Path
    data: Path
    user: int | None


def start_postgres(
    home: Path, *, port: int, password: str, programs: Path | None = None, durable: bool = True
) -> Child:
    """Start the server on the home's data folder, made when missing. Raises LocalServiceError."""
    return run_postgres(home, make_database(home, password, programs), port=port, durable=durable)


def make_database(home: Path, password: str, programs: Path | None = None) -> Installation:
    """Find the programs, and make the data folder where there is none. Raises LocalServiceError."""
    installation = _prepare(home, find_postgres(programs))
    if not installation.data.exists():
        _make_cluster(installation, password)
    return installation


def run_postgres(home: Path, installation: Installation, *, port: int, durable: bool = True) -> Child:
    """Start the server on data that must be there: a new and empty database would hide that they are gone.

    Raises DataDamaged where they are not, and LocalServiceError where another version made them.
    """
    if not (installation.data / "PG_VERSION").exists():
        raise DataDamaged(f"there is no database in {installation.data}, or only a part of one")
    _check_version(installation)
    _forget_the_dead(installation.data)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "fsync": "on" if durable else "off",
    }
    flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = [str(installation.programs / "postgres"), "-D", str(installation.data), *flags]
    return children.start(home, "postgres", command, folder=installation.data, user=installation.user)


def _forget_the_dead(data: Path) -> None:
    """Remove the lock file of a server that is gone with all its processes: another program may have its number now.

    After a power cut PostgreSQL would take that program for the server, and refuse to start. Its processes work in the
    data folder; where /proc does not tell of them, the file stays.
    """
    lock, processes = data / "postmaster.pid", list(Path("/proc").glob("[0-9]*/cwd"))
    if lock.exists() and processes and not any(_leads_to(data, link) for link in processes):
        lock.unlink()


def _leads_to(folder: Path, link: Path) -> bool:
    try:
        return link.samefile(folder)
    except OSError:  # it has ended, or is somebody else's
        return False


def wait_for_postgres(server: Child, url: str) -> None:
    server.wait_until(lambda: postgres_answers(url), seconds=60)  # recovery after a crash may take its time


def postgres_answers(url: str) -> bool:
    """Does it let us in?"""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def postgres_url(port: int, password: str, database: str = "postgres") -> str:
    return f"postgresql://kiln:{password}@127.0.0.1:{port}/{database}"


def _prepare(home: Path, programs: Path) -> Installation:
    """Data in the home folder; as root in a place that an unprivileged user can reach, noted in the home folder."""
    if os.geteuid() != 0:
        return Installation(programs, home / "postgres", None)
    user = _unprivileged()
    noted, place = home / "postgres.place", data_place(home)
    if not noted.exists() and not _reaches(user, home):
        # nobody may pass through, say, /root: parent folders are not ours to open. A new name each time, as a home
        # that was removed and made anew has other passwords
        base = Path("/var/lib/kiln" if Path("/var/lib").exists() else tempfile.gettempdir())
        place = base / secrets.token_hex(8)
        noted.write_text(str(place), encoding="utf-8")
    place.mkdir(parents=True, exist_ok=True)
    os.chown(place, user, -1)
    if not _reaches(user, programs):
        programs = _copy(programs, place)
    return Installation(programs, place / "data", user)


def data_place(home: Path) -> Path:
    """The home's folder of the data, or the place that it notes; the home may have been moved since."""
    noted = home / "postgres.place"
    return Path(noted.read_text(encoding="utf-8")) if noted.exists() else home / "postgres"


def _copy(programs: Path, place: Path) -> Path:
    """The installation around ``programs``, copied to where everybody may run it; an older copy goes."""
    server = (programs / "postgres").stat()
    mark = hashlib.sha256(f"{programs} {server.st_mtime_ns} {server.st_size}".encode()).hexdigest()[:16]
    copied = place / f"programs-{mark}"
    root = next((folder for folder in programs.parents if folder.name == WHEEL), programs.parent)
    if not copied.exists():
        for older in place.glob("programs*"):
            shutil.rmtree(older)
        staging = place / "programs.new"
        for part in (root, root.with_name(f"{root.name}.libs")):  # a wheel's libraries may lie beside it
            if part.exists():
                shutil.copytree(part, staging / part.name, symlinks=True)
        for file in [staging, *staging.rglob("*")]:
            if not file.is_symlink():
                mode = file.stat().st_mode
                file.chmod(mode | (0o555 if mode & 0o100 else 0o444))
        staging.rename(copied)
    return copied / programs.relative_to(root.parent)


def _unprivileged() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise LocalServiceError("PostgreSQL does not run as root, and this system has neither a postgres nor a nobody user")


def _reaches(user: int, path: Path) -> bool:
    """Can this user enter ``path``?"""
    tried = _run_as(user, ["ls", path], folder=Path("/"))
    return tried.returncode == 0


def _make_cluster(installation: Installation, password: str) -> None:
    """initdb beside the data folder, then rename: a data folder is whole or not there."""
    staging = installation.data.with_name("data.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=staging.parent, encoding="utf-8") as secret:
        secret.write(password)
        secret.flush()
        if installation.user is not None:
            os.chown(secret.name, installation.user, -1)
        made = _run_as(
            installation.user,
            [
                installation.programs / "initdb",
                f"--pgdata={staging}",
                "--username=kiln",
                f"--pwfile={secret.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ],
            folder=staging.parent,
        )
    if made.returncode != 0:
        raise LocalServiceError(f"initdb failed\n{made.stderr.decode(errors='replace')[-2000:]}")
    staging.rename(installation.data)


def _check_version(installation: Installation) -> None:
    made_by = (installation.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    told = _run_as(installation.user, [installation.programs / "postgres", "--version"], folder=Path("/"))
    found = re.search(rb"\) (\d+)", told.stdout)
    version = found[1].decode() if found else "an unknown version"
    if version != made_by:
        raise LocalServiceError(
            f"the data in {installation.data} was made by PostgreSQL {made_by}, and {installation.programs} "
            f"has {version}: put the older one on PATH, or move the data away to begin anew"
        )


def _run_as(user: int | None, command: Sequence[str | Path], *, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own command
        list(map(str, command)),
        capture_output=True,
        check=False,
        cwd=folder,
        user=user,
        group=children.user_group(user),
        extra_groups=[] if user is not None else None,
    )
