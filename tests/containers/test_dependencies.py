"""What an image installs is what its programs import, and each distribution of it has its version in constraints.txt.

No test would see what is missing by running: here everything is installed, what the tests need included.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.containers.compose import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
API: list[str] = PROJECT["dependencies"]
WORKER: list[str] = API + PROJECT["optional-dependencies"]["worker"]
HERE = ".".join(map(str, sys.version_info[:2]))
LOCAL: list[str] = PROJECT["optional-dependencies"]["local"]
IMAGE = re.findall(r"^ARG PYTHON=(.*)$", (ROOT / "Dockerfile").read_text(), re.M)[0]
HOMES = packages_distributions()  # by what is imported

# Not pinned by us: the Makefile and the Dockerfile name torch's version, and torch those of what its CUDA build needs
TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.*")
HIDE = """
import importlib, importlib.abc, json, sys
installed, hidden, modules = json.loads(sys.argv[1])

class Image(importlib.abc.MetaPathFinder):
    finders = list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return next((found for finder in self.finders if (found := finder.find_spec(name, path, target))), None)

    def find_distributions(self, context):
        for finder in self.finders:
            for each in getattr(finder, "find_distributions", lambda _: ())(context):
                if each.metadata["Name"].lower().replace("_", "-") in installed:
                    yield each

sys.meta_path[:] = [Image()]
for name in modules:
    importlib.import_module(name)
# kombu and Celery import the rest when it is used
app = importlib.import_module("common.queue").make_celery("redis://127.0.0.1:1/0")
app.connection().transport.Channel, app.backend, app.amqp, app.loader.import_default_modules()
"""


def closure(named: Sequence[str], python: str) -> set[str]:
    """The distributions that pip would install for the requirements ``named``, by what is installed here says."""
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.9"}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in named]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for of, extra in seen if of == name}:
            seen.add((name, extra))
            waiting += _needs(name, extra, environment)
    return {name for name, _ in seen}


def _needs(name: str, extra: str, environment: dict[str, str]) -> Iterator[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return  # for another Python, so that nothing here says what it needs
    for line in lines:
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate(environment | {"extra": extra}):
            yield needed


def modules_in(*packages: str) -> list[str]:
    """Every module of these folders of ours, by its full name."""
    files = [file.relative_to(ROOT) for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.endswith("__main__")]


# `kiln up` and its servers are in no image
APART = set(modules_in("common/local"))
SHARED = [name for name in modules_in("api", "client", "common") if name not in APART]


@pytest.mark.parametrize(
    ("named", "modules"),
    [
        (API, [*SHARED, "migrations.roles", "worker.sweeper"]),
        (WORKER, [*SHARED, *modules_in("worker")]),
        (API + LOCAL, [*SHARED, *modules_in("common/local")]),
    ],
    ids=["api", "worker", "up"],
)
def test_programs_import_what_is_installed_for_them(named: list[str], modules: list[str]) -> None:
    installed = closure(named, HERE) | {"kiln"}
    hidden = [name for name, owners in HOMES.items() if not installed & set(map(canonicalize_name, owners))]
    assert {"pytest", "hypothesis"} <= set(hidden)
    command = [sys.executable, "-c", HIDE, json.dumps([sorted(installed), hidden, modules])]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.parametrize(
    ("named", "packages"), [(API + LOCAL, ["api", "client", "common", "migrations"]), (WORKER, ["worker"])]
)
def test_what_is_imported_later_is_installed_too(named: list[str], packages: list[str]) -> None:
    """An import inside a function, which starting the program does not reach."""
    installed = closure(named, HERE)
    for file in (file for package in packages for file in (ROOT / package).rglob("*.py")):
        for name in set(_imported(file)) - set(sys.stdlib_module_names):
            owners = set(map(canonicalize_name, HOMES.get(name, [])))
            assert owners & (installed | {"kiln"}) or (ROOT / name).is_dir(), f"{file.relative_to(ROOT)} imports {name}"


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("python", [IMAGE, HERE])
def test_every_distribution_of_an_image_has_its_version(python: str) -> None:
    pinned = {
        canonicalize_name(Requirement(line).name)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert [name for name in sorted(closure(WORKER, python) - pinned) if not TORCH.fullmatch(name)] == []
