"""Deleted: batches that are on their way out, which nobody sees any more while their jobs go some at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

GRANTS = """
GRANT DELETE, UPDATE (deleted_at, idempotency_key) ON batches TO kiln_api;
GRANT DELETE ON deliveries TO kiln_api;
"""


def upgrade() -> None:
    op.add_column("batches", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "batches_deleted", "batches", ["id"], unique=False, postgresql_where=sa.text("deleted_at IS NOT NULL")
    )
    op.create_index(
        "deliveries_batch", "deliveries", ["batch_id"], unique=False, postgresql_where=sa.text("batch_id IS NOT NULL")
    )
    op.execute(GRANTS)


def downgrade() -> None:
    """Batches on their way out are seen again, with the jobs that they have left."""
    op.execute("REVOKE DELETE ON deliveries FROM kiln_api")
    op.execute("REVOKE DELETE, UPDATE (idempotency_key) ON batches FROM kiln_api")
    op.drop_index("deliveries_batch", table_name="deliveries")
    op.drop_index("batches_deleted", table_name="batches")
    op.drop_column("batches", "deleted_at")
