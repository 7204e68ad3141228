"""Who may do what in the database: each role does all of its work, and nothing that is none of its business."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Engine

from common.db import make_engine
from common.errors import NumericalError, StorageError
from common.jobs import lease
from common.jobs.batch import NewBatch, retry_failed, submit_batch
from common.jobs.call import leave_call, open_call
from common.jobs.deliveries import (
    DeliveryStatus,
    claim_delivery,
    list_deliveries,
    redeliver,
    settle_delivery,
    tell_completed,
)
from common.jobs.files import delete_file, forget_files, keep_file, read_file
from common.jobs.keys import Scope, any_key, create_key, find_key, note_use
from common.jobs.log import Tail, Watch, count_unfinished, read_events, read_on
from common.jobs.outlook import depth, outlooks
from common.jobs.owner import cancel_job, delete_job
from common.jobs.read import get_job, list_jobs
from common.jobs.secrets import read_secret, rotate_secret
from common.jobs.state import BatchStatus, Stage, Status
from common.jobs.steer import cancel_batch, pause_batch, resume_batch, steer_on
from common.jobs.submit import Receipt, submit_job, unheard
from common.jobs.sweep import only_sweeper, round_parts, take_unpublished
from common.jobs.tables import metadata
from common.jobs.tally import get_batch
from common.jobs.workers import list_workers, record_worker, remove_worker
from tests.jobs.make import PICTURE, cancel_requested, claimed, let_leases_run_out, let_pauses_pass, submission, submit

PASSWORDS = {"KILN_API_PASSWORD": "of the api", "KILN_WORKER_PASSWORD": "of workers"}
USERS = {"kiln_api": "of%20the%20api", "kiln_worker": "of%20workers"}

Login = Callable[[str], Engine]


@pytest.fixture
def login(database_url: str) -> Iterator[Login]:
    """An engine of one of the roles, after a migration that gave them passwords."""
    migrate(database_url, **PASSWORDS)
    with ExitStack() as stack:

        def as_role(role: str) -> Engine:
            engine = make_engine(url_of(database_url, role, USERS[role]), name="kiln-test", pool_size=2)
            stack.callback(engine.dispose)
            return engine

        yield as_role


def migrate(database_url: str, **variables: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    ended = subprocess.run(
        [sys.executable, "-m", "migrations"],
        env=environment | {"KILN_DATABASE_URL": database_url} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def url_of(database_url: str, role: str, password: str) -> str:
    parts = urlsplit(database_url)
    return f"postgresql://{role}:{password}@{parts.hostname}:{parts.port}{parts.path}"


def test_the_api_and_the_sweeper_can_do_their_work(login: Login, engine: Engine) -> None:
    api = login("kiln_api")
    key, made = create_key(engine, "ann", [Scope.SUBMIT])
    assert any_key(api)
    note_use(api, made.id)
    found = find_key(api, made.id)
    assert found is not None
    assert found.matches(key)

    tail, _ = read_on(api, Tail())  # who writes is seen by this role too
    assert tail == Tail(0)
    canceled, doomed, waiting = (submit(api) for _ in range(3))
    assert submit(api, idempotency_key="k") == submit(api, idempotency_key="k")
    cancel_job(api, "ann", canceled)
    assert delete_job(api, "ann", canceled) == []
    unheard(api, waiting)
    assert len(read_events(api, Watch("ann"), 0, None)) == 3  # the canceled one's went with it
    assert count_unfinished(api, Watch("ann", job_id=waiting)) == 1
    job = get_job(api, "ann", waiting)
    assert job is not None
    outlooks(api, [job], alive_seconds=60)
    assert sum(lane.queued for lane in depth(api).values()) == 3

    record_worker(engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={})
    assert [worker.id for worker in list_workers(api, alive_seconds=60)] == ["w1"]
    assert claimed(engine).job_id == doomed
    cancel_job(api, "ann", doomed)
    let_leases_run_out(engine)
    with only_sweeper(api) as alone:
        assert alone()
    assert round_parts(api, lease_seconds=0, max_failures=4)["returned"]() == 1
    assert take_unpublished(api, "demo", 10) == 1
    assert {job.status for job in list_jobs(api, "ann", limit=10)[0]} == {"canceled", "queued"}

    record_worker(engine, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={}, recipes={"demo": {}})
    submit(engine, seed=2, priority=9)
    assert lease.succeed(engine, claimed(engine), [PICTURE], recipe={}, timings={}) == Status.SUCCEEDED
    assert submit_job(api, submission(seed=2), max_queued=100).reused

    call = open_call(api, submission(), "d", again=False, hold_seconds=60, max_queued=100, max_queued_per_owner=100)
    leave_call(api, call, answered=False)
    again = open_call(api, submission(), "d", again=True, hold_seconds=60, max_queued=100, max_queued_per_owner=100)
    assert again.receipt == Receipt(call.receipt.job_id, replayed=True)
    leave_call(api, again, answered=True)
    file = keep_file(api, "ann", "lines", b"{}", most=2)
    assert read_file(api, "ann", file.id) == (file, b"{}")
    assert forget_files(api, days=1) == 0
    assert delete_file(api, "ann", file.id)

    batch = NewBatch("ann", "night", "f")
    made_batch = submit_batch(api, batch, [submission()], max_queued=100, max_queued_per_owner=100).batch_id
    pause_batch(api, "ann", made_batch)
    assert resume_batch(api, "ann", made_batch) == ["demo"]
    assert retry_failed(api, "ann", made_batch, max_queued=100, max_queued_per_owner=100) == []
    assert steer_on(api) == 0
    cancel_batch(api, "ann", made_batch)
    shown = get_batch(api, "ann", made_batch, alive_seconds=60)
    assert shown is not None
    assert shown.status is BatchStatus.CANCELED

    hook = {"url": "https://example.com/", "host": "example.com", "events": ["canceled", "completed"]}
    cancel_job(api, "ann", submit(api, webhook=hook, not_before=datetime(2099, 1, 1, tzinfo=UTC)))
    attempt = claim_delivery(api, lease_seconds=20)
    assert attempt is not None
    assert attempt.secrets == [read_secret(api, "ann").secret]
    assert rotate_secret(api, "ann").previous_until is not None
    assert settle_delivery(api, attempt, status_code=410, error=None) is DeliveryStatus.DISABLED
    assert redeliver(api, "ann", attempt.delivery.id) is not None
    batch = NewBatch("ann", "night", "f", webhook=hook)
    told = submit_batch(api, batch, [submission(seed=3)], max_queued=100, max_queued_per_owner=100).batch_id
    cancel_batch(api, "ann", told)
    assert tell_completed(api) == 1
    assert len(list_deliveries(api, "ann", limit=9)[0]) == 3


def test_a_worker_can_do_its_work(login: Login, engine: Engine) -> None:
    worker = login("kiln_worker")
    record_worker(worker, "w1", state="ready", models=["demo"], device="cpu", seats=2, figures={})
    record_worker(worker, "w1", state="stopping", models=["demo"], device="cpu", seats=2, figures={})
    hook = {"url": "https://example.com/", "host": "example.com", "events": ["succeeded"]}
    for _ in range(4):
        submit(engine, webhook=hook)

    done = claimed(worker)
    assert list_workers(worker, alive_seconds=60)[0].running == 1
    assert lease.extend_leases(worker, [done.token], 60) == {done.token: False}
    assert not lease.save(worker, done, stage=Stage.DIFFUSE, done=1, texts={"styled_prompt": "x"})
    assert not cancel_requested(worker, done)
    assert lease.succeed(worker, done, [PICTURE], recipe={}, timings={}) == Status.SUCCEEDED
    assert lease.succeed(worker, done, [PICTURE], recipe={}, timings={}) == Status.SUCCEEDED
    lease.fail(worker, claimed(worker), NumericalError("NaN"))
    lease.retry(worker, claimed(worker), StorageError("away"), max_failures=4)
    let_pauses_pass(engine)
    lease.park(worker, claimed(worker))
    lease.cancel(worker, claimed(worker))
    remove_worker(worker, "w1")

    assert {job.status for job in list_jobs(engine, "ann", limit=10)[0]} == {
        "succeeded",
        "failed",
        "queued",
        "canceled",
    }
    assert [one.type for one in list_deliveries(engine, "ann", limit=9)[0]] == ["job.succeeded"]


NOBODYS = [
    "UPDATE jobs SET owner = 'bob'",
    "UPDATE jobs SET spec = '{}'",
    "UPDATE jobs SET id = gen_random_uuid()",
    "TRUNCATE jobs CASCADE",
    "ALTER TABLE jobs DISABLE TRIGGER guard_job",
    "CREATE OR REPLACE FUNCTION guard_job() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "SET session_replication_role = replica",
    "DROP TABLE images",
    "UPDATE images SET sha256 = ''",
    "DELETE FROM images",
    "UPDATE jobs SET webhook = NULL",
    "UPDATE batches SET owner = 'bob'",
    "UPDATE batches SET webhook = NULL",
    "UPDATE deliveries SET url = 'https://example.com'",
    "UPDATE webhook_secrets SET owner = 'bob'",
    "DELETE FROM webhook_secrets",
    "UPDATE files SET owner = 'bob'",
    "UPDATE calls SET job_id = gen_random_uuid()",
    "INSERT INTO api_keys (id, owner, digest, scopes) VALUES ('x', 'x', '', '{admin}')",
    "UPDATE api_keys SET scopes = '{admin}'",
    "DELETE FROM api_keys",
    "UPDATE alembic_version SET version_num = '0001'",
    "CREATE TABLE mine ()",
    "CREATE ROLE mine",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]
WORKERS_NOT = [
    "INSERT INTO jobs SELECT * FROM jobs",
    "DELETE FROM jobs",
    "UPDATE jobs SET cancel_requested_at = now()",
    "UPDATE jobs SET priority = 100",
    "SELECT FROM api_keys",
    "SELECT FROM webhook_secrets",
    "SELECT FROM deliveries",
    "DELETE FROM deliveries",
    "DELETE FROM batches",
    "INSERT INTO deliveries (id) VALUES (gen_random_uuid())",
    "SELECT FROM images",
    "SELECT FROM files",
    "SELECT FROM calls",
]
APIS_NOT = [
    "UPDATE jobs SET recipe = '{}'",
    "UPDATE jobs SET attempt = 0",
    "INSERT INTO workers SELECT * FROM workers",
    "UPDATE workers SET state = 'ready'",
]


@pytest.mark.parametrize(
    ("role", "forbidden"), [("kiln_api", NOBODYS + APIS_NOT), ("kiln_worker", NOBODYS + WORKERS_NOT)]
)
@pytest.mark.usefixtures("login")
def test_a_role_is_refused_what_is_none_of_its_business(database_url: str, role: str, forbidden: list[str]) -> None:
    with psycopg.connect(url_of(database_url, role, USERS[role]), autocommit=True) as connection:
        allowed = [statement for statement in forbidden if not _refused(connection, statement)]
    assert not allowed


def _refused(connection: psycopg.Connection, statement: str) -> bool:
    try:
        connection.execute(statement)  # type: ignore[arg-type]  # not a literal, but ours
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_every_table_is_somebodys_work(engine: Engine, database_url: str) -> None:
    """A table of a later migration that only the owner can use: as whom all the other tests run."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT table_name FROM information_schema.role_table_grants WHERE grantee LIKE 'kiln\\_%'"
        )
        granted = {name for (name,) in rows}
    assert granted == set(metadata.tables)


def test_an_owner_who_may_not_make_roles_can_migrate_where_they_are_made(database_url: str) -> None:
    """A database of a cloud, where nobody is a superuser."""
    admin = psycopg.connect(database_url, autocommit=True)
    with admin:
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        admin.execute("CREATE DATABASE plains OWNER plain")
    try:
        migrate(url_of(database_url, "plain", "plain").rpartition("/")[0] + "/plains")
    finally:
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute("DROP DATABASE plains WITH (FORCE)")
            admin.execute("DROP ROLE plain")
