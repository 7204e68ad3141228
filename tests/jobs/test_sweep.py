"""The sweeper: one at a time, however many there are, and no job is rung for twice in a row."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import Engine, text

from common.db import make_engine, reading, transaction
from common.errors import Unavailable
from common.jobs.read import list_jobs
from common.jobs.submit import unheard
from common.jobs.sweep import line_up_due, only_sweeper, return_expired, round_parts, take_unpublished
from common.jobs.workers import list_workers, record_worker, remove_worker
from common.local.services import Services
from common.queue import Doorbell
from common.settings import Settings
from tests.jobs.make import claimed, let_deadlines_pass, let_leases_run_out, submit
from tests.processes import changed, wait_for
from worker.sweeper import Absence, sweep


def test_two_sweepers_do_not_sweep_at_once(engine: Engine) -> None:
    with only_sweeper(engine) as first, only_sweeper(engine) as second:
        assert (first(), second()) == (True, False)
    with only_sweeper(engine) as again:
        assert again()


def test_a_sweeper_that_dies_leaves_no_lock(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        die_sweeping(engine)
    with only_sweeper(engine) as again:
        assert again()


def die_sweeping(engine: Engine) -> None:
    with only_sweeper(engine) as alone:
        assert alone()
        raise ZeroDivisionError


def test_a_sweeper_idles_in_no_transaction_and_knows_when_it_is_alone_no_more(
    engine: Engine, database_url: str
) -> None:
    """A session that idles in a transaction for ten seconds is ended, and its lock goes to another sweeper."""
    first = make_engine(database_url, name="kiln-first")
    with pytest.raises(Unavailable):
        lose_session(first, engine)
    first.dispose()


def lose_session(first: Engine, engine: Engine) -> None:
    ask = "SELECT {} FROM pg_stat_activity WHERE application_name = 'kiln-first' AND datname = current_database()"
    with only_sweeper(first) as held:
        assert held()
        with reading(engine) as connection:
            assert connection.execute(text(ask.format("state"))).scalars().all() == ["idle"]
            connection.execute(text(ask.format("pg_terminate_backend(pid)")))
        wait_for("lock of another sweeper", lambda: is_alone(engine))
        held()


def is_alone(engine: Engine) -> bool:
    with only_sweeper(engine) as held:
        return held()


def test_a_part_of_a_round_that_fails_costs_the_others_nothing(
    engine: Engine, database_url: str, services: Services
) -> None:
    submit(engine, deadline=datetime.now(UTC) + timedelta(hours=1))
    let_deadlines_pass(engine)
    unheard(engine, waiting := submit(engine))
    record_worker(engine, "silent", state="ready", models=["demo"], device="cpu", seats=2, figures={})
    with transaction(engine) as connection:
        connection.execute(text("UPDATE workers SET seen_at = clock_timestamp() - interval '25 h'"))
        connection.execute(text("ALTER TABLE batches RENAME told_at TO broken"))  # nobody can be told of batches
        connection.execute(text("ALTER TABLE batches RENAME steering TO broken_too"))
    given = {name[5:].lower(): value for name, value in services.environment().items()}
    settings = Settings.model_validate(given | {"database_url": database_url})
    with structlog.testing.capture_logs() as logs:
        sweep(settings, engine, Doorbell(services.broker_url))
    assert [line["part"] for line in logs if line["event"] == "not swept"] == ["told", "steered"]
    assert list_workers(engine, alive_seconds=1e6) == []
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs WHERE status = 'expired'")).scalar_one() == 1
        rung = connection.execute(text("SELECT published_at FROM jobs WHERE id = :id"), {"id": waiting}).scalar_one()
    assert rung is not None


def test_jobs_whose_message_was_sent_are_not_rung_for_and_unheard_ones_are_once(engine: Engine) -> None:
    ids = [submit(engine) for _ in range(5)]
    assert take_unpublished(engine, "demo", 10) == 0
    for job_id in ids[:3]:
        unheard(engine, job_id)
    assert take_unpublished(engine, "sd-v1-4", 10) == 0
    assert take_unpublished(engine, "demo", 2) == 2
    assert take_unpublished(engine, "demo", 10) == 1
    assert take_unpublished(engine, "demo", 10) == 0


def test_a_message_that_may_be_lost_is_sent_again_after_half_a_minute(engine: Engine) -> None:
    submit(engine)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET published_at = clock_timestamp() - interval '31 s'"))
    assert take_unpublished(engine, "demo", 10) == 1


def test_a_job_is_rung_for_when_its_time_has_come_and_not_before(engine: Engine) -> None:
    submit(engine, not_before=datetime.now(UTC) + timedelta(hours=1))
    assert take_unpublished(engine, "demo", 10) == 0
    with transaction(engine) as connection:
        connection.execute(text("UPDATE jobs SET not_before = clock_timestamp()"))
    line_up_due(engine)
    assert take_unpublished(engine, "demo", 10) == 1


def test_rival_sweepers_ring_for_each_job_once(engine: Engine) -> None:
    for job_id in [submit(engine) for _ in range(40)]:
        unheard(engine, job_id)
    with ThreadPoolExecutor(4) as threads:
        taken = threads.map(lambda _: take_unpublished(engine, "demo", 15), range(8))
    assert sum(taken) == 40


def test_workers_come_and_go_and_are_forgotten_a_day_after_their_last_sign_of_life(engine: Engine) -> None:
    for name in ("kept", "stopped", "silent"):
        record_worker(engine, name, state="ready", models=["demo"], device="cpu", seats=2, figures={})
    remove_worker(engine, "stopped")
    with transaction(engine) as connection:
        connection.execute(text("UPDATE workers SET seen_at = clock_timestamp() - interval '25 h' WHERE id = 'silent'"))
    assert [worker.id for worker in list_workers(engine, alive_seconds=60)] == ["kept"]
    assert round_parts(engine, lease_seconds=60, max_failures=4)["forgotten"]() == 1


def test_a_worker_that_stands_still_in_a_transaction_gives_its_job_up_all_the_same(engine: Engine) -> None:
    """SIGSTOP between an UPDATE and its COMMIT: the sweep skips locked rows, and would skip this one for good."""
    submit(engine)
    claimed(engine)
    let_leases_run_out(engine)
    with engine.connect() as stopped:
        stopped.execute(text("SELECT FROM jobs FOR UPDATE"))
        assert return_expired(engine, lease_seconds=0, max_failures=4) == 0
        wait_for("return", lambda: return_expired(engine, lease_seconds=0, max_failures=4) == 1, seconds=20)
        stopped.invalidate()  # its server has ended it


def test_a_sweeper_that_was_away_itself_takes_no_lease_for_dead_until_it_may_have_been_extended() -> None:
    """Cut off with the workers, or suspended with the whole machine, it met all their leases run out, and took them."""
    absence = Absence(lease_seconds=60)
    assert absence.is_over()
    absence.round_at -= 61
    assert not absence.is_over()
    absence.note_round()
    assert not absence.is_over()
    absence.judge_from -= 60
    assert absence.is_over()


def test_a_round_that_judges_no_leases_does_the_rest(engine: Engine, module_settings: Settings) -> None:
    submit(engine)
    claimed(engine)
    submit(engine, deadline=datetime.now(UTC) + timedelta(hours=1))
    let_leases_run_out(engine)
    let_deadlines_pass(engine)
    settings = changed(module_settings, lease_seconds=0)
    doorbell = Doorbell(settings.broker_url.get_secret_value())
    for judging, status in ((False, "running"), (True, "queued")):
        sweep(settings, engine, doorbell, judging=judging)
        assert [one.status for one in list_jobs(engine, "ann", limit=5)[0]] == ["expired", status]
