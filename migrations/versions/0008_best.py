"""The best of a batch: how many pictures of the same wish keep their objects, and when the others lost theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

GRANTS = """
GRANT UPDATE (pruned_at) ON batches TO kiln_api;
GRANT UPDATE (kept, key, thumbnail_key) ON images TO kiln_api;
"""


def upgrade() -> None:
    op.add_column("batches", sa.Column("keep_best", sa.Integer(), nullable=True))
    op.add_column("batches", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "batches_best",
        "batches",
        ["id"],
        unique=False,
        postgresql_where=sa.text("keep_best IS NOT NULL AND pruned_at IS NULL"),
    )
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute("REVOKE UPDATE (kept, key, thumbnail_key) ON images FROM kiln_api")
    op.drop_index("batches_best", table_name="batches")
    op.drop_column("batches", "pruned_at")
    op.drop_column("batches", "keep_best")
