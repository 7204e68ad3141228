"""Tail: the event log is read on by its ids, for streams of events; until now only a job's own were looked up."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("events_tail", "events", ["id"], unique=False)


def downgrade() -> None:
    op.drop_index("events_tail", table_name="events")
