"""Lists that stay quick: jobs by status, pictures by score, and what ended long ago for retention."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("jobs_status", "jobs", ["owner", "status", "id"], unique=False)
    op.create_index(
        "jobs_finished", "jobs", ["finished_at"], unique=False, postgresql_where=sa.text("finished_at IS NOT NULL")
    )
    op.create_index(
        "images_best",
        "images",
        [sa.literal_column("clip_score DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("kept"),
    )


def downgrade() -> None:
    op.drop_index("images_best", table_name="images")
    op.drop_index("jobs_finished", table_name="jobs")
    op.drop_index("jobs_status", table_name="jobs")
