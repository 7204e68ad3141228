"""What a worker takes: one job at a time that failed before, so many of a batch, and each of its models in turn."""

from sqlalchemy import Engine

from common.errors import StorageError
from common.jobs import lease
from common.jobs.state import Lane
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
    second = workshop.claim()
    assert second
    assert (second.owner, second.failures) == ("ann", 1)


def test_a_worker_that_is_busy_takes_a_suspect_in_its_turn(workshop: Workshop) -> None:
    """It waited for an empty worker, behind all who kept the workers busy."""
    submit(workshop.engine, "bob")
    assert workshop.claim()
    submit_suspects(workshop.engine, 1)
    submit(workshop.engine, "bob")
    assert [claim.owner for _ in range(2) if (claim := workshop.claim())] == ["ann", "bob"]


def test_a_batch_leaves_a_seat_to_interactive_jobs(workshop: Workshop) -> None:
    for _ in range(3):
        submit(workshop.engine, lane=Lane.BATCH)
    batch = workshop.claim()
    assert batch
    assert workshop.claim() is None
    submit(workshop.engine)
    assert workshop.claim()
    with workshop.hold(batch):
        pass
    assert workshop.claim(), "the seat is free again"


def test_models_take_turns_in_a_worker_that_serves_several(workshop: Workshop) -> None:
    workshop.models = dict.fromkeys(("one", "two"), workshop.models["demo"])
    for model in ("one", "one", "one", "two", "two", "two"):
        submit(workshop.engine, model=model)
    models = [claim.spec.model for _ in range(4) if (claim := workshop.claim())]
    assert sorted(models[:2]) == sorted(models[2:]) == ["one", "two"]
