"""Dockerfile and .dockerignore: an image holds our code and what was tested with it, and is built without waste."""

import re
import shlex
import tomllib
from collections.abc import Iterator

from tests.containers.compose import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_everything_that_the_dockerfile_copies_exists_and_passes_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(_copied())
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_holds_every_package_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages == {source for source in _copied() if (ROOT / source).is_dir()}


def test_images_are_built_of_the_versions_that_were_tested() -> None:
    """Newer ones than any test saw, and other ones with each build."""
    lines = re.findall(r"(?:\w+=\S+ )?pip (?:install|wheel) .*", DOCKERFILE)
    assert len(lines) >= 5
    for line in lines:
        assert re.search(r"-c constraints\.txt|PIP_CONSTRAINT=constraints\.txt|--no-deps (torch==|/wheel/)", line), line
    assert "constraints.txt" in _copied()


def test_a_change_of_the_project_does_not_fetch_torch_again() -> None:
    layers: dict[str, str] = {}
    for base, name, steps in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S):
        layers[name] = layers.get(base, "") + steps
    before, found, _ = layers["worker-packages"].partition("pip install --no-cache-dir --no-deps torch==")
    assert found
    assert re.findall(r"^COPY (.*)$", before, re.M) == ["constraints.txt ./"]


def test_torch_is_the_one_that_is_tested() -> None:
    (makefile,) = re.findall(r"^TORCH \?= (torch==\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"torch==[\d.]+", DOCKERFILE)) == {makefile}


def _copied() -> Iterator[str]:
    """What the Dockerfile copies out of the project, not out of other stages."""
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M):
        if not line.startswith("--from"):
            yield from (source.rstrip("/") for source in shlex.split(line)[:-1])
