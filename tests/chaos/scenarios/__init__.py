"""The chaos table: each scenario's name in; what is done, whether the checker must pass, and how much of it, out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.check import Report
from tests.chaos.rig import Rig
from tests.chaos.scenarios import (
    api,
    baseline,
    broker,
    cancels,
    clocks,
    database,
    device,
    disk,
    drains,
    messages,
    silence,
    storage,
    storm,
    supervision,
    windows,
    workers,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Harm to a rig, done so many times; every job is over when it returns.

    Of a negative control the checker must see what it is known to do wrong: a violation whose sentence has ``sees``.
    """

    harm: Callable[[Rig, int], None]
    full: int  # rounds of ``make chaos``
    quick: int  # rounds of ``make chaos QUICK=1``
    sees: str = ""
    judged: bool = True  # or anything may happen, and is told
    report: Callable[[Rig], Report] = Rig.report
    settings: Mapping[str, object] = field(default_factory=dict)  # Kiln's, where they are not the rig's
    through: tuple[str, ...] = ()  # URLs of servers that Kiln reaches through a proxy
    disks: Mapping[str, int] = field(default_factory=dict)  # MiB of servers that have little room

    def judge(self, report: Report) -> bool:
        """Whether what the checker says is as it must be."""
        if self.sees:
            return any(self.sees in sentence for sentence in report.violations)
        return report.passed or not self.judged


PATIENT = {"lease_seconds": 60, "heartbeat_seconds": 15}  # Kiln's own: a lease outlives what is promised to be outlived

SCENARIOS: dict[str, Scenario] = {
    "C1": Scenario(workers.kills, 20, 1),
    "C2": Scenario(workers.late_writes, 20, 1),
    "C3": Scenario(broker.outages, 10, 1, through=("broker_url",)),
    "C4": Scenario(database.outages, 10, 1, settings=PATIENT, through=("database_url",)),
    "C5": Scenario(storage.outages, 5, 1, settings=PATIENT),
    "C6": Scenario(api.kills, 34, 1),
    "C7": Scenario(messages.flood, 5000, 33),
    "C8": Scenario(clocks.skews, 10, 1),
    "C9": Scenario(disk.fills, 5, 1, disks=disk.DISKS, settings=PATIENT),
    "C10": Scenario(device.harms, 10, 1, settings=device.SETTINGS),
    "C11": Scenario(cancels.cancels, 1000, 20),
    "C12": Scenario(drains.drains, 30, 1, settings=PATIENT),
    "C13": Scenario(storm.storm, 500, 10, settings={"max_failures": 20}),  # its faults, not its jobs, kill workers
    "C14": Scenario(supervision.kills, 20, 1, report=supervision.report),
    "C15": Scenario(silence.silences, 10, 1, settings=PATIENT),
    "C16": Scenario(
        database.paces, 5, 1, settings=PATIENT | {"slots": database.SLOTS, "max_steps": 1000}, through=("database_url",)
    ),
    "C17": Scenario(windows.closings, 99_999, 3000),
    "N1": Scenario(workers.late_unfenced_finishes, 10, 1, sees="not of the attempt that won"),
    "N2": Scenario(workers.late_uploads, 10, 1, sees="other bytes than recorded"),
    "N3": Scenario(workers.unswept, 10, 1, sees="still running", settings={"sweep_seconds": 3600}),
    "baseline": Scenario(baseline.baseline, 200, 10, judged=False, report=baseline.report),
}
