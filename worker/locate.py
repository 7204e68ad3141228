"""A part's registry entry in, its checked folder on this machine out. Fetches from the hub what is not yet there."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from common.models import ModelPart, PartName
from worker.parts import PartError, choose_files
from worker.pull import is_folder, part_key, pull_part, repository_folder
from worker.record import check_files, folder_digest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Located:
    """A folder with everything of one part in it, and what names its content: a hub commit, or a digest."""

    folder: Path
    revision: str


def locate_part(model: str, part: PartName, origin: ModelPart, home: Path) -> Located:
    """Where ``part`` lies, complete and unchanged. Raises PartError, or ModelNotLoadable from the hub."""
    if is_folder(origin):
        return _local_part(part, Path(origin.source).expanduser() / origin.subfolder)
    record = pull_part(model, part, origin, home)
    folder = repository_folder(home, origin)
    began = time.monotonic()
    # Sizes and SHA-256 both, at every start: hashing reads what loading reads anyway and costs 0.6 s per GB (2 of
    # the 18 s that sd-v1-4 takes to load on a CPU), and it finds a bad disk or a half-copied volume before a job does.
    try:
        check_files(folder, record, record.parts[part_key(part, origin)])
    except PartError as error:
        raise PartError(f"{error}: delete it and run kiln models pull {model}") from error
    log.info("part_checked", model=model, part=part, commit=record.commit, seconds=round(time.monotonic() - began, 2))
    return Located(folder / origin.subfolder, record.commit)


def _local_part(part: PartName, folder: Path) -> Located:
    if not folder.is_dir():
        raise PartError(f"there is no folder {folder}")
    names = choose_files(part, [file.name for file in folder.iterdir() if file.is_file()])
    if pickle := next((name for name in names if name.endswith(".bin")), None):
        raise PartError(f"only {pickle} is there, a pickle, and a worker reads safetensors only")
    return Located(folder, folder_digest(folder, names))
