"""Roles: kiln_api for the API and the sweeper, kiln_worker for workers. Who migrates owns the tables, and is neither.

They cannot log in until somebody gives them a password: see migrations/roles.py.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLES = ("kiln_api", "kiln_worker")

# Roles belong to the server, not to the database: another Kiln on it may have made them, or make them this moment
MAKE = """
DO $$
BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        IF to_regrole('{role}') IS NULL THEN
            RAISE EXCEPTION 'this user may not make roles: have an administrator run CREATE ROLE {role}, then migrate';
        END IF;
END
$$
"""

# What a request says, and when and by whom it was made, stays as it was inserted: whoever works on it
LEASE = "lease_token, lease_expires_at, run_deadline_at"
OUTCOME = "status, failures, stage, error, not_before, published_at, finished_at"
WORK = "attempt, worker, started_at, progress_done, styled_prompt, enhanced_prompt, recipe, timings"

GRANTS = f"""
GRANT SELECT, INSERT, DELETE, UPDATE ({LEASE}, {OUTCOME}, cancel_requested_at) ON jobs TO kiln_api;
GRANT SELECT ON images TO kiln_api;
GRANT SELECT, DELETE ON workers TO kiln_api;
GRANT SELECT, UPDATE (last_used_at) ON api_keys TO kiln_api;

GRANT SELECT, UPDATE ({LEASE}, {OUTCOME}, {WORK}) ON jobs TO kiln_worker;
GRANT INSERT ON images TO kiln_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO kiln_worker;
"""


def upgrade() -> None:
    for role in ROLES:
        op.execute(MAKE.format(role=role))
    op.execute(GRANTS)


def downgrade() -> None:
    """The roles stay, without rights here: other databases of the server may use them."""
    op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {', '.join(ROLES)}")
