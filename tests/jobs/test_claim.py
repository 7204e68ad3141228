"""Whom a claim steps over, and that nobody waits for those: suspects, other models, rows that somebody holds."""

from sqlalchemy import Engine, text

from common.errors import StorageError
from common.jobs import lease
from common.jobs.state import Lane
from tests.jobs.make import claim, claimed, let_pauses_pass, submit


def fail(engine: Engine, **options: object) -> None:
    lease.retry(engine, claimed(engine, **options), StorageError("away"), max_failures=9)
    let_pauses_pass(engine)


def owners(engine: Engine, **options: object) -> str:
    """The initials of all that can be claimed, in order."""
    found = ""
    while taken := claim(engine, **options):
        found += taken.owner[0]
    return found


def test_who_may_take_no_suspect_takes_the_others_past_any_number_of_them(engine: Engine) -> None:
    """A job that had failed once stood first, and a worker that had anything in hand took nothing for hours."""
    for _ in range(3):
        submit(engine, "ann", priority=5)
        fail(engine, suspects=False)
    for _ in range(3):
        submit(engine, "bob")
    assert owners(engine, suspects=False, oldest=True) == "bbb"
    submit(engine, "bob")
    assert owners(engine, suspects=False) == "b"
    assert owners(engine) == "aaa", "each in its turn, where one may be taken"


def test_a_suspect_goes_first_where_it_is_its_turn(engine: Engine) -> None:
    suspect, _ = submit(engine, "ann"), submit(engine, "bob")
    fail(engine)
    submit(engine, "cid", priority=1)
    assert claimed(engine).owner == "cid"
    assert claimed(engine).job_id == suspect


def test_owners_take_turns_with_their_suspects_too(engine: Engine) -> None:
    """Ten jobs of one owner that fail and fail, and one of another whose worker was killed."""
    for _ in range(10):
        submit(engine, "ann")
    submit(engine, "bob", priority=-1)
    for _ in range(11):
        lease.retry(engine, claimed(engine, suspects=False), StorageError("away"), max_failures=9)
    bobs = submit(engine, "bob")
    let_pauses_pass(engine)
    assert claimed(engine, suspects=False).job_id == bobs
    fail_again = [claimed(engine) for _ in range(2)]
    assert [one.owner for one in fail_again] == ["ann", "ann"]


def test_models_take_turns_in_the_order_in_which_they_are_named_unless_one_is_more_urgent(engine: Engine) -> None:
    """Each model has its own turns, of which one may be far ahead: so they say nothing between two models."""
    for _ in range(5):
        submit(engine, "ann", model="one")
    claimed(engine, models=["one"]), claimed(engine, models=["one"])
    for _ in range(5):
        submit(engine, "bob", model="two")
    submit(engine, "cid", model="two", lane=Lane.BATCH)
    assert claimed(engine, models=["one", "two"]).owner == "ann"
    assert claimed(engine, models=["two", "one"]).owner == "bob"
    submit(engine, "dan", model="two", priority=1)
    assert claimed(engine, models=["one", "two"]).owner == "dan"
    assert owners(engine, models=["one", "two"]) == "aabbbbc"
    assert claim(engine, models=["none"]) is None


def test_the_oldest_is_the_oldest_of_all_models_and_lanes_that_are_asked_for(engine: Engine) -> None:
    submit(engine, "ann", model="three")
    submit(engine, "bob", model="two", lane=Lane.BATCH)
    submit(engine, "cid", model="one", priority=-9)
    submit(engine, "dan", model="one", priority=9)
    models = ["one", "two"]
    assert claimed(engine, models=models, oldest=True, lanes=[Lane.INTERACTIVE]).owner == "cid"
    assert owners(engine, models=models, oldest=True) == "bd"


def test_jobs_that_somebody_holds_locked_are_passed_and_the_next_most_urgent_of_any_line_goes(engine: Engine) -> None:
    """A pause of a hundred thousand urgent jobs takes a while: what is behind them is not more urgent for that."""
    for _ in range(3):
        submit(engine, "ann", model="one", priority=9)
    submit(engine, "ann", model="one", priority=-9)
    submit(engine, "bob", model="two")
    with engine.connect() as slow:
        slow.execute(text("SELECT FROM jobs WHERE priority = 9 FOR UPDATE"))
        assert owners(engine, models=["one", "two"]) == "ba"
    assert owners(engine, models=["one", "two"]) == "aaa"


def test_the_jobs_of_an_owner_who_is_to_be_avoided_are_left(engine: Engine) -> None:
    submit(engine, "ann", priority=9), submit(engine, "bob")
    assert owners(engine, avoid=["ann"]) == "b"
    assert owners(engine, avoid=[]) == "a"
