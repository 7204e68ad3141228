"""What a worker's engine is and has done goes into its entry."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # the default is for workers of the version before, which say nothing of it
    figures = sa.Column("figures", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False)
    op.add_column("workers", figures)


def downgrade() -> None:
    op.drop_column("workers", "figures")
