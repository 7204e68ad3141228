"""What a user asks for, in any order; and a stranger, who gets nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from common.errors import Conflict, IdempotencyMismatch, QueueFull
from common.jobs.owner import cancel_job, delete_job
from common.jobs.state import TERMINAL, Status
from common.jobs.submit import submit_job
from tests.jobs.machine.expected import Expected, Table
from tests.jobs.make import (
    submission,
    submit,
)

KEYS = ("k1", "k2")


class User(Table):
    """Submits, cancels and deletes."""

    @rule(deadline=st.booleans())
    def submit(self, deadline: bool) -> None:
        later = datetime.now(UTC) + timedelta(hours=1) if deadline else None
        self.jobs[submit(self.engine, deadline=later)] = Expected(deadline=deadline)

    @rule(key=st.sampled_from(KEYS), fingerprint=st.sampled_from("fg"))
    def submit_under_a_key(self, key: str, fingerprint: str) -> None:
        asked = submission(idempotency_key=key, fingerprint=fingerprint)
        first = next((each for each in self.jobs.items() if each[1].key == key), None)
        if first and first[1].fingerprint != fingerprint:
            with pytest.raises(IdempotencyMismatch):
                submit_job(self.engine, asked, max_queued=1000)
            return
        receipt = submit_job(self.engine, asked, max_queued=1000)
        assert receipt.replayed is bool(first)
        if first:
            assert receipt.job_id == first[0]
        else:
            self.jobs[receipt.job_id] = Expected(key=key, fingerprint=fingerprint)

    @precondition(lambda self: self.within(Status.QUEUED))
    @rule(own=st.booleans())
    def submit_into_a_full_queue(self, own: bool) -> None:
        queued = len(self.within(Status.QUEUED))
        limits = {"max_queued": 1000, "max_queued_per_owner": queued} if own else {"max_queued": queued}
        with pytest.raises(QueueFull):
            submit_job(self.engine, submission(), **limits)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def user_cancels(self, data: st.DataObject) -> None:
        job_id = self.pick_job(data)
        expected = self.jobs[job_id]
        cancel_job(self.engine, "ann", job_id)
        expected.cancel = True
        if expected.status is Status.QUEUED:
            expected.end(Status.CANCELED)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def user_deletes(self, data: st.DataObject) -> None:
        job_id = self.pick_job(data)
        expected = self.jobs[job_id]
        if expected.status in TERMINAL:
            assert delete_job(self.engine, "ann", job_id) == expected.object_keys
            del self.jobs[job_id]
        else:
            with pytest.raises(Conflict):
                delete_job(self.engine, "ann", job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def stranger_cancels_and_deletes(self, data: st.DataObject) -> None:
        job_id = self.pick_job(data)
        cancel_job(self.engine, "bob", job_id)
        assert delete_job(self.engine, "bob", job_id) is None
