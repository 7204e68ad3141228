"""The compose file and its example say what our code needs, and nothing that it does not."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from common.settings import MigrationSettings, Settings
from tests.containers.compose import ROOT, Missing, environment, interpolate, load, read, read_env

GPU = ["worker-gpu", *(f"worker-gpu-{number}" for number in range(1, 8))]
OURS = {"migrate", "api", "sweeper", "worker", *GPU}
ONE_SHOT = {"migrate", "minio-owner"}
WITHOUT_HEALTH_CHECK = ONE_SHOT | {"sweeper"}  # nothing waits for it, and Docker starts it again
AS_ROOT = {"minio-owner"}  # gives a fresh volume, which is root's, to MinIO's user; may do nothing else

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = read_env(ROOT / ".env.example")
FILLED = {**EXAMPLE, **{name: "made-up" for name, value in EXAMPLE.items() if not value}}
SERVICES = load(FILLED)
IMAGES = {"migrate": "api", "worker": "worker", "worker-gpu": "worker"}  # who builds, of those that share an image

# Where a container without a volume or tmpfs of ours leaves an anonymous one: what the images declare
DECLARED = {
    "postgres": "/var/lib/postgresql",
    "redis": "/data",
    "minio/minio": "/data",
    "prom/prometheus": "/prometheus",
}


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


def test_a_service_has_the_passwords_that_it_needs_and_no_other() -> None:
    """A worker on a rented machine with the password of whoever owns the database in its environment."""
    in_example = re.findall(r"^#?(\w*(?:PASSWORD|SECRET|TOKEN)\w*)=", (ROOT / ".env.example").read_text(), re.M)
    for_migrations = [f"KILN_{name.upper()}" for name in MigrationSettings.model_fields if "password" in name]
    secret = {name: f"the secret {name}" for name in [*in_example, *for_migrations, "HF_TOKEN"]}
    filled = {**FILLED, **secret}
    needs = {
        "postgres": {"POSTGRES_PASSWORD"},
        "redis": {"REDIS_PASSWORD"},
        "minio": {"KILN_S3_SECRET_KEY"},
        "migrate": {"POSTGRES_PASSWORD", "API_PASSWORD", "WORKER_PASSWORD"},
        "grafana": {"GRAFANA_PASSWORD"},
        **{name: {"API_PASSWORD", "REDIS_PASSWORD", "KILN_S3_SECRET_KEY"} for name in ("api", "sweeper")},
        **{name: {"WORKER_PASSWORD", "REDIS_PASSWORD", "KILN_S3_SECRET_KEY", "HF_TOKEN"} for name in ("worker", *GPU)},
    }
    for name, service in load(filled).items():
        seen = "\n".join(environment(service, filled).values())
        assert {variable for variable, value in secret.items() if value in seen} == needs.get(name, set()), name


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


def test_workers_on_cpus_are_as_many_as_env_says_and_share_the_cores() -> None:
    """--scale is forgotten by the next `up` without it; and workers that each take all cores wait for one another."""
    for name in ("worker", *GPU):
        assert not {"container_name", "ports", "hostname"} & SERVICES[name].keys()
    assert SERVICES["worker"]["deploy"] == {"replicas": "1"}
    three = load({**FILLED, "WORKERS": "3"})["worker"]
    assert three["deploy"] == {"replicas": "3"}
    assert environment(three, {})["KILN_WORKERS"] == "3"
    assert set(EXAMPLE["COMPOSE_PROFILES"].split(",")) == {*SERVICES["worker"]["profiles"], "minio"}


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_profile_starts_a_worker_for_each_of_its_gpus(count: int) -> None:
    """What `docker compose run` starts for a second one, neither a reboot nor `down` knows of."""
    profile = "gpu" if count == 1 else f"gpu{count}"
    started = {name: service for name, service in SERVICES.items() if profile in service.get("profiles", [])}
    assert list(started) == GPU[:count]
    reserved = [service["deploy"]["resources"]["reservations"]["devices"] for service in started.values()]
    assert reserved == [
        [{"driver": "nvidia", "device_ids": [str(number)], "capabilities": ["gpu"]}] for number in range(count)
    ]


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
    images = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert all(re.search(r":[\w.-]*\d", image) for image in images), images


@pytest.mark.parametrize(("name", "service"), SERVICES.items(), ids=SERVICES)
def test_a_service_leaves_no_anonymous_volume_behind(name: str, service: Mapping[str, Any]) -> None:
    """One more with each `up` and `down`, of which `down --volumes` takes the latest alone."""
    declared = DECLARED.get(service["image"].partition(":")[0])
    mounted = {volume.split(":")[1] for volume in service.get("volumes", [])} | set(service.get("tmpfs", []))
    assert declared is None or declared in mounted


def test_every_volume_is_declared_and_postgres_has_its_own_where_18_wants_it() -> None:
    volumes = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    mounted = [volume for volume in volumes if not volume[0].startswith("./")]
    assert {name for name, _ in mounted} == read()["volumes"].keys()
    assert ["postgres", "/var/lib/postgresql"] in mounted
    assert environment(SERVICES["worker"], {})["KILN_HOME"] in [place for name, place in mounted if name == "models"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_has_what_it_runs_from_a_stage_that_exists(name: str) -> None:
    service = SERVICES[name]
    stages = re.findall(r"^FROM .* AS ([\w-]+)$", DOCKERFILE, re.M)
    target = service["image"].removeprefix("kiln-")
    assert target in stages
    if name in IMAGES:
        assert service["build"]["target"] == target == IMAGES[name]
    else:  # the same image once more, and an untagged one left by each build; but it must not be looked for elsewhere
        assert "build" not in service
        assert service["pull_policy"] == "never"
    assert service["command"][:2] == ["python", "-m"]
    module = ROOT / service["command"][2].replace(".", "/")
    assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
    assert service["user"].split(":")[0] in re.findall(r"useradd --uid (\d+)", DOCKERFILE)


def test_compose_gives_only_arguments_that_the_dockerfile_takes() -> None:
    taken = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    assert set(SERVICES["worker"]["build"]["args"]) <= taken
