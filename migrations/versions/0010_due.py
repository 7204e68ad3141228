"""Due: which queued jobs the claim walks, so that it steps over none whose time has not come."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Whoever writes a job, and however, the mark is right at that moment; afterwards a job can only have become due
MARK = """
CREATE FUNCTION mark_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.due := NEW.status = 'queued' AND NEW.not_before <= clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER mark_due BEFORE INSERT OR UPDATE OF due, status, not_before ON jobs
    FOR EACH ROW EXECUTE FUNCTION mark_due();
"""
LINE: list[Any] = [sa.literal_column("lane DESC"), sa.literal_column("priority DESC"), "turn", "id"]


def upgrade() -> None:
    """What waits already is not marked here: a claim or the sweeper does it, as with a job whose time has come."""
    op.add_column("jobs", sa.Column("due", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_check_constraint("jobs_due_is_queued", "jobs", "NOT due OR status = 'queued'")
    op.drop_index("jobs_claim", table_name="jobs")
    op.create_index("jobs_claim", "jobs", LINE, unique=False, postgresql_where=sa.text("due"))
    op.create_index("jobs_oldest", "jobs", ["id"], unique=False, postgresql_where=sa.text("due"))
    op.create_index(
        "jobs_later",
        "jobs",
        ["not_before", *LINE],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND NOT due"),
    )
    op.drop_index("jobs_unpublished", table_name="jobs")
    op.create_index("jobs_unpublished", "jobs", ["not_before"], unique=False, postgresql_where=sa.text("due"))
    op.execute(MARK)
    op.execute("GRANT UPDATE (due) ON jobs TO kiln_api, kiln_worker")
    op.execute("GRANT SELECT ON SEQUENCE events_id_seq TO kiln_api")  # see common/jobs/room.py


def downgrade() -> None:
    op.execute("REVOKE SELECT ON SEQUENCE events_id_seq FROM kiln_api")
    op.execute("DROP TRIGGER mark_due ON jobs")
    op.execute("DROP FUNCTION mark_due")
    op.drop_index("jobs_unpublished", table_name="jobs")
    op.create_index(
        "jobs_unpublished", "jobs", ["not_before"], unique=False, postgresql_where=sa.text("status = 'queued'")
    )
    op.drop_index("jobs_later", table_name="jobs")
    op.drop_index("jobs_oldest", table_name="jobs")
    op.drop_index("jobs_claim", table_name="jobs")
    op.create_index("jobs_claim", "jobs", LINE, unique=False, postgresql_where=sa.text("status = 'queued'"))
    op.drop_column("jobs", "due")
