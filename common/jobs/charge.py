"""What an attempt that ended badly costs its job: a failure, or nothing as long as it does not look like its fault.

Values of columns, for the statements of lease.py and sweep.py, which say whose attempt it was.
"""

from typing import Any

from sqlalchemy import and_, case, false, func, literal, null
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from common.errors import KilnError, as_json
from common.jobs.state import Status
from common.jobs.tables import jobs

CLOCK = func.clock_timestamp()
NO_LEASE: dict[str, None] = {"lease_token": None, "lease_expires_at": None, "run_deadline_at": None}

# A neighbor that kills workers costs a job three of them. Who needs more bad luck than twice that breaks the device or
# freezes the process itself, it is likely, and is to end some day
EXCUSES = 8
EXCUSABLE = jobs.c.excused < EXCUSES
_NEVER = false()


def charge(error: ColumnElement[Any], max_failures: int, *, excused: ColumnElement[bool] = _NEVER) -> dict[str, Any]:
    """One failure more: canceled if asked, failed with ``error`` if it was the last, else queued again.

    The pause doubles with each failure, from about 2 seconds to about 5 minutes, and is spread by half either way.
    Where the job is ``excused``, that is counted instead, and it waits no longer than it would anyway.
    """
    pause = func.least(300, 2 * func.power(2, jobs.c.failures)) * (0.5 + func.random())
    # not sooner than it may start anyway: its batch may be paused by now
    later = func.greatest(jobs.c.not_before, CLOCK + func.make_interval(0, 0, 0, 0, 0, 0, pause))
    asked = jobs.c.cancel_requested_at.is_not(None)
    used_up = ~excused & (jobs.c.failures + 1 >= max_failures)
    return NO_LEASE | {
        "status": case((asked, Status.CANCELED), (used_up, Status.FAILED), else_=Status.QUEUED),
        "failures": jobs.c.failures + case((excused, 0), else_=1),
        "excused": jobs.c.excused + case((excused, 1), else_=0),
        "error": case((and_(~asked, used_up), error), else_=null()),
        "finished_at": case((asked | used_up, CLOCK)),
        "not_before": case((excused, jobs.c.not_before), else_=later),
        "stage": None,
        "published_at": None,
    }


def as_column(error: KilnError) -> ColumnElement[Any]:
    """What a failed job's row says of it."""
    return literal(as_json(error), JSONB)
