"""docs/order.md under random mixes of owners, lanes, priorities, models, times, failures and workers: the real claim.

Each example has models of its own, and so lines of its own: nothing has to be cleared away.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, text

from common.db import transaction
from common.errors import StorageError
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.state import Lane
from common.jobs.submit import submit_job
from common.jobs.sweep import line_up_due
from tests.jobs.make import claim, submission
from tests.jobs.test_line import LATER

OWNERS, PRIORITIES = ("ann", "bob", "cid"), (0, 0, 0, 7)
SERVED, UNSERVED = ("one", "two"), "none"
_examples = count(1)

Kind = tuple[str, Lane, int]  # model, lane and priority: within it owners take turns


@dataclass
class Waiting:
    """A job that waits, as the page of promises sees it."""

    owner: str
    kind: Kind
    entered: int | None = None  # when it came into the line; None: its time has not come
    begun: bool = False
    failures: int = 0


@dataclass
class Worker:
    """What it serves, and what it has in hand."""

    models: list[str]
    lanes: list[Lane]
    in_hand: dict[UUID, Claim] = field(default_factory=dict)

    @property
    def takes_suspects(self) -> bool:
        return not any(claim.failures for claim in self.in_hand.values())


class Queue(RuleBasedStateMachine):
    """A queue with three workers. ``tally`` counts over all examples what was checked."""

    def __init__(self, engine: Engine, tally: Counter[str]) -> None:
        super().__init__()
        self.engine = engine
        self.tally = tally
        self.name = f"{next(_examples)}-{{}}".format
        one, two = map(self.name, SERVED)
        self.workers = [
            Worker([one], list(Lane)),
            Worker([two, one], list(Lane)),
            Worker([one, two], [Lane.INTERACTIVE]),
        ]
        self.waiting: dict[UUID, Waiting] = {}
        self.clock = count(1)
        self.passed: Counter[tuple[Kind, str, str]] = Counter()  # of a kind, while an owner waited: claims of another
        self.out_of_order: Counter[Kind] = Counter()
        self.taken_early: set[UUID] = set()  # as the oldest: what comes back of these stands behind others, as it stood

    @initialize()
    def the_night_has_begun(self) -> None:
        """Hypothesis leaves rules out of an example; one without any job would have little to say."""
        for owner in (*OWNERS, *OWNERS):
            self.submit(owner, "one", Lane.INTERACTIVE, 0, later=False, many=2)

    @rule(
        owner=st.sampled_from(OWNERS),
        model=st.sampled_from((*SERVED, *SERVED, UNSERVED)),
        lane=st.sampled_from(Lane),
        priority=st.sampled_from(PRIORITIES),
        later=st.sampled_from((False, False, False, True)),
        many=st.integers(1, 4),
    )
    def submit(self, owner: str, model: str, lane: Lane, priority: int, later: bool, many: int) -> None:
        kind = (self.name(model), lane, priority)
        for _ in range(many):
            asked = submission(owner, model=kind[0], lane=lane, priority=priority, not_before=LATER if later else None)
            job_id = submit_job(self.engine, asked, max_queued=10**6).job_id
            self.waiting[job_id] = Waiting(owner, kind, None if later else next(self.clock))

    @rule()
    def the_time_of_all_has_come(self) -> None:
        with transaction(self.engine) as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(
                text("UPDATE jobs SET not_before = now() WHERE id = any(:ids) AND NOT due"), {"ids": list(self.waiting)}
            )
        line_up_due(self.engine)
        for _, job in sorted(self.waiting.items()):
            job.entered = job.entered or next(self.clock)

    @rule(worker=st.integers(0, 2), oldest=st.sampled_from((False, False, False, False, True)))
    def claim(self, worker: int, oldest: bool) -> None:
        """Whatever could run is taken as soon as anybody looks; and it is the right one."""
        who = self.workers[worker]
        may = {job_id: job for job_id, job in self.waiting.items() if self.may_run(job, who)}
        taken = claim(self.engine, models=who.models, lanes=who.lanes, oldest=oldest, suspects=who.takes_suspects)
        assert bool(taken) is bool(may), "a seat stays free beside a job that could run"
        if taken is None:
            return
        assert taken.job_id in may
        if oldest:
            assert taken.job_id == min(may)
            self.taken_early.add(taken.job_id)
        else:
            self.is_in_order(may[taken.job_id], may, who)
        who.in_hand[taken.job_id] = taken
        self.note(self.waiting.pop(taken.job_id), oldest)

    def may_run(self, job: Waiting, worker: Worker) -> bool:
        model, lane, _ = job.kind
        suits = model in worker.models and lane in worker.lanes and (worker.takes_suspects or not job.failures)
        return suits and job.entered is not None

    def is_in_order(self, job: Waiting, may: dict[UUID, Waiting], worker: Worker) -> None:
        def urgency(job: Waiting) -> tuple[bool, int, int]:
            model, lane, priority = job.kind
            return lane is Lane.BATCH, -priority, worker.models.index(model)

        assert urgency(job) == min(map(urgency, may.values())), "lane, priority, then the model named first"
        if not job.begun:
            before = [
                each for each in may.values() if (each.owner, each.kind, each.begun) == (job.owner, job.kind, False)
            ]
            assert job.entered == min(each.entered or 0 for each in before), "an owner's own jobs keep their order"
            begun = [
                job_id
                for job_id, each in may.items()
                if each.begun and not each.failures and each.kind == job.kind and job_id not in self.taken_early
            ]
            assert not begun, "what was begun stands ahead"
            self.tally["in order"] += 1

    def note(self, job: Waiting, oldest: bool) -> None:
        """Nobody who waits is passed by another owner's jobs more than twice, before they are served themselves."""
        self.out_of_order[job.kind] += oldest
        if job.begun:
            return
        waiting = {each.owner for each in self.waiting.values() if self.takes_part(each) and each.kind == job.kind}
        for owner in OWNERS:
            if owner == job.owner or owner not in waiting:
                for other in OWNERS:
                    self.passed.pop((job.kind, owner, other), None)
            else:
                self.passed[job.kind, owner, job.owner] += 1
                self.tally["passed"] += 1
                most = 2 + self.out_of_order[job.kind]
                assert self.passed[job.kind, owner, job.owner] <= most, f"{owner} waits for {job.owner}"

    def takes_part(self, job: Waiting) -> bool:
        return job.entered is not None and not job.begun

    @precondition(lambda self: any(worker.in_hand for worker in self.workers))
    @rule(data=st.data(), ends=st.sampled_from(("well", "well", "failed", "parked")))
    def an_attempt_ends(self, data: st.DataObject, ends: str) -> None:
        worker = data.draw(st.sampled_from([each for each in self.workers if each.in_hand]))
        taken = worker.in_hand.pop(data.draw(st.sampled_from(sorted(worker.in_hand))))
        kind = (taken.spec.model, taken.lane, taken.priority)
        back = Waiting(taken.owner, kind, begun=True, failures=taken.failures)
        if ends == "well":
            lease.cancel(self.engine, taken)
            return
        if ends == "parked":
            lease.park(self.engine, taken)
            back.entered = next(self.clock)
        else:
            lease.retry(self.engine, taken, StorageError("away"), max_failures=99)
            self.put_off(taken.job_id)
            back.failures += 1
            self.tally["failed"] += 1
        self.waiting[taken.job_id] = back

    def put_off(self, job_id: UUID) -> None:
        """Until the rule says so: the pause after a failure may pass at any moment."""
        with transaction(self.engine) as connection:
            later = text("UPDATE jobs SET not_before = '2999-01-01' WHERE id = :id")
            connection.execute(later, {"id": job_id})


def run_queue(engine: Engine, examples: int, steps: int) -> Counter[str]:
    tally: Counter[str] = Counter()
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Queue(engine, tally), settings=chosen)
    return tally


def test_any_mix_is_claimed_in_the_promised_order(engine: Engine) -> None:
    tally = run_queue(engine, examples=20, steps=35)
    assert min(tally["in order"], tally["passed"], 5 * tally["failed"]) >= 25, tally


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_mixes_are_claimed_in_the_promised_order(engine: Engine) -> None:
    tally = run_queue(engine, examples=400, steps=60)
    assert min(tally["in order"], tally["passed"], tally["failed"]) >= 1000, tally


BYSTANDERS: dict[str, Callable[[str], dict[str, object]]] = {
    "later": lambda model: {"model": model, "not_before": LATER},
    "unserved": lambda model: {"model": f"{model} that nobody serves"},
    "less urgent": lambda model: {"model": model, "priority": -1},
    "in the other lane": lambda model: {"model": model, "lane": Lane.BATCH},
}
STEPS = st.lists(st.one_of(st.sampled_from(OWNERS), st.just("claim")), min_size=10, max_size=18)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, data=st.data())
def test_who_takes_no_part_changes_nobodys_turn(engine: Engine, steps: list[str], data: st.DataObject) -> None:
    """The same jobs come and are claimed in two lines. In one of them others wait as well: its order is the same."""
    plain, crowded = (f"{next(_examples)} {name}" for name in ("plain", "crowded"))
    claims: dict[str, list[str]] = {plain: [], crowded: []}
    for step in [*steps, *["claim"] * len(steps)]:
        if bystander := data.draw(st.sampled_from([None, *BYSTANDERS])):
            asked = submission(data.draw(st.sampled_from(OWNERS)), **BYSTANDERS[bystander](crowded))
            submit_job(engine, asked, max_queued=10**6)
        for model, found in claims.items():
            if step != "claim":
                submit_job(engine, submission(step, model=model), max_queued=10**6)
            elif taken := claim(engine, models=[model], lanes=[Lane.INTERACTIVE]):
                found += [taken.owner] if taken.priority == 0 else []
    assert claims[plain] == claims[crowded]
