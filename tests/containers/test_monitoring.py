"""The profile monitoring: its files are there, Prometheus asks who answers, and nobody gets in by default."""

import subprocess
from typing import Any

import pytest
import yaml

from tests.containers.compose import ROOT, bare, environment, load, read, read_env

EXAMPLE = read_env(ROOT / ".env.example")
SERVICES = load({**dict.fromkeys(EXAMPLE, "made-up"), "COMPOSE_PROFILES": "monitoring"})
PROFILE = {name: service for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]}
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
SCRAPED = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}


def test_it_brings_prometheus_and_grafana_and_nobody_needs_them() -> None:
    assert PROFILE.keys() == {"prometheus", "grafana"}
    others = {needed for name in SERVICES.keys() - PROFILE for needed in SERVICES[name].get("depends_on", {})}
    assert not others & PROFILE.keys()


@pytest.mark.parametrize("name", PROFILE)
def test_what_a_service_mounts_exists_and_stays_as_it_is(name: str) -> None:
    files = [volume.split(":") for volume in PROFILE[name]["volumes"] if volume.startswith("./")]
    assert files
    for source, _, mode in files:
        assert (ROOT / source).is_file(), source
        assert mode == "ro"


def test_prometheus_asks_each_service_that_tells_at_the_port_where_it_tells() -> None:
    (api,) = SCRAPED["kiln-api"]["static_configs"]
    assert api["targets"] == ["api:8000"]
    found = [config for job in ("kiln-worker", "kiln-sweeper") for config in SCRAPED[job]["dns_sd_configs"]]
    told = {name: config["port"] for config in found for name in config["names"]}
    assert told.keys() == {"worker", "worker-gpu", "sweeper"}
    for name, port in told.items():
        given = environment(SERVICES[name], {})
        assert (given["KILN_METRICS_HOST"], given["KILN_METRICS_PORT"]) == ("0.0.0.0", str(port))  # noqa: S104


def test_prometheus_shows_its_key_out_of_a_file_that_git_does_not_take() -> None:
    assert PROFILE["prometheus"]["secrets"] == ["prometheus_key"]
    assert SCRAPED["kiln-api"]["authorization"] == {"credentials_file": "/run/secrets/prometheus_key"}
    file = read()["secrets"]["prometheus_key"]["file"]
    ignored = ["git", "-c", "safe.directory=*", "check-ignore", "--quiet", "--no-index", file]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("password", "ends"), [("", 1), ("long and secret", 127)], ids=["none", "one"])
def test_grafana_starts_with_a_password_of_ours_or_not_at_all(password: str, ends: int) -> None:
    """admin and admin, known to everybody on the machine. 127: its own start comes next, and is not here."""
    grafana = load({**dict.fromkeys(EXAMPLE, "made-up"), "GRAFANA_PASSWORD": password})["grafana"]
    given = bare() | environment(grafana, {})
    started = subprocess.run(grafana["entrypoint"], env=given, capture_output=True, text=True, check=False)
    assert started.returncode == ends, started.stderr
    assert ("fill in GRAFANA_PASSWORD in .env" in started.stderr) == (not password)


def test_nobody_without_the_profile_needs_its_password() -> None:
    assert "GRAFANA_PASSWORD" not in EXAMPLE
    assert load({**dict.fromkeys(EXAMPLE, "made-up"), "GRAFANA_PASSWORD": ""})["api"]
