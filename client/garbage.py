"""`kiln gc`: the bucket and the database in; the objects that no job names, removed. Needs no API, and no key."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.address import home, read_run
from client.doctor import run_settings
from client.errors import Unreachable
from client.generate import AsJson
from client.output import Output, answering

if TYPE_CHECKING:
    from common.settings import Settings

SHOWN = 10  # keys


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the objects of the bucket that no job names: of lost attempts, and of jobs that are gone.

    Only what Kiln wrote over a day ago. The sweeper does the same every hour, but not where half of all would go.
    """
    from common.settings import Settings, read_settings

    with answering(as_json) as output:
        settings = read_settings(Settings, home=Path(home()), **run_settings(read_run(home()), os.environ))
        _collect(settings, output, dry_run)


def _collect(settings: "Settings", output: Output, dry_run: bool) -> None:
    from common.db import make_engine
    from common.errors import StorageError, Unavailable
    from common.jobs.garbage import find_garbage, settled_before
    from common.objects import Objects

    engine = make_engine(settings.database_url.get_secret_value(), name="kiln-gc", pool_size=1)
    objects = Objects.from_settings(settings)
    seen = size = 0
    keys: list[str] = []
    try:
        for page in find_garbage(engine, objects, before=settled_before(settings.job_seconds)):
            seen, size = seen + page.seen, size + page.bytes
            keys += [entry.key for entry in page.garbage]
            if not dry_run:
                objects.delete([entry.key for entry in page.garbage])
    except (StorageError, Unavailable) as error:
        raise Unreachable(f"{error.detail}. `kiln doctor` says more.") from error
    finally:
        engine.dispose()
    verb = "would be removed" if dry_run else "removed"
    told = f"{len(keys)} of {seen} objects older than a day {verb}, {size / 1e6:.1f} MB"
    output.answer({"seen": seen, "garbage": len(keys), "bytes": size, "removed": not dry_run, "keys": keys}, told)
    for key in keys[:SHOWN] if dry_run else []:
        output.note(key)
