"""The compose file, its example, Dockerfile and .dockerignore say what our code needs, and nothing that it does not."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from common.settings import MigrationSettings, Settings
from tests.containers.compose import ROOT, Missing, environment, interpolate, load, read, read_env

OURS = {"migrate", "api", "sweeper", "worker", "worker-gpu"}
ONE_SHOT = {"migrate", "minio-owner"}
WITHOUT_HEALTH_CHECK = ONE_SHOT | {"sweeper"}  # nothing waits for it, and Docker starts it again
AS_ROOT = {"minio-owner"}  # gives a fresh volume, which is root's, to MinIO's user; may do nothing else

EXAMPLE = read_env(ROOT / ".env.example")
FILLED = {**EXAMPLE, **{name: "made-up" for name, value in EXAMPLE.items() if not value}}
SERVICES = load(FILLED)


@pytest.mark.parametrize("name", [name for name, value in EXAMPLE.items() if not value] + ["KILN_S3_ACCESS_KEY"])
def test_without_a_secret_compose_refuses_and_names_it(name: str) -> None:
    with pytest.raises(Missing, match=f"{name}: .*{name} in .env"):
        load({**FILLED, name: ""})


def test_the_example_holds_every_variable_that_compose_demands() -> None:
    demanded = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert demanded <= EXAMPLE.keys()


def test_the_example_holds_no_password() -> None:
    for name, value in EXAMPLE.items():
        assert not (value and re.search("PASSWORD|SECRET", name)), name


def test_nested_defaults_are_filled_in_as_compose_does() -> None:
    text = "${A:-${B:-http://h:${C:-1}}} $$D"
    assert interpolate(text, {}) == "http://h:1 $D"
    assert interpolate(text, {"C": "2"}) == "http://h:2 $D"
    assert interpolate(text, {"B": "b", "C": "2"}) == "b $D"
    assert interpolate(text, {"A": "a", "B": "b"}) == "a $D"


def test_every_variable_of_ours_is_a_setting_that_exists() -> None:
    known = {f"KILN_{field.upper()}" for kind in (Settings, MigrationSettings) for field in kind.model_fields}
    in_example = set(re.findall(r"^#?(KILN_\w+)=", (ROOT / ".env.example").read_text(), re.M))
    used = {name for service in SERVICES.values() for name in environment(service, EXAMPLE) if name.startswith("KILN_")}
    in_file = set(re.findall(r"\$\{(KILN_\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used | in_example | in_file <= known


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_without_a_default_is_given(name: str) -> None:
    kind = MigrationSettings if name == "migrate" else Settings
    needed = {f"KILN_{field.upper()}" for field, about in kind.model_fields.items() if about.is_required()}
    given = environment(SERVICES[name], FILLED)
    assert needed <= {variable for variable, value in given.items() if value}


def test_no_service_but_the_migration_has_another_users_password() -> None:
    """A worker on a rented machine with the password of whoever owns the database in its environment."""
    passwords = {"POSTGRES_PASSWORD": "the owner's", "API_PASSWORD": "the api's", "WORKER_PASSWORD": "the workers'"}
    filled = {**FILLED, **passwords}
    for name, service in load(filled).items():
        if name in OURS - {"migrate"}:
            own = "the workers'" if name.startswith("worker") else "the api's"
            seen = "\n".join(environment(service, filled).values())
            assert [password for password in passwords.values() if password in seen] == [own], name


def test_one_variable_swaps_the_storage_for_servers_and_clients_alike() -> None:
    elsewhere = load({**FILLED, "KILN_S3_ENDPOINT_URL": "https://s3.example.org"})
    for name in OURS - {"migrate"}:
        given = environment(elsewhere[name], {})
        assert given["KILN_S3_ENDPOINT_URL"] == given["KILN_S3_PUBLIC_URL"] == "https://s3.example.org"
        assert not elsewhere[name]["depends_on"]["minio"]["required"]


def test_presigned_urls_name_the_port_that_the_host_sees() -> None:
    moved = load({**FILLED, "S3_PORT": "9777"})
    assert environment(moved["api"], {})["KILN_S3_PUBLIC_URL"] == "http://127.0.0.1:9777"
    assert moved["minio"]["ports"] == ["127.0.0.1:9777:9000"]


def test_only_loopback_reaches_a_port() -> None:
    ports = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert ports.keys() == {"api", "minio", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in ports.values()), ports
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_workers_can_be_scaled() -> None:
    for name in ("worker", "worker-gpu"):
        assert not {"container_name", "ports", "hostname"} & SERVICES[name].keys()
    assert set(EXAMPLE["COMPOSE_PROFILES"].split(",")) == {*SERVICES["worker"]["profiles"], "minio"}


def test_exactly_the_gpu_worker_reserves_a_gpu() -> None:
    reserving = {name: service["deploy"] for name, service in SERVICES.items() if "deploy" in service}
    assert reserving.keys() == {"worker-gpu"}
    (device,) = reserving["worker-gpu"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"], len(device["device_ids"])) == ("nvidia", ["gpu"], 1)


@pytest.mark.parametrize(("name", "service"), SERVICES.items(), ids=SERVICES)
def test_a_service_runs_without_rights_it_does_not_need(name: str, service: Mapping[str, Any]) -> None:
    assert name in AS_ROOT or service["user"] not in ("root", "0", "0:0")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["CHOWN"] if name in AS_ROOT else [])
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@pytest.mark.parametrize(("name", "service"), SERVICES.items(), ids=SERVICES)
def test_a_service_says_how_it_is_and_waits_for_what_it_needs(name: str, service: Mapping[str, Any]) -> None:
    assert ("healthcheck" in service) != (name in WITHOUT_HEALTH_CHECK)
    for needed, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how["condition"] == expected, (name, needed)
    assert (service.get("restart", "no") == "no") == (name in ONE_SHOT)


def test_every_image_is_fixed_to_a_version() -> None:
    images = {service["image"] for service in SERVICES.values() if "build" not in service}
    assert all(re.search(r":[\w.-]*\d", image) for image in images), images


def test_every_volume_is_declared_and_postgres_has_its_own_where_18_wants_it() -> None:
    volumes = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    mounted = [volume for volume in volumes if not volume[0].startswith("./")]
    assert {name for name, _ in mounted} == read()["volumes"].keys()
    assert ["postgres", "/var/lib/postgresql"] in mounted
    assert environment(SERVICES["worker"], {})["KILN_HOME"] in [place for name, place in mounted if name == "models"]


def test_everything_that_the_dockerfile_copies_exists_and_passes_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(_copied())
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_holds_every_package_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages == {source for source in _copied() if (ROOT / source).is_dir()}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_built_from_a_stage_that_exists_and_has_what_it_runs(name: str) -> None:
    service = SERVICES[name]
    stages = re.findall(r"^FROM .* AS ([\w-]+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert service["build"]["target"] in stages
    assert service["image"] == f"kiln-{service['build']['target']}"
    assert service["command"][:2] == ["python", "-m"]
    module = ROOT / service["command"][2].replace(".", "/")
    assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
    assert service["user"].split(":")[0] in re.findall(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())


def test_compose_gives_only_arguments_that_the_dockerfile_takes() -> None:
    taken = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.M))
    assert set(SERVICES["worker"]["build"]["args"]) <= taken


def _copied() -> Iterator[str]:
    """What the Dockerfile copies out of the project, not out of other stages."""
    for line in re.findall(r"^COPY (.*)$", (ROOT / "Dockerfile").read_text(), re.M):
        if not line.startswith("--from"):
            yield from (source.rstrip("/") for source in shlex.split(line)[:-1])
