"""The best of a batch: of pictures that were asked for alike but for the seed, some keep their objects. Touches images.

Rows, scores and hashes stay; what a job looks like once it is over was announced when its batch was submitted.
"""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select, update

from common.db import transaction
from common.jobs.garbage import unnamed
from common.jobs.spec import JobSpec
from common.jobs.tables import batches, images, is_queued, is_running, jobs


def fewest_pictures(specs: Iterable[JobSpec]) -> int:
    """Of the pictures that are ranked together, how many there are at least."""
    counts: Counter[tuple[object, ...]] = Counter()
    for spec in specs:
        counts[tuple(value for name, value in spec.to_json().items() if name != "seed")] += spec.num_images
    return min(counts.values())


def drop_rest(engine: Engine) -> list[str] | None:
    """Rank the pictures of one batch that is over and keeps its best; None where there is no such batch.

    Returns the keys of objects that no row names any more: the caller removes them.
    """
    live = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, is_queued | is_running)
    ripe = (
        select(batches.c.id, batches.c.keep_best)
        .where(batches.c.keep_best.is_not(None), batches.c.pruned_at.is_(None), ~live.exists())
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    with transaction(engine) as connection:
        batch = connection.execute(ripe).one_or_none()
        if batch is None:
            return None
        now = func.clock_timestamp()
        connection.execute(update(batches).where(batches.c.id == batch.id).values(pruned_at=now))
        return _drop(connection, batch.id, batch.keep_best)


def _drop(connection: Connection, batch_id: UUID, keep: int) -> list[str]:
    place = func.row_number().over(
        partition_by=jobs.c.spec.op("-")("seed"), order_by=(images.c.clip_score.desc(), images.c.job_id, images.c.index)
    )
    ranked = select(images, place.label("place")).join(jobs).where(jobs.c.batch_id == batch_id).subquery()
    worse = select(ranked).where(ranked.c.place > keep, ranked.c.kept).cte("worse")
    rows = connection.execute(select(worse.c.key, worse.c.thumbnail_key)).all()
    mine = (images.c.job_id == worse.c.job_id) & (images.c.index == worse.c.index)
    connection.execute(update(images).where(mine).values(kept=False, key=None, thumbnail_key=None))
    return unnamed(connection, [key for row in rows for key in row])
