"""What a worker counts of its jobs and its device, in; what Prometheus reads of this process out. No job, no owner."""

import resource
import sys
from collections.abc import Iterator

import torch
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.errors import DeadlinePassed, DeviceFailed, KilnError, NumericalError, OutOfDeviceMemory, StorageError
from common.jobs.state import Lane, Stage
from worker.diffusion.device import Device

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
OUTCOMES = ("succeeded", "canceled", "parked", "retried", "failed", "lost")
ENDINGS = (KilnError, StorageError, OutOfDeviceMemory, NumericalError, DeadlinePassed, DeviceFailed)

CLAIMS = Counter("kiln_worker_claims", "Jobs claimed", ["lane"])
ATTEMPTS = Counter(
    "kiln_worker_attempts",
    "Attempts that ended. parked: given back unharmed; retried: failed, and back in the queue; "
    "lost: its lease was gone, or the database for good, so nothing was written",
    ["outcome"],
)
FAILURES = Counter(
    "kiln_worker_failures", "Attempts at which something went wrong, charged or not, tried again or not", ["code"]
)
STAGE_SECONDS = Histogram(
    "kiln_worker_stage_seconds", "Time that jobs took for a stage, waits within it included", ["stage"], buckets=BUCKETS
)

# Named from the start: a rate is only seen to begin where there was a zero before
for _outcome in OUTCOMES:
    ATTEMPTS.labels(_outcome)
for _lane in Lane:
    CLAIMS.labels(_lane)
for _ending in ENDINGS:
    FAILURES.labels(_ending.code)
for _stage in Stage:
    STAGE_SECONDS.labels(_stage)

# What each figure of the device is called, and what it means
GAUGES = {
    "slots": "Pictures that can share a U-Net call",
    "slots_used": "Pictures that share the present U-Net call",
    "pictures": "Pictures that have a slot or wait for one",
    "memory_peak_bytes": "Most memory used since the start: allocated by torch on CUDA, elsewhere resident",
}
COUNTERS = {
    "ticks": ("ticks", "U-Net calls"),
    "tick_seconds": ("tick_seconds", "Seconds in U-Net calls; divided by kiln_worker_ticks_total: seconds per tick"),
    "rows": ("tick_rows", "Rows of U-Net calls, padding included; divided by kiln_worker_ticks_total: rows per tick"),
    "evaluations": ("evaluations", "Steps that pictures took; divided by kiln_worker_ticks_total: slots used per tick"),
    "calls": ("calls", "Other calls of the device: texts, decoding, scores"),
    "called": ("called", "Items of the other calls; divided by kiln_worker_calls_total: micro-batch size"),
    "call_seconds": ("call_seconds", "Seconds in the other calls; divided by kiln_worker_calls_total: seconds a call"),
}


class DeviceCollector(Collector):
    """What the device has done since its start and what it does now, read at each scrape."""

    def __init__(self, device: Device, name: str) -> None:
        """``name``: what torch calls it."""
        self._device = device
        self._name = name

    def collect(self) -> Iterator[Metric]:
        device, figures = self._device, self._device.figures
        now = (device.width.slots, device.slots_used, device.pictures(), _memory_peak(self._name))
        for (name, meaning), value in zip(GAUGES.items(), now, strict=True):
            yield GaugeMetricFamily(f"kiln_worker_{name}", meaning, value=value)
        for figure, (name, meaning) in COUNTERS.items():
            yield CounterMetricFamily(f"kiln_worker_{name}", meaning, value=getattr(figures, figure))
        idle = CounterMetricFamily("kiln_worker_idle_seconds", "Seconds that the device waited", labels=["cause"])
        for cause, seconds in figures.idle_seconds.items():
            idle.add_metric([cause], seconds)
        yield idle


def _memory_peak(name: str) -> int:
    if name.startswith("cuda"):
        return torch.cuda.max_memory_allocated(name)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
