"""An object store that answers in, whether it still has its bucket out; a new Kiln's is made here.

SeaweedFS says nothing of an index that is damaged or gone: it begins an empty one, and all pictures seem to be gone.
"""

import time
from dataclasses import replace
from pathlib import Path

from common.errors import StorageError
from common.local.children import Child, DataDamaged
from common.local.supervisor import Program
from common.settings import Settings

_SURE_SECONDS = 5  # it may be that the gateway answers before the index does


def keep_bucket(store: Program, folder: Path, settings: Settings) -> Program:
    """The same program, ready only with its bucket. Its ready() raises DataDamaged where that was there and is gone."""
    missing_since: list[float] = []

    def ready(child: Child) -> bool:
        return store.ready(child) and has_bucket()

    def has_bucket() -> bool:
        from common.objects import Objects  # here: by now the other processes import, too, and boto3 takes its time

        try:
            objects = Objects.from_settings(settings)
            if objects.has_bucket():
                missing_since.clear()
                return True
            if not any(folder.glob(f"{settings.s3_bucket}_*.dat")):
                objects.ensure_bucket()
                return True
        except StorageError:
            return False
        missing_since.append(time.monotonic())
        if time.monotonic() - missing_since[0] > _SURE_SECONDS:
            raise DataDamaged(f"{folder} has pictures, and no bucket {settings.s3_bucket} any more: its index is lost")
        return False

    return replace(store, ready=ready)
