"""Batches: many jobs that were asked for together."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

GRANTS = "GRANT SELECT, INSERT, UPDATE (paused_at, canceled_at, closes_at) ON batches TO kiln_api"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("models", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("window", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("canceled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("lane IN ('interactive', 'batch')", name="batches_lane_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner", "idempotency_key", name="batches_idempotency"),
    )
    op.create_index("batches_owner", "batches", ["owner", "id"], unique=False)
    op.create_index(
        "batches_closing", "batches", ["closes_at"], unique=False, postgresql_where=sa.text("closes_at IS NOT NULL")
    )
    op.add_column("jobs", sa.Column("custom_id", sa.Text(), nullable=True))
    op.create_foreign_key("jobs_batch_id_fkey", "jobs", "batches", ["batch_id"], ["id"])
    op.create_index(
        "jobs_batch", "jobs", ["batch_id", "id"], unique=False, postgresql_where=sa.text("batch_id IS NOT NULL")
    )
    op.execute(GRANTS)


def downgrade() -> None:
    op.drop_constraint("jobs_batch_id_fkey", "jobs", type_="foreignkey")
    op.drop_index("jobs_batch", table_name="jobs")
    op.drop_column("jobs", "custom_id")
    op.drop_table("batches")
