"""Line: its indexes begin with the model, suspects stand apart, and a job gets its turn as it comes into it."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# A job that was never begun comes into the line as it is inserted, or by line_up(), which gives it its turn. One that
# was begun has a turn and goes back by itself. A version that knows no line_up() of this kind marks as it did.
MARK = """
CREATE OR REPLACE FUNCTION mark_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.due := NEW.status = 'queued' AND NEW.not_before <= clock_timestamp()
        AND (NEW.due OR NEW.attempt > 0 OR TG_OP = 'INSERT' OR OLD.due);
    NEW.suspect := NEW.failures > 0;
    RETURN NEW;
END
$$;
DROP TRIGGER mark_due ON jobs;
CREATE TRIGGER mark_due BEFORE INSERT OR UPDATE OF due, suspect, status, failures, not_before ON jobs
    FOR EACH ROW EXECUTE FUNCTION mark_due();
"""
MARK_BEFORE = """
CREATE OR REPLACE FUNCTION mark_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.due := NEW.status = 'queued' AND NEW.not_before <= clock_timestamp();
    RETURN NEW;
END
$$;
DROP TRIGGER mark_due ON jobs;
CREATE TRIGGER mark_due BEFORE INSERT OR UPDATE OF due, status, not_before ON jobs
    FOR EACH ROW EXECUTE FUNCTION mark_due();
"""
LANE: list[Any] = [sa.literal_column("lane DESC"), sa.literal_column("priority DESC")]
INDEXES: dict[str, tuple[list[Any], str]] = {
    "jobs_claim": (["suspect", "model", *LANE, "turn", "id"], "due"),
    "jobs_oldest": (["suspect", "model", "lane", "id"], "due"),
    "jobs_later": (["model", "not_before", *LANE, "id"], "status = 'queued' AND NOT due"),
    "jobs_turn": (["owner", "due", "suspect", "model", "lane", "priority", "turn"], "status = 'queued'"),
    "jobs_unpublished": (["model", "not_before"], "due"),
}
INDEXES_BEFORE: dict[str, tuple[list[Any], str]] = {
    "jobs_claim": ([*LANE, "turn", "id"], "due"),
    "jobs_oldest": (["id"], "due"),
    "jobs_later": (["not_before", *LANE, "turn", "id"], "status = 'queued' AND NOT due"),
    "jobs_turn": (["lane", "owner", "turn"], "status = 'queued'"),
    "jobs_virtual_time": (["lane", "turn"], "status = 'queued'"),
    "jobs_unpublished": (["not_before"], "due"),
}


def upgrade() -> None:
    """Claims of the version before find what they look for without an index of theirs, some slower."""
    op.add_column("jobs", sa.Column("suspect", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.execute(MARK)
    op.execute("UPDATE jobs SET suspect = true WHERE failures > 0 AND status IN ('queued', 'running')")
    _replace(INDEXES_BEFORE, INDEXES)
    op.execute("GRANT UPDATE (turn) ON jobs TO kiln_api, kiln_worker")


def downgrade() -> None:
    op.execute("REVOKE UPDATE (turn) ON jobs FROM kiln_api, kiln_worker")
    _replace(INDEXES, INDEXES_BEFORE)
    op.execute(MARK_BEFORE)
    op.drop_column("jobs", "suspect")


def _replace(old: dict[str, tuple[list[Any], str]], new: dict[str, tuple[list[Any], str]]) -> None:
    for name in old:
        op.drop_index(name, table_name="jobs")
    for name, (columns, where) in new.items():
        op.create_index(name, "jobs", columns, unique=False, postgresql_where=sa.text(where))
