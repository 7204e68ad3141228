"""What was fetched from a hub: kiln.json beside the files, with the commit and each file's size and SHA-256."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.parts import PartError

RECORD = "kiln.json"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as it was fetched; ``made_from`` is the SHA-256 of the pickle that was converted into it."""

    size: int
    sha256: str
    made_from: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One repository at one revision: the commit it meant when it was first asked for, and what is here of it.

    ``files`` maps paths in the repository to what they hold; ``parts`` maps each complete part to its files.
    """

    source: str
    revision: str
    commit: str
    files: dict[str, FileRecord] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)

    def has_part(self, folder: Path, part: str) -> bool:
        """Whether ``part`` was fetched whole into ``folder`` and none of its files was deleted since."""
        return part in self.parts and all((folder / path).is_file() for path in self.parts[part])

    def with_file(self, path: str, file: FileRecord) -> "Record":
        return dataclasses.replace(self, files={**self.files, path: file})

    def with_part(self, part: str, paths: list[str]) -> "Record":
        return dataclasses.replace(self, parts={**self.parts, part: paths})


def read_record(folder: Path) -> Record | None:
    """The record of ``folder``, or None when nothing was fetched into it. Raises PartError when it is damaged."""
    try:
        data: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {path: FileRecord(**file) for path, file in data.pop("files").items()}
        return Record(**data, files=files)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PartError(f"{folder / RECORD} is damaged: delete {folder}") from error


def write_record(folder: Path, record: Record) -> None:
    """Replace the record of ``folder`` in one step: a crash leaves the old one or the new one."""
    fresh = folder / (RECORD + ".new")
    fresh.write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, folder / RECORD)


def check_files(folder: Path, record: Record, paths: Iterable[str]) -> None:
    """Raise PartError unless each of ``paths`` has the size and the SHA-256 that were recorded."""
    for path in paths:
        recorded, size = record.files[path].size, (folder / path).stat().st_size
        if size != recorded:
            raise PartError(f"{folder / path} is not what was fetched ({size} bytes, not {recorded})")
    with ThreadPoolExecutor() as pool:
        for path, digest in zip(paths, pool.map(lambda path: file_sha256(folder / path), paths), strict=True):
            if digest != record.files[path].sha256:
                raise PartError(f"{folder / path} is not what was fetched (SHA-256 differs)")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, names: Iterable[str]) -> str:
    """A short name for what a local folder's files hold, so that recipes can tell two of them apart."""
    lines = "".join(f"{name} {file_sha256(folder / name)}\n" for name in sorted(names))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()[:16]
