"""docker-compose.yml in, what Docker would start out: the small part of Compose's interpolation that our file uses."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

# $$, or ${NAME}, ${NAME:-default}, ${NAME:?message}; what follows : is matched by hand, for it may nest
_START = re.compile(r"\$\$|\$\{(\w+)(?::([-?]))?")


class Missing(Exception):
    """A variable without which Compose refuses to start; the message is the one from the file."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with its variables filled in. Raises Missing for ${NAME:?message} where NAME is unset or empty."""
    done, position = "", 0
    while match := _START.search(text, position):
        done += text[position : match.start()]
        if match.group() == "$$":
            done, position = done + "$", match.end()
            continue
        position = _closing(text, match.end()) + 1
        done += _value(match, text[match.end() : position - 1], variables)
    return done + text[position:]


def _value(match: re.Match[str], rest: str, variables: Mapping[str, str]) -> str:
    name, operator = match.groups()
    if value := variables.get(name, ""):
        return value
    if operator == "?":
        raise Missing(f"{name}: {rest}")
    if operator == "-":
        return interpolate(rest, variables)
    raise Missing(f"{name}: used without a default or a message")


def _closing(text: str, position: int) -> int:
    """Where the brace that was opened just before ``position`` is closed."""
    depth = 1
    for place in range(position, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    raise ValueError(f"a brace stays open in {text!r}")


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services of docker-compose.yml by name, as Docker would see them. Raises Missing."""
    filled: dict[str, Any] = _fill(read(), variables)
    services: dict[str, Any] = filled["services"]
    return services


def read() -> dict[str, Any]:
    """docker-compose.yml as it stands, variables and all."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def _fill(node: Any, variables: Mapping[str, str]) -> Any:
    match node:
        case str():
            return interpolate(node, variables)
        case list():
            return [_fill(item, variables) for item in node]
        case dict():
            return {key: _fill(item, variables) for key, item in node.items()}
    return node


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines of an env file; comments and empty lines left out."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment(service: Mapping[str, Any], env_file: Mapping[str, str]) -> dict[str, str]:
    """What a container of ``service`` finds in its environment, with ``env_file`` as the contents of .env."""
    from_file = env_file if service.get("env_file") == ".env" else {}
    return {**from_file, **service.get("environment", {})}


def process(words: list[str]) -> list[str]:
    """A command of the file as one that runs here: the image's python is the one that runs the tests."""
    assert words[0] == "python", words
    return [sys.executable, *words[1:]]


def bare() -> dict[str, str]:
    """The variables of this machine that any process needs, and none of Kiln's."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
