"""What passing time does, and the sweeper that notices."""

from concurrent.futures import ThreadPoolExecutor

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from common.errors import LeaseLost, StorageError
from common.jobs import lease
from common.jobs.claim import Claim
from common.jobs.state import TERMINAL, Status
from common.jobs.sweep import expire_overdue, forget_finished
from tests.jobs.machine.expected import MAX_FAILURES
from tests.jobs.machine.workers import Workers
from tests.jobs.make import let_deadlines_pass, let_leases_run_out, let_run_deadline_pass

INSTANT = 1e-9  # days: whatever has ended has ended longer ago


class Clock(Workers):
    """Leases, run deadlines and deadlines pass; what ended goes."""

    @rule()
    def leases_run_out_and_are_swept(self) -> None:
        let_leases_run_out(self.engine)
        running = self.within(Status.RUNNING)
        assert self.sweep() == len(running)
        for expected in running:
            expected.charge()

    @rule()
    def leases_run_out_and_a_heartbeat_comes_before_the_sweep(self) -> None:
        let_leases_run_out(self.engine)
        self.heartbeat()
        assert self.sweep() == 0

    @precondition(lambda self: self.within(Status.RUNNING))
    @rule(data=st.data())
    def an_attempt_takes_too_long(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([job_id for job_id, e in self.jobs.items() if e.token]))
        let_run_deadline_pass(self.engine, job_id)
        self.heartbeat()
        assert self.sweep() == 1
        self.jobs[job_id].charge()

    @precondition(lambda self: self.within(Status.RUNNING))
    @rule(data=st.data())
    def an_error_races_the_sweep(self, data: st.DataObject) -> None:
        """One of the two takes the job back and the other nothing: one failure is charged, whoever it was."""
        taken = data.draw(st.sampled_from([each for each in self.claims if self.holds(each)]))
        running = self.within(Status.RUNNING)
        let_leases_run_out(self.engine)
        with ThreadPoolExecutor(2) as threads:
            written, swept = threads.submit(self._report, taken), threads.submit(self.sweep)
        assert written.result() + swept.result() == len(running)
        self.tally["races won" if written.result() else "races lost"] += 1
        for expected in running:
            expected.charge()

    @rule()
    def deadlines_pass(self) -> None:
        let_deadlines_pass(self.engine)
        overdue = [each for each in self.within(Status.QUEUED) if each.deadline and not each.attempt]
        assert expire_overdue(self.engine) == len(overdue)
        for expected in overdue:
            expected.end(Status.EXPIRED)

    @rule()
    def what_has_ended_is_retained_no_longer(self) -> None:
        over = {job_id: expected for job_id, expected in self.jobs.items() if expected.status in TERMINAL}
        count, keys = forget_finished(self.engine, days=INSTANT)
        assert (count, sorted(keys)) == (len(over), sorted(key for e in over.values() for key in e.object_keys))
        for job_id in over:
            del self.jobs[job_id]

    def _report(self, taken: Claim) -> bool:
        """Whether the error could still be written."""
        try:
            lease.retry(self.engine, taken, StorageError("away"), max_failures=MAX_FAILURES)
        except LeaseLost:
            return False
        return True
