"""Webhooks: who wants to be told what, an outbox that the database fills, and the secrets that sign."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# With the rights of who migrates, as record_event: whatever ends a job writes its delivery, and knows nothing of it.
# A receiver that has said that it is gone (410) gets nothing more of what was asked for before.
RECORD = """
CREATE FUNCTION record_delivery() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    hook jsonb := NEW.webhook;
    asked timestamptz := NEW.created_at;
    moment timestamptz := clock_timestamp();
    gone boolean;
    version_7 uuid;
BEGIN
    IF hook IS NULL THEN
        SELECT webhook, created_at INTO hook, asked FROM public.batches WHERE id = NEW.batch_id;
    END IF;
    IF hook IS NULL OR NOT hook->'events' ? NEW.status THEN
        RETURN NULL;
    END IF;
    gone := EXISTS (
        SELECT FROM public.deliveries
        WHERE owner = NEW.owner AND url = hook->>'url' AND status = 'disabled' AND last_attempt_at > asked
    );
    version_7 := encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM moment) * 1000)::bigint) FROM 3) FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::uuid;
    INSERT INTO public.deliveries
        (id, owner, type, job_id, batch_id, url, host, data, status, next_attempt_at, gives_up_at, created_at)
    VALUES (
        version_7, NEW.owner, 'job.' || NEW.status, NEW.id, NEW.batch_id, hook->>'url', hook->>'host',
        jsonb_build_object(
            'status', NEW.status, 'custom_id', NEW.custom_id, 'metadata', NEW.metadata, 'error', NEW.error->'code'
        ),
        CASE WHEN gone THEN 'disabled' ELSE 'pending' END,
        CASE WHEN gone THEN NULL ELSE moment END,
        moment + interval '1 day', moment
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER deliver_insert AFTER INSERT ON jobs FOR EACH ROW
    WHEN (NEW.finished_at IS NOT NULL AND (NEW.webhook IS NOT NULL OR NEW.batch_id IS NOT NULL))
    EXECUTE FUNCTION record_delivery();
CREATE TRIGGER deliver_update AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL
        AND (NEW.webhook IS NOT NULL OR NEW.batch_id IS NOT NULL))
    EXECUTE FUNCTION record_delivery();
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE (
    status, attempts, next_attempt_at, gives_up_at, last_attempt_at, last_status_code, last_error
) ON deliveries TO kiln_api;
GRANT SELECT, INSERT, UPDATE (secret, previous, previous_until, made_at) ON webhook_secrets TO kiln_api;
GRANT UPDATE (told_at) ON batches TO kiln_api;
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("webhook", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("batches", sa.Column("webhook", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("batches", sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "batches_untold",
        "batches",
        ["id"],
        unique=False,
        postgresql_where=sa.text("webhook -> 'events' ? 'completed' AND told_at IS NULL"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gives_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status_code", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed', 'disabled')", name="deliveries_status_known"),
        sa.CheckConstraint(
            "(status = 'pending') = (next_attempt_at IS NOT NULL)", name="deliveries_pending_has_next_attempt"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="deliveries_job_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", name="deliveries_once"),
    )
    op.create_index("deliveries_owner", "deliveries", ["owner", "id"], unique=False)
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "deliveries_disabled",
        "deliveries",
        ["url"],
        unique=False,
        postgresql_using="hash",
        postgresql_where=sa.text("status = 'disabled'"),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("owner"),
    )
    op.execute(RECORD)
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute("DROP TRIGGER deliver_update ON jobs")
    op.execute("DROP TRIGGER deliver_insert ON jobs")
    op.execute("DROP FUNCTION record_delivery")
    op.drop_table("webhook_secrets")
    op.drop_table("deliveries")
    op.drop_index("batches_untold", table_name="batches")
    op.drop_column("batches", "told_at")
    op.drop_column("batches", "webhook")
    op.drop_column("jobs", "webhook")
