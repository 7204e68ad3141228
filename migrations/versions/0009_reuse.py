"""Reuse: which job painted the pictures of one that was over at once, and what live workers would paint with."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("reused_from", sa.Uuid(), nullable=True))
    op.add_column(
        "workers",
        sa.Column("recipes", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.create_index(
        "jobs_twin",
        "jobs",
        ["owner", "spec_digest", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded'"),
    )
    op.create_index(
        "jobs_reused", "jobs", ["reused_from"], unique=False, postgresql_where=sa.text("reused_from IS NOT NULL")
    )
    op.execute("GRANT INSERT ON images TO kiln_api")


def downgrade() -> None:
    op.execute("REVOKE INSERT ON images FROM kiln_api")
    op.drop_index("jobs_reused", table_name="jobs")
    op.drop_index("jobs_twin", table_name="jobs")
    op.drop_column("workers", "recipes")
    op.drop_column("jobs", "reused_from")
