"""The best of a batch: of pictures that were asked for alike but for the seed, some keep their objects. Touches images.

Rows, scores and hashes stay; what a job looks like once it is over was announced when its batch was submitted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, select, update

from common.db import reading, transaction
from common.jobs.garbage import unnamed
from common.jobs.spec import JobSpec
from common.jobs.tables import batches, images, is_queued, is_running, jobs

_LOT = 5000  # pictures dropped in one transaction
_BATCHES = 100  # looked at, where others are held


def fewest_pictures(specs: Iterable[JobSpec]) -> int:
    """Of the pictures that are ranked together, how many there are at least."""
    counts: Counter[tuple[object, ...]] = Counter()
    for spec in specs:
        counts[tuple(value for name, value in spec.to_json().items() if name != "seed")] += spec.num_images
    return min(counts.values())


def drop_rest(engine: Engine) -> list[str] | None:
    """Of one batch that is over and keeps its best, drop pictures that are not among them; None where none is left.

    A few thousand at a time: the batch is done once fewer than that were left. Returns the keys of objects that no row
    names any more: the caller removes them.
    """
    live = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, is_queued | is_running)
    ripe = (
        batches.c.keep_best.is_not(None)
        & batches.c.pruned_at.is_(None)
        & ~live.exists()
        & batches.c.deleted_at.is_(None)
    )
    with reading(engine) as connection:
        found = connection.execute(select(batches.c.id).where(ripe).limit(_BATCHES)).scalars().all()
    for batch_id in found:
        this = batches.c.id == batch_id
        with transaction(engine) as connection:
            if connection.execute(select(batches.c.id).where(this).with_for_update(skip_locked=True)).first() is None:
                continue
            # Looked at again, now that nobody can add jobs to it
            batch = connection.execute(select(batches.c.keep_best).where(this, ripe)).one_or_none()
            if batch is None:
                continue
            dropped = _drop(connection, batch_id, batch.keep_best)
            if len(dropped) < _LOT:
                connection.execute(update(batches).where(this).values(pruned_at=func.clock_timestamp()))
            return unnamed(connection, [key for row in dropped for key in (row.key, row.thumbnail_key)])
    return None


def _drop(connection: Connection, batch_id: UUID, keep: int) -> Sequence[Row[Any]]:
    """Let go of some pictures that are not among the best; their keys."""
    place = func.row_number().over(
        partition_by=jobs.c.spec.op("-")("seed"), order_by=(images.c.clip_score.desc(), images.c.job_id, images.c.index)
    )
    ranked = select(images, place.label("place")).join(jobs).where(jobs.c.batch_id == batch_id).subquery()
    worse = select(ranked).where(ranked.c.place > keep, ranked.c.kept).limit(_LOT).cte("worse")
    mine = (images.c.job_id == worse.c.job_id) & (images.c.index == worse.c.index)
    statement = update(images).where(mine).values(kept=False, key=None, thumbnail_key=None)
    return connection.execute(statement.returning(worse.c.key, worse.c.thumbnail_key)).all()
