"""Where the API is: an argument, KILN_API_URL, run.json in KILN_HOME, or port 8000 of this machine. Only reads."""

import ipaddress
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from client.errors import InvalidUse

DEFAULT_API_URL = "http://127.0.0.1:8000"


def home() -> Path:
    """The folder in which `kiln up` keeps its servers and run.json."""
    return Path(os.environ.get("KILN_HOME") or ".kiln")


def read_run(folder: Path) -> dict[str, Any]:
    """What `kiln up` wrote about its servers into ``folder``/run.json; empty where nothing runs."""
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidUse(
            f"{path} cannot be read ({error}). Stop `kiln up`, remove the file and start again."
        ) from error
    if not isinstance(run, dict):
        raise InvalidUse(f"{path} holds no JSON object. Stop `kiln up`, remove the file and start again.")
    return run


def find_api(given: str | None = None) -> str:
    """The API's base URL without a trailing slash; raises InvalidUse when it is not an http URL."""
    url = given or os.environ.get("KILN_API_URL") or read_run(home()).get("api") or DEFAULT_API_URL
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUse(f"{url!r} is not the address of an API; it must read like {DEFAULT_API_URL}.")
    return str(url).rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether ``url`` stays on this machine: such calls must not go through a proxy of the environment."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
