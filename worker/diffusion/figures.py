"""What a device counts of itself. Pure."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """What the device has done since its start. Seconds are of the wall."""

    ticks: int = 0
    tick_seconds: float = 0.0
    evaluations: int = 0  # slots that took a step
    rows: int = 0  # rows of the U-Net calls, padding included
    calls: int = 0
    call_seconds: float = 0.0
    called: int = 0  # items of all calls: several share one
    idle_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("no_jobs", "between_stages"), 0.0))

    @property
    def busy_seconds(self) -> float:
        return self.tick_seconds + self.call_seconds
