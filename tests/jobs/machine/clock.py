"""What passing time does, and the sweeper that notices."""

from concurrent.futures import ThreadPoolExecutor

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from common.errors import LeaseLost, StorageError
from common.jobs import lease
from common.jobs.charge import EXCUSES
from common.jobs.claim import Claim
from common.jobs.retention import forget_finished
from common.jobs.state import TERMINAL, Status
from common.jobs.sweep import expire_overdue, take_back_charges
from common.jobs.workers import record_worker, remove_worker
from tests.jobs.machine.expected import MAX_FAILURES
from tests.jobs.machine.workers import WORKERS, Workers
from tests.jobs.make import let_deadlines_pass, let_leases_run_out, let_run_deadline_pass

INSTANT = 1e-9  # days: whatever has ended has ended longer ago


class Clock(Workers):
    """Leases, run deadlines and deadlines pass; what ended goes."""

    @rule()
    def leases_run_out_and_are_swept(self) -> None:
        let_leases_run_out(self.engine)
        running = self.within(Status.RUNNING)
        assert self.sweep() == len(running)
        self.lose(running)

    @precondition(lambda self: self.within(Status.RUNNING))
    @rule(data=st.data())
    def some_leases_run_out_before_others(self, data: st.DataObject) -> None:
        """One that was claimed after the last heartbeat stands longer than the rest of a dead worker's."""
        job_id = data.draw(st.sampled_from([job_id for job_id, e in self.jobs.items() if e.token]))
        let_leases_run_out(self.engine, job_id)
        assert self.sweep() == 1
        self.lose([self.jobs[job_id]])

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_that_was_cut_off_is_heard_of(self, worker: str) -> None:
        lost = [e for e in self.jobs.values() if worker in e.lost_by and e.status not in TERMINAL]
        record_worker(self.engine, worker, state="ready", models=["demo"], device="cpu", seats=2, figures={})
        assert take_back_charges(self.engine) == len([each for each in lost if each.excused < EXCUSES])
        self.tally["charges taken back"] += len(lost)
        for expected in lost:
            expected.hear_of(worker)
        remove_worker(self.engine, worker)

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
        self.lose([self.jobs[job_id]])

    @precondition(lambda self: self.within(Status.RUNNING))
    @rule(data=st.data())
    def an_error_races_the_sweep(self, data: st.DataObject) -> None:
        """One of the two takes the job back and the other nothing, and it is charged once."""
        taken = data.draw(st.sampled_from([each for each in self.claims if self.holds(each)]))
        running, reported = self.within(Status.RUNNING), self.jobs[taken.job_id]
        assume(not any(reported.is_suspect_beside(each) for each in running))  # their fate would hang on who was first
        let_leases_run_out(self.engine)
        with ThreadPoolExecutor(2) as threads:
            written, swept = threads.submit(self._report, taken), threads.submit(self.sweep)
        assert written.result() + swept.result() == len(running)
        self.tally["races won" if written.result() else "races lost"] += 1
        if written.result():
            running.remove(reported)
            reported.charge()
        self.lose(running)

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
