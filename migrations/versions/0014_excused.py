"""Excused: how often a job came back uncharged and why that is bounded; and whose silence it was charged for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

GRANTS = """
GRANT UPDATE (excused, lost_by, lost_at) ON jobs TO kiln_api;
GRANT UPDATE (excused) ON jobs TO kiln_worker;
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("excused", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("lost_by", ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("jobs_lost", "jobs", ["lost_at"], unique=False, postgresql_where=sa.text("lost_at IS NOT NULL"))
    op.execute(GRANTS)


def downgrade() -> None:
    op.drop_index("jobs_lost", table_name="jobs")
    op.drop_column("jobs", "lost_at")
    op.drop_column("jobs", "lost_by")
    op.drop_column("jobs", "excused")
