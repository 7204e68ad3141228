"""What two rival workers do with their claims, also with those that they lost long ago."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from common.errors import DeviceLost, NumericalError, StorageError
from common.jobs import lease
from common.jobs.state import Stage, Status
from tests.jobs.machine.expected import MAX_FAILURES, Expected, Table
from tests.jobs.make import PICTURE, cancel_requested, claim, claimed, let_pauses_pass, submit

WORKERS = ("w1", "w2")


class Workers(Table):
    """Claim, show progress, and end jobs in each of the ways there are."""

    @initialize()
    def the_night_has_begun(self) -> None:
        """Hypothesis leaves rules out of an example; one without any job or claim would have little to say."""
        for _ in range(4):
            self.jobs[submit(self.engine)] = Expected()
        for worker in WORKERS:
            self.took(claimed(self.engine, worker), worker)

    @rule(worker=st.sampled_from(WORKERS), oldest=st.booleans())
    def claim(self, worker: str, oldest: bool) -> None:
        let_pauses_pass(self.engine)
        taken = claim(self.engine, worker, oldest=oldest)
        assert bool(taken) is bool(self.within(Status.QUEUED))
        if taken:
            self.took(taken, worker)

    @rule()
    def both_claim_at_once(self) -> None:
        """Whoever comes while the other marks as due what has become so may find nothing, until it looks again."""
        let_pauses_pass(self.engine)
        with ThreadPoolExecutor(2) as threads:
            first = list(threads.map(lambda worker: claim(self.engine, worker), WORKERS))
        assert any(first) is bool(self.within(Status.QUEUED))
        again = [each or claim(self.engine, worker) for each, worker in zip(first, WORKERS, strict=True)]
        taken = [(each, worker) for each, worker in zip(again, WORKERS, strict=True) if each]
        assert len(taken) == min(2, len(self.within(Status.QUEUED)))
        for each, worker in taken:
            self.took(each, worker)

    @rule()
    def heartbeat(self) -> None:
        standing = lease.extend_leases(self.engine, [taken.token for taken in self.claims], 60)
        assert standing == {e.token: e.cancel for e in self.jobs.values() if e.token is not None}

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def look_for_a_cancel(self, data: st.DataObject) -> None:
        taken, expected = self.pick(data)

        def looked() -> None:
            assert cancel_requested(self.engine, taken) is expected.cancel

        self.write(taken, looked, lambda: None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), done=st.integers(0, 4))
    def save(self, data: st.DataObject, done: int) -> None:
        taken, expected = self.pick(data)

        def saved() -> None:
            assert lease.save(self.engine, taken, stage=Stage.DIFFUSE, done=done) is expected.cancel
            expected.done = done

        self.write(taken, saved, lambda: None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """Finishing again, as after a broken connection, is told the same and changes nothing."""
        taken, expected = self.pick(data)
        key = f"images/{taken.job_id}/{taken.attempt}/0.png"
        picture = replace(PICTURE, key=key, thumbnail_key=f"{key}.thumb")

        def finish() -> Status:
            return lease.succeed(self.engine, taken, [picture], recipe={}, timings={})

        def finished() -> None:
            if expected.cancel:
                return expected.end(Status.CANCELED)
            expected.object_keys, expected.done = [key, f"{key}.thumb"], 4
            return expected.end(Status.SUCCEEDED)

        if expected.status is Status.SUCCEEDED and expected.attempt == taken.attempt:
            assert finish() is Status.SUCCEEDED
            self.tally["repeated"] += 1
        else:
            self.write(taken, finish, finished)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        taken, expected = self.pick(data)
        error = StorageError("away")
        self.write(taken, lambda: lease.retry(self.engine, taken, error, max_failures=MAX_FAILURES), expected.charge)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        taken, expected = self.pick(data)
        error = NumericalError("NaN")
        self.write(taken, lambda: lease.fail(self.engine, taken, error), expected.fail)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        taken, expected = self.pick(data)
        self.write(
            taken,
            lambda: lease.park(self.engine, taken),
            lambda: expected.end(Status.CANCELED if expected.cancel else Status.QUEUED),
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def excuse(self, data: st.DataObject) -> None:
        """What a worker does whose device has died."""
        taken, expected = self.pick(data)
        error = DeviceLost.error
        self.write(taken, lambda: lease.excuse(self.engine, taken, error, max_failures=MAX_FAILURES), expected.excuse)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def cancel_seen(self, data: st.DataObject) -> None:
        taken, expected = self.pick(data)
        self.write(taken, lambda: lease.cancel(self.engine, taken), lambda: expected.end(Status.CANCELED))
