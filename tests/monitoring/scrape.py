"""A /metrics endpoint in; its samples by name and labels out, as Prometheus reads them."""

from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one endpoint said at one time."""

    samples: tuple[Sample, ...]
    meanings: dict[str, str]  # the HELP text by family

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def labels(self, name: str) -> set[str]:
        """The labels that samples of this name have."""
        return {label for sample in self.samples if sample.name == name for label in sample.labels}

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of this name with these labels, among others. There has to be one."""
        found = [one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        assert found, f"no {name} {labels} among {sorted(self.names)}"
        return sum(found)


def scrape(url: str, key: str | None = None) -> Scrape:
    answer = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=30)
    assert answer.status_code == 200, answer.text
    families = list(text_string_to_metric_families(answer.text))
    samples = tuple(sample for family in families for sample in family.samples)
    return Scrape(samples, {family.name: family.documentation for family in families})
