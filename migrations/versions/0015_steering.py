"""Steering: batches some of whose jobs have yet to be told what was asked of them; and claims heed the batch's row."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

GRANTS = """
GRANT UPDATE (steering) ON batches TO kiln_api;
GRANT SELECT (id, paused_at, canceled_at) ON batches TO kiln_worker;
"""


def upgrade() -> None:
    op.add_column("batches", sa.Column("steering", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("batches_steering", "batches", ["id"], unique=False, postgresql_where=sa.text("steering"))
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute("REVOKE SELECT (id, paused_at, canceled_at) ON batches FROM kiln_worker")
    op.drop_index("batches_steering", table_name="batches")
    op.drop_column("batches", "steering")
