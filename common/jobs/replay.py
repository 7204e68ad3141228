"""Idempotency keys: an owner, a key and a request's hash in; what that request became before out. Reads only."""

from uuid import UUID

from sqlalchemy import Connection, Engine, Table, select

from common.db import reading
from common.errors import IdempotencyMismatch
from common.jobs.tables import batches, jobs


def find_job(engine: Engine, owner: str, key: str | None, fingerprint: str) -> UUID | None:
    """The job that this very request made. Raises IdempotencyMismatch where the key stands for another."""
    with reading(engine) as connection:
        return first_under_key(connection, jobs, owner, key, fingerprint)


def find_batch(engine: Engine, owner: str, key: str | None, fingerprint: str) -> UUID | None:
    """The batch that this very request made. Raises as find_job() does."""
    with reading(engine) as connection:
        return first_under_key(connection, batches, owner, key, fingerprint)


def first_under_key(connection: Connection, table: Table, owner: str, key: str | None, fingerprint: str) -> UUID | None:
    """The id of the row of ``table`` that has this key. Without a key there is none."""
    if key is None:
        return None
    mine = (table.c.owner == owner) & (table.c.idempotency_key == key)
    first = connection.execute(select(table.c.id, table.c.fingerprint).where(mine)).one_or_none()
    if first is None:
        return None
    if first.fingerprint != fingerprint:
        raise IdempotencyMismatch("this Idempotency-Key was used before with another request")
    found: UUID = first.id
    return found
