"""A repository of a Hugging Face hub in, its listing and files out, over HTTP. Reads HF_ENDPOINT and HF_TOKEN."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers

from worker.parts import PartError
from worker.record import file_sha256


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a listing; the hub knows the SHA-256 of large files only."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository, by path, at the commit that a revision means now."""

    commit: str
    files: dict[str, HubFile]


def hub_endpoint() -> str:
    """HF_ENDPOINT as it is now: huggingface_hub itself looks only once, when it is imported."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def list_files(repository: str, revision: str) -> Listing:
    """What ``repository`` holds at ``revision``. Raises what huggingface_hub raises."""
    if constants.is_offline_mode():
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    info = HfApi(endpoint=hub_endpoint()).model_info(repository, revision=revision, files_metadata=True)
    if not info.sha:
        raise PartError(f"{hub_endpoint()} does not say which commit {revision!r} is")
    files = {
        file.rfilename: HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or []
    }
    return Listing(info.sha, files)


def fetch_file(repository: str, commit: str, file: HubFile, target: Path, on_bytes: Callable[[int], None]) -> str:
    """Fetch ``file`` into ``target`` and return its SHA-256; ``on_bytes`` hears how many bytes are there.

    What an earlier try left in ``target`` + ``.part`` is gone on with; ``target`` appears whole or not at all.
    Within one call a lost connection is taken up again a few times by huggingface_hub. Raises PartError when the
    content is not what the hub announced.
    """
    partial = target.with_name(target.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    if file.sha256 is None:
        partial.unlink(missing_ok=True)  # small, and nothing would show that its beginning is another file's
    with partial.open("ab") as stream:
        if stream.tell() > file.size:
            stream.truncate(0)
        meter = _Meter(on_bytes, stream.tell())
        http_get(
            hf_hub_url(repository, file.path, revision=commit, endpoint=hub_endpoint()),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(),
            expected_size=file.size,
            tqdm_class=lambda **_: meter,  # type: ignore[arg-type]
        )
    digest = file_sha256(partial)
    if file.sha256 is not None and digest != file.sha256:
        partial.unlink()
        raise PartError(f"{file.path} arrived damaged (SHA-256 differs from the hub's): try again")
    os.replace(partial, target)
    return digest


class _Meter:
    """Stands where huggingface_hub expects a progress bar, and counts."""

    def __init__(self, on_bytes: Callable[[int], None], done: int) -> None:
        self._on_bytes = on_bytes
        self._done = done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, count: int) -> None:
        self._done += count
        self._on_bytes(self._done)
