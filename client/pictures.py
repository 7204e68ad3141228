"""A finished job in, its pictures as files out. Writes into the folder it is told, and never over another picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from client.errors import InvalidUse

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}

_SUFFIXES = {"image/png": ".png", "image/webp": ".webp", "image/jpeg": ".jpg"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job's pictures go: into ``folder``, as ``stem``-<index>, or as ``file`` alone when there is one."""

    folder: Path
    stem: str = ""
    file: Path | None = None

    @property
    def output_format(self) -> str | None:
        """The format that the file's name asks for."""
        return FORMATS[self.file.suffix.lower()] if self.file else None


def choose_target(output: str | None, stem: str) -> Target:
    """Read --output: a picture's name or a folder, which is made. Raises InvalidUse where nothing can be written."""
    path = Path(output or ".")
    named = path.suffix.lower() in FORMATS and not path.is_dir() and not (output or "").endswith("/")
    if named and path.exists():
        raise InvalidUse(f"{path} exists already, and is not written over. Name another file, or a folder.")
    folder = path.parent if named else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidUse(f"{folder} cannot be made a folder: {error.strerror}.") from error
    return Target(folder, path.stem if named else stem, path if named else None)


def save_picture(content: bytes, image: dict[str, Any], job: dict[str, Any], target: Target) -> Path:
    """Write one picture under the first name that is free, and return it; one that lies there already is left."""
    alone = target.file is not None and len(kept(job)) == 1
    try:
        for path in _names(image, job, target, alone):
            if _create(path, content):
                return path
    except OSError as error:
        raise InvalidUse(
            f"{target.folder} does not take the picture: {error.strerror}. It is kept: "
            f"`kiln watch {job['id']} --output FOLDER` saves it elsewhere."
        ) from error
    raise AssertionError("the names never end")


def kept(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The job's pictures without those that keep_best dropped: a batch's had bytes, and keep the hash of them."""
    return [image for image in job["images"] if image["url"]]


def suffix_of(image: dict[str, Any]) -> str:
    """The end of a file's name, as .png."""
    return _SUFFIXES[image["content_type"]]


def _names(image: dict[str, Any], job: dict[str, Any], target: Target, alone: bool) -> Iterator[Path]:
    suffix = suffix_of(image)
    if alone and target.file:
        yield target.file
    elif target.stem:
        yield target.folder / f"{target.stem}-{image['index']}{suffix}"
    yield target.folder / f"{job['id']}-{image['index']}{suffix}"
    for copy in count(2):
        yield target.folder / f"{job['id']}-{image['index']}-{copy}{suffix}"


def _create(path: Path, content: bytes) -> bool:
    """Whether ``path`` now holds ``content``; False when something else lies there."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return path.is_file() and path.read_bytes() == content
    return True
