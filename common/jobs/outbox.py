"""The tables of webhooks, beside those of tables.py: what is to be delivered, and the secrets that sign it."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from common.jobs.tables import metadata

# The outbox of webhooks. A trigger writes it in the statement that ends a job; the sweeper when a batch is over
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("job_id", Uuid, ForeignKey("jobs.id", name="deliveries_job_id_fkey", ondelete="CASCADE")),
    # no foreign key: checking it would wait for whoever steers the batch, and may hold the job that they wait for
    Column("batch_id", Uuid),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", DateTime(timezone=True)),  # while one is made: when another sweeper may make it again
    Column("gives_up_at", DateTime(timezone=True), nullable=False),
    Column("last_attempt_at", DateTime(timezone=True)),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    UniqueConstraint("job_id", name="deliveries_once"),
    CheckConstraint("status IN ('pending', 'delivered', 'failed', 'disabled')", name="deliveries_status_known"),
    CheckConstraint("(status = 'pending') = (next_attempt_at IS NOT NULL)", name="deliveries_pending_has_next_attempt"),
)
Index("deliveries_owner", deliveries.c.owner, deliveries.c.id)
Index("deliveries_batch", deliveries.c.batch_id, postgresql_where=text("batch_id IS NOT NULL"))
Index("deliveries_due", deliveries.c.next_attempt_at, postgresql_where=text("status = 'pending'"))
Index("deliveries_disabled", deliveries.c.url, postgresql_using="hash", postgresql_where=text("status = 'disabled'"))

# Not hashes: who signs needs the secret itself
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("previous", Text),
    Column("previous_until", DateTime(timezone=True)),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
)
