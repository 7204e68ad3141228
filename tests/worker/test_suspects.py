"""A job that failed before, in a worker: beside others, one at a time, and nobody waits for it."""

from sqlalchemy import Engine

from common.errors import StorageError
from common.jobs import lease
from tests.jobs.make import claimed, let_pauses_pass, submit
from worker.workshop import Workshop


def submit_suspects(engine: Engine, count: int) -> None:
    for _ in range(count):
        submit(engine, "ann")
    for taken in [claimed(engine) for _ in range(count)]:
        lease.retry(engine, taken, StorageError("away"), max_failures=9)
    let_pauses_pass(engine)


def test_a_worker_takes_one_suspect_at_a_time_and_meanwhile_whoever_else_waits(workshop: Workshop) -> None:
    """For as long as it had anything in hand it took nothing, and with a suspect in hand nothing else."""
    submit_suspects(workshop.engine, 2)
    for _ in range(2):
        submit(workshop.engine, "bob")
    in_hand = [claim for _ in range(4) if (claim := workshop.claim())]
    assert [(claim.owner, claim.failures) for claim in in_hand] == [("ann", 1), ("bob", 0), ("bob", 0)]
    assert workshop.claim() is None
    with workshop.hold(in_hand[0]) as held:
        assert held.alone, "in the U-Net's calls"
    with workshop.hold(second := workshop.claim()) as held:
        assert (second.owner, held.alone) == ("ann", True)


def test_a_worker_that_is_busy_takes_a_suspect_in_its_turn(workshop: Workshop) -> None:
    """It waited for an empty worker, behind all who kept the workers busy."""
    submit(workshop.engine, "bob")
    assert workshop.claim()
    submit_suspects(workshop.engine, 1)
    submit(workshop.engine, "bob")
    assert [workshop.claim().owner for _ in range(2)] == ["ann", "bob"]
