"""Events: a row for every change of a job's state, written by the database itself and never changed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# With the rights of who migrates: the roles of the API and of workers write events by changing jobs, and only so
RECORD = """
CREATE FUNCTION record_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO public.events (job_id, attempt, from_status, to_status, worker)
    VALUES (NEW.id, NEW.attempt, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END, NEW.status, NEW.worker);
    RETURN NULL;
END
$$;
CREATE TRIGGER record_insert AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION record_event();
CREATE TRIGGER record_update AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION record_event();
"""

# A job's events go with its row and not before: so its owner's DELETE and the retention leave nothing of it behind
KEEP = """
CREATE FUNCTION keep_events() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM public.jobs WHERE id = OLD.job_id) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'events are only added, and go with their job' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER keep_events BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION keep_events();
CREATE TRIGGER keep_all_events BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION keep_events();
"""


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "id"),
    )
    op.execute(RECORD)
    op.execute(KEEP)
    op.execute("GRANT SELECT ON events TO kiln_api")


def downgrade() -> None:
    op.execute("DROP TRIGGER record_update ON jobs")
    op.execute("DROP TRIGGER record_insert ON jobs")
    op.execute("DROP FUNCTION record_event")
    op.drop_table("events")
    op.execute("DROP FUNCTION keep_events")
