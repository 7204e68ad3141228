"""The secrets that sign webhooks: one for each owner, made when it is first needed. In clear, for signing needs it."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, case, func, select
from sqlalchemy.dialects.postgresql import insert

from common.db import transaction
from common.jobs.outbox import webhook_secrets

OVERLAP = timedelta(days=1)  # for so long the secret before signs too, and receivers can be changed at leisure

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """What verifies an owner's webhooks, and until when the secret before it signs them too."""

    secret: str
    made_at: datetime
    previous_until: datetime | None


def read_secret(engine: Engine, owner: str) -> WebhookSecret:
    """The owner's secret; the first call makes it."""
    with transaction(engine) as connection:
        _make_first(connection, owner)
        return _read(connection, owner)


def rotate_secret(engine: Engine, owner: str) -> WebhookSecret:
    """Make a new secret. The one before signs beside it for OVERLAP; the one before that signs no more."""
    with transaction(engine) as connection:
        statement = insert(webhook_secrets).values(owner=owner, secret=_new_secret())
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[webhook_secrets.c.owner],
                set_={
                    "secret": statement.excluded.secret,
                    "previous": webhook_secrets.c.secret,
                    "previous_until": func.clock_timestamp() + OVERLAP,
                    "made_at": func.clock_timestamp(),
                },
            )
        )
        return _read(connection, owner)


def signing_secrets(connection: Connection, owner: str) -> Sequence[str]:
    """Those that sign the owner's webhooks now: one, or for a day after a rotation two, the newer first."""
    _make_first(connection, owner)
    in_force = webhook_secrets.c.previous_until > func.clock_timestamp()
    previous = case((in_force, webhook_secrets.c.previous))
    statement = select(webhook_secrets.c.secret, previous).where(webhook_secrets.c.owner == owner)
    return [secret for secret in connection.execute(statement).one() if secret]


def _make_first(connection: Connection, owner: str) -> None:
    statement = insert(webhook_secrets).values(owner=owner, secret=_new_secret())
    connection.execute(statement.on_conflict_do_nothing(index_elements=[webhook_secrets.c.owner]))


def _read(connection: Connection, owner: str) -> WebhookSecret:
    columns = (webhook_secrets.c[name] for name in WebhookSecret.__dataclass_fields__)
    row = connection.execute(select(*columns).where(webhook_secrets.c.owner == owner)).one()
    return WebhookSecret(**row._asdict())


def _new_secret() -> str:
    """In the form of Standard Webhooks: whsec_ and 24 to 64 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
