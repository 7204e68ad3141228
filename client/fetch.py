"""A batch's id and a folder in; its pictures as files with names that say what they are, each checked, out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.api import Job, Kiln
from client.errors import InvalidUse
from client.pictures import kept, suffix_of
from common.names import picture_name


@dataclass(slots=True)
class Fetched:
    """How many pictures were saved, and how many lay there whole before."""

    saved: int = 0
    present: int = 0


def fetch_pictures(kiln: Kiln, batch_id: str, folder: Path, tell: Callable[[str], None]) -> Fetched:
    """Save every picture that the batch has by now. A file with other bytes under its name is left, and told of.

    Raises InvalidUse where the folder takes no files, DamagedPicture, and what Kiln does.
    """
    fetched = Fetched()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for job in kiln.results(batch_id):
            for image in kept(job):
                _fetch(kiln, job, image, folder, fetched, tell)
    except OSError as error:
        raise InvalidUse(f"{folder} does not take the pictures: {error.strerror}.") from error
    return fetched


def _fetch(
    kiln: Kiln, job: Job, image: dict[str, Any], folder: Path, fetched: Fetched, tell: Callable[[str], None]
) -> None:
    asked = job["input"]
    path = folder / picture_name(asked["prompt"], asked["style"], image["seed"], job["id"], suffix_of(image))
    if path.exists():
        if hashlib.sha256(path.read_bytes()).hexdigest() == image["sha256"]:
            fetched.present += 1
        else:
            tell(f"{path} holds something else, and is left as it is")
        return
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(kiln.image(image))
    unfinished.rename(path)
    fetched.saved += 1
