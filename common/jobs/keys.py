"""API keys: made once and shown once, found again by their public id; the database holds a hash of each, no key.

A key reads ``kiln_<id>_<secret>``: 12 hexadecimal digits that are no secret, and 64 (32 random bytes) that are.
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, func, insert, select, update

from common.db import reading, transaction
from common.jobs.tables import api_keys

USE_NOTED_EVERY = timedelta(minutes=1)

_FORM = re.compile(r"kiln_([0-9a-f]{12})_[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key is for. Admin may do what the others may, and read what concerns all owners: /metrics."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key: whose, what for, and the SHA-256 of its text."""

    id: str
    owner: str
    scopes: frozenset[Scope]
    digest: bytes
    live: bool  # neither revoked nor expired, by the database's clock as it was read
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # at most a minute behind

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def matches(self, text: str) -> bool:
        """Whether ``text`` is this key; the time it takes tells nothing of how nearly."""
        return secrets.compare_digest(self.digest, _digest(text))


def create_key(
    engine: Engine, owner: str, scopes: Collection[Scope], *, expires_in: timedelta | None = None
) -> tuple[str, ApiKey]:
    """Make a key and commit; returns its text, which is nowhere else and cannot be had again, and what is kept.

    Raises Unavailable where the database is down.
    """
    key_id = secrets.token_hex(6)
    text = f"kiln_{key_id}_{secrets.token_hex(32)}"
    statement = (
        insert(api_keys)
        .values(
            id=key_id,
            owner=owner,
            digest=_digest(text),
            scopes=sorted(scopes),
            expires_at=None if expires_in is None else func.clock_timestamp() + expires_in,
        )
        .returning(api_keys, _live().label("live"))
    )
    with transaction(engine) as connection:
        return text, _key(connection.execute(statement).one())


def list_keys(engine: Engine) -> list[ApiKey]:
    """Every key that was ever made, the newest first. Raises Unavailable where the database is down."""
    with reading(engine) as connection:
        found = connection.execute(select(api_keys, _live().label("live")).order_by(api_keys.c.created_at.desc()))
        return [_key(row) for row in found]


def any_key(engine: Engine) -> bool:
    """Whether a key was ever made. Raises Unavailable where the database is down."""
    with reading(engine) as connection:
        return bool(connection.execute(select(select(api_keys.c.id).exists())).scalar_one())


def find_key(engine: Engine, key_id: str) -> ApiKey | None:
    """The key of this public id, live or not. Raises Unavailable where the database is down."""
    with reading(engine) as connection:
        row = connection.execute(select(api_keys, _live().label("live")).where(api_keys.c.id == key_id)).one_or_none()
    return _key(row) if row else None


def note_use(engine: Engine, key_id: str) -> None:
    """Set when the key was last used, where that was noted longer than a minute ago."""
    clock = func.clock_timestamp()
    long_ago = func.coalesce(api_keys.c.last_used_at < clock - USE_NOTED_EVERY, True)
    with transaction(engine) as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key_id, long_ago).values(last_used_at=clock))


def revoke_key(engine: Engine, key_id: str) -> ApiKey | None:
    """End the key for good; one that is revoked stays as it is. None where there is no such key.

    The row stays: a deployment whose last key was revoked must not become one that asks for none.
    """
    statement = (
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.clock_timestamp()))
        .returning(api_keys, _live().label("live"))
    )
    with transaction(engine) as connection:
        row = connection.execute(statement).one_or_none()
    return _key(row) if row else None


def public_id(text: str) -> str | None:
    """The id inside a key's text; None where the text has not the form of a key."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def _live() -> ColumnElement[bool]:
    unexpired = func.coalesce(api_keys.c.expires_at > func.clock_timestamp(), True)
    return api_keys.c.revoked_at.is_(None) & unexpired


def _key(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    scopes = frozenset(Scope(scope) for scope in values.pop("scopes"))
    return ApiKey(scopes=scopes, **values)


def _digest(text: str) -> bytes:
    """A plain SHA-256 will do: nobody guesses 32 random bytes, however fast the hash."""
    return hashlib.sha256(text.encode()).digest()
