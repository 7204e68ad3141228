"""For OpenAI's clients: the files that batches are made of, and the calls that wait for their job."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

GRANTS = """
GRANT SELECT, INSERT, DELETE ON files TO kiln_api;
GRANT SELECT, INSERT, UPDATE (held_until), DELETE ON calls TO kiln_api;
"""


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("files_owner", "files", ["owner", "id"], unique=False)
    op.create_table(
        "calls",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="calls_job_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("calls_digest", "calls", ["owner", "digest"], unique=False)
    op.add_column("batches", sa.Column("input_file_id", sa.Uuid(), nullable=True))
    op.execute(GRANTS)


def downgrade() -> None:
    op.drop_column("batches", "input_file_id")
    op.drop_table("calls")
    op.drop_table("files")
