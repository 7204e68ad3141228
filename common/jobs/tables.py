"""The tables as SQLAlchemy sees them. Migrations make them; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

_clock = text("clock_timestamp()")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    # what to do
    Column("spec", JSONB, nullable=False),
    Column("spec_digest", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("batch_id", Uuid, ForeignKey("batches.id", name="jobs_batch_id_fkey")),
    Column("custom_id", Text),
    Column("retried_from", Uuid),
    Column("reused_from", Uuid),  # whose attempt painted its pictures, where no attempt of its own did
    Column("idempotency_key", Text),
    Column("fingerprint", Text, nullable=False),
    # when to do it
    Column("status", Text, nullable=False, server_default="queued"),
    Column("lane", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("not_before", DateTime(timezone=True), nullable=False, server_default=_clock),
    # queued, and its time has come: kept by a trigger at every write, and by line_up() as time passes
    Column("due", Boolean, nullable=False, server_default=text("false")),
    Column("suspect", Boolean, nullable=False, server_default=text("false")),  # failed before: kept by the same trigger
    Column("deadline", DateTime(timezone=True)),
    Column("published_at", DateTime(timezone=True)),
    # who does it
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("excused", Integer, nullable=False, server_default="0"),  # returns that were counted, and not charged
    Column("lost_by", ARRAY(Text), nullable=False, server_default="{}"),  # whose silence was charged, each time
    Column("lost_at", DateTime(timezone=True)),  # when last
    Column("lease_token", Uuid),
    Column("lease_expires_at", DateTime(timezone=True)),
    Column("run_deadline_at", DateTime(timezone=True)),
    Column("cancel_requested_at", DateTime(timezone=True)),
    Column("worker", Text),
    # how far it is
    Column("stage", Text),
    Column("progress_done", Integer, nullable=False, server_default="0"),
    Column("progress_total", Integer, nullable=False),
    Column("styled_prompt", Text),
    Column("enhanced_prompt", Text),
    Column("recipe", JSONB(none_as_null=True)),
    Column("timings", JSONB(none_as_null=True)),
    Column("error", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_clock),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("webhook", JSONB(none_as_null=True)),  # who is told of its end; a batch's jobs have none of their own
    UniqueConstraint("owner", "idempotency_key", name="jobs_idempotency"),
    CheckConstraint(
        "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')", name="jobs_status_known"
    ),
    CheckConstraint("lane IN ('interactive', 'batch')", name="jobs_lane_known"),
    CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="jobs_running_has_token"),
    CheckConstraint("(lease_token IS NULL) = (lease_expires_at IS NULL)", name="jobs_token_has_expiry"),
    CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name="jobs_terminal_has_finished_at"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="jobs_failed_has_error"),
    CheckConstraint("NOT due OR status = 'queued'", name="jobs_due_is_queued"),
)

# Written out, not bound as parameters: only so can every plan use the partial indexes below
is_queued = jobs.c.status == literal_column("'queued'")
is_running = jobs.c.status == literal_column("'running'")

# Where an index is to be entered by time: clock_timestamp() may change from row to row, so it is compared with each
INSTANT = func.statement_timestamp()

# The claim enters these at a line, and takes the first: nobody is there before their time. DESC: 'interactive' first
LINE = (jobs.c.lane.desc(), jobs.c.priority.desc(), jobs.c.turn, jobs.c.id)
LATER = (jobs.c.not_before, jobs.c.lane.desc(), jobs.c.priority.desc(), jobs.c.id)  # as they come into the line
Index("jobs_claim", jobs.c.suspect, jobs.c.model, *LINE, postgresql_where=text("due"))
Index("jobs_oldest", jobs.c.suspect, jobs.c.model, jobs.c.lane, jobs.c.id, postgresql_where=text("due"))
Index("jobs_later", jobs.c.model, *LATER, postgresql_where=text("status = 'queued' AND NOT due"))
_PLACE = (jobs.c.owner, jobs.c.due, jobs.c.suspect, jobs.c.model, jobs.c.lane, jobs.c.priority)
Index("jobs_turn", *_PLACE, jobs.c.turn, postgresql_where=text("status = 'queued'"))
Index("jobs_unpublished", jobs.c.model, jobs.c.not_before, postgresql_where=text("due"))
Index("jobs_deadline", jobs.c.deadline, postgresql_where=text("status = 'queued' AND deadline IS NOT NULL"))
Index("jobs_lease", jobs.c.lease_expires_at, postgresql_where=text("status = 'running'"))
Index("jobs_lost", jobs.c.lost_at, postgresql_where=text("lost_at IS NOT NULL"))
Index("jobs_owner", jobs.c.owner, jobs.c.id)
Index("jobs_status", jobs.c.owner, jobs.c.status, jobs.c.id)
Index("jobs_finished", jobs.c.finished_at, postgresql_where=text("finished_at IS NOT NULL"))
Index("jobs_twin", jobs.c.owner, jobs.c.spec_digest, jobs.c.id, postgresql_where=text("status = 'succeeded'"))
Index("jobs_reused", jobs.c.reused_from, postgresql_where=text("reused_from IS NOT NULL"))
Index("jobs_batch", jobs.c.batch_id, jobs.c.id, postgresql_where=text("batch_id IS NOT NULL"))

# What is asked for together. How far a batch is, its jobs say
batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("models", ARRAY(Text), nullable=False),
    Column("lane", Text, nullable=False),
    Column("deadline", DateTime(timezone=True)),
    Column("window", JSONB(none_as_null=True)),
    Column("closes_at", DateTime(timezone=True)),  # the end of its window's present span, or of the next one
    Column("idempotency_key", Text),
    Column("fingerprint", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_clock),
    Column("paused_at", DateTime(timezone=True)),
    Column("canceled_at", DateTime(timezone=True)),
    Column("steering", Boolean, nullable=False, server_default=text("false")),  # some jobs know of none of this yet
    # of pictures that were asked for alike but for the seed, so many keep their objects, and when that was seen to
    Column("keep_best", Integer),
    Column("pruned_at", DateTime(timezone=True)),
    Column("webhook", JSONB(none_as_null=True)),
    Column("told_at", DateTime(timezone=True)),  # when its receiver's message that all jobs are over was written
    Column("deleted_at", DateTime(timezone=True)),  # its jobs, and then its row, are on their way out
    Column("input_file_id", Uuid),  # of OpenAI's clients; the file may be gone
    UniqueConstraint("owner", "idempotency_key", name="batches_idempotency"),
    CheckConstraint("lane IN ('interactive', 'batch')", name="batches_lane_known"),
)
Index("batches_best", batches.c.id, postgresql_where=text("keep_best IS NOT NULL AND pruned_at IS NULL"))
Index("batches_untold", batches.c.id, postgresql_where=text("webhook -> 'events' ? 'completed' AND told_at IS NULL"))
Index("batches_owner", batches.c.owner, batches.c.id)
Index("batches_deleted", batches.c.id, postgresql_where=text("deleted_at IS NOT NULL"))
Index("batches_steering", batches.c.id, postgresql_where=text("steering"))
Index("batches_closing", batches.c.closes_at, postgresql_where=text("closes_at IS NOT NULL"))

images = Table(
    "images",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("index", SmallInteger, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("seed", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("clip_score", Double, nullable=False),
    Column("kept", Boolean, nullable=False),  # what keep_best dropped keeps its row and score, and has no object
    Column("key", Text),
    Column("thumbnail_key", Text),
    Column("content_type", Text),
    Column("bytes", Integer),
    Column("sha256", Text),
    CheckConstraint(
        "kept = (key IS NOT NULL AND thumbnail_key IS NOT NULL AND content_type IS NOT NULL"
        " AND bytes IS NOT NULL AND sha256 IS NOT NULL)",
        name="images_kept_has_object",
    ),
)

Index("images_best", images.c.clip_score.desc(), images.c.id.desc(), postgresql_where=text("kept"))

# Written by triggers alone, in the statement that changes the job; its rows go with their job and change never
events = Table(
    "events",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_clock),
    Column("attempt", Integer, nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("worker", Text),
)
Index("events_tail", events.c.id)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    Column("models", ARRAY(Text), nullable=False),
    Column("device", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("evaluations_per_second", Double),
    # what its engine is and has done: written and read whole, and the next version may count something else
    Column("figures", JSONB, nullable=False, server_default="{}"),
    Column("recipes", JSONB, nullable=False, server_default="{}"),  # by model, what every recipe of it would say
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_clock),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=_clock),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_clock),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    CheckConstraint(
        "cardinality(scopes) > 0 AND scopes <@ ARRAY['submit', 'read', 'admin']", name="api_keys_scopes_known"
    ),
)

# What OpenAI's clients upload to make batches of
files = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_clock),
)
Index("files_owner", files.c.owner, files.c.id)

# Requests that have not been answered: for a job each, so that a client that asks again gets the job it has already
calls = Table(
    "calls",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", name="calls_job_id_fkey", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the request
    Column("held_until", DateTime(timezone=True), nullable=False),  # somebody waits for the answer, at most so long
)
Index("calls_digest", calls.c.owner, calls.c.digest)
