"""Registry entries in, their hub files under home/models out: pinned to a commit, checked, recorded. No torch here."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx2
from filelock import FileLock
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from common.models import PARTS, ModelEntry, ModelPart, PartName
from worker.convert import convert
from worker.hub import HubFile, fetch_file, hub_endpoint, list_files
from worker.parts import LAYOUTS, PartError, choose_files, naming
from worker.record import FileRecord, Record, file_sha256, read_record, write_record

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

SAFE_NAMES = {layout.pickle: layout.safetensors for layout in LAYOUTS.values() if layout.pickle}

OnProgress = Callable[[str, int, int], None]  # file, bytes there, bytes in all


def pull_model(name: str, entry: ModelEntry, home: Path, on_progress: OnProgress | None = None) -> dict[str, str]:
    """Fetch every part of ``entry`` that comes from a hub into ``home``; the commit of each, by part, comes back.

    What is there is not fetched again, and what was interrupted goes on where it stopped. Raises ModelNotLoadable.
    """
    hub_parts = [part for part in PARTS if not is_folder(entry.part(part))]
    return {part: pull_part(name, part, entry.part(part), home, on_progress).commit for part in hub_parts}


def pull_part(
    model: str, part: PartName, origin: ModelPart, home: Path, on_progress: OnProgress | None = None
) -> Record:
    """Fetch one part, unless it is there, and return the record of its repository. Raises ModelNotLoadable."""
    folder = repository_folder(home, origin)
    key = part_key(part, origin)
    with naming(model, part, origin):
        if (record := read_record(folder)) and record.has_part(folder, key):
            return record
        folder.mkdir(parents=True, exist_ok=True)
        with _explained(model), FileLock(folder / ".lock"):
            return _fetch_part(part, key, origin, folder, on_progress or (lambda file, done, total: None))


def is_folder(origin: ModelPart) -> bool:
    """Whether a part comes from a folder: one that exists, or a name that no hub id can have."""
    return Path(origin.source).expanduser().is_dir() or HUB_ID.fullmatch(origin.source) is None


def repository_folder(home: Path, origin: ModelPart) -> Path:
    """Where the files of one repository at one revision lie under ``home``."""
    return home / "models" / origin.source.replace("/", "--") / re.sub(r"[^\w.-]|^\.+", "-", origin.revision)


def part_key(part: PartName, origin: ModelPart) -> str:
    """What a record calls one part: two models may take one part from two subfolders of a repository."""
    return f"{origin.subfolder}:{part}"


def is_pulled(part: PartName, origin: ModelPart, home: Path) -> bool:
    """Whether everything of ``part`` is on this machine, by its record. Touches no network."""
    folder = repository_folder(home, origin)
    record = read_record(folder)
    return record is not None and record.has_part(folder, part_key(part, origin))


def _fetch_part(part: PartName, key: str, origin: ModelPart, folder: Path, on_progress: OnProgress) -> Record:
    record = read_record(folder)  # again, under the lock: another process may have fetched it meanwhile
    if record and record.has_part(folder, key):
        return record
    listing = list_files(origin.source, record.commit if record else origin.revision)
    record = record or Record(origin.source, origin.revision, listing.commit)
    write_record(folder, record)
    inside = PurePosixPath(origin.subfolder)
    names = [PurePosixPath(path).name for path in listing.files if PurePosixPath(path).parent == inside]
    paths = []
    for name in choose_files(part, names):
        path, record = _fetch_file(record, listing.files[str(inside / name)], folder, on_progress)
        paths.append(path)
    record = record.with_part(key, paths)
    write_record(folder, record)
    return record


def _fetch_file(record: Record, file: HubFile, folder: Path, on_progress: OnProgress) -> tuple[str, Record]:
    """Fetch ``file`` and record it; a pickle is converted, recorded under its new name, and deleted."""
    name = PurePosixPath(file.path).name
    path = str(PurePosixPath(file.path).with_name(SAFE_NAMES.get(name, name)))
    if path in record.files and (folder / path).is_file():
        return path, record
    target = folder / file.path
    digest = fetch_file(
        record.source, record.commit, file, target, lambda done: on_progress(file.path, done, file.size)
    )
    made_from = None
    if path != file.path:
        made_from = digest
        try:
            convert(target, folder / path)
        finally:
            target.unlink()
        digest = file_sha256(folder / path)
    record = record.with_file(path, FileRecord((folder / path).stat().st_size, digest, made_from))
    write_record(folder, record)
    return path, record


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Say what the hub's errors mean for the person who pulls."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise PartError(f"it is not fetched yet, and HF_HUB_OFFLINE is set; run kiln models pull {model}") from error
    except GatedRepoError as error:
        raise PartError("its owner asks for consent: give it on the repository's page and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise PartError("there is no such repository, or it is private and HF_TOKEN does not open it") from error
    except RevisionNotFoundError as error:
        raise PartError("there is no such revision") from error
    except HfHubHTTPError as error:
        raise PartError(
            f"{hub_endpoint()} answers {error.response.status_code}; later, run kiln models pull {model}"
        ) from error
    except httpx2.HTTPError as error:
        raise PartError(f"cannot reach {hub_endpoint()} ({error}); later, run kiln models pull {model}") from error
