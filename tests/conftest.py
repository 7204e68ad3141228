"""Real servers for the whole session, and a fresh, migrated database for whoever asks."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from common.local.services import Services, running_services
from common.settings import Settings
from tests.browser.chromium import NAMES, find_chromium
from tests.deployment import Kiln, running_kiln

_numbers = itertools.count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out for want of a browser, where it would have been run."""
    browser = Path(__file__).parent / "browser"
    asked = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    if find_chromium() is None and any(path == browser or path in browser.parents for path in asked):
        terminalreporter.write_line(
            f"Left out: tests/browser, for none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)"
        )


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """PostgreSQL, Valkey and SeaweedFS on loopback ports of their own, gone at the end of the session.

    Where KILN_TEST_SERVICES tells, as JSON, of some that run already, those: for many short sessions in a row.
    """
    if running := os.environ.get("KILN_TEST_SERVICES"):
        yield Services(**json.loads(running))
        return
    home = tmp_path_factory.mktemp("services with a space")
    with running_services(home, durable=False) as started:
        yield started
    if (noted := home / "postgres.place").exists():  # as root the database lay elsewhere
        shutil.rmtree(noted.read_text())


@pytest.fixture(scope="session")
def _template(services: Services) -> str:
    """A migrated database that others are copied from: much faster than migrating each."""
    migrations = sorted((Path(__file__).parents[1] / "migrations" / "versions").glob("*.py"))
    name = "template_" + hashlib.sha256(b"".join(each.read_bytes() for each in migrations)).hexdigest()[:12]
    try:
        _create(services, name)
    except psycopg.errors.DuplicateDatabase:  # an earlier session on these servers made it
        return name
    subprocess.run(
        [sys.executable, "-m", "migrations"],
        env=os.environ | {"KILN_DATABASE_URL": _url(services, name)},
        check=True,
    )
    return name


@pytest.fixture
def database_url(services: Services, _template: str) -> Iterator[str]:
    """A fresh, migrated, empty database."""
    with _database(services, _template) as url:
        yield url


@pytest.fixture(scope="module")
def module_settings(services: Services, _template: str) -> Iterator[Settings]:
    """Settings that name a database, a broker database and a bucket of the module's own."""
    with _database(services, _template) as url:
        yield _settings(services, url)


@pytest.fixture(scope="session")
def served(services: Services, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiln]:
    """One Kiln with a worker for the whole session, for tests that only send it jobs."""
    with (
        _database(services, _template) as url,
        running_kiln(_settings(services, url), tmp_path_factory.mktemp("served")) as kiln,
        kiln.worker(),
    ):
        yield kiln


def _settings(services: Services, database_url: str) -> Settings:
    number = next(_numbers)
    return Settings.model_validate(
        {
            "database_url": database_url,
            "broker_url": services.broker_url.removesuffix("/0") + f"/{number % 16}",
            "s3_endpoint_url": services.s3_endpoint_url,
            "s3_access_key": services.s3_access_key,
            "s3_secret_key": services.s3_secret_key,
            "s3_bucket": f"kiln-test-{os.getpid()}-{number}",
        }
    )


class _database:
    """A database of its own, during the block."""

    def __init__(self, services: Services, template: str) -> None:
        self._services = services
        self._template = template
        self._name = f"test_{os.getpid()}_{next(_numbers)}"

    def __enter__(self) -> str:
        _create(self._services, self._name, self._template)
        return _url(self._services, self._name)

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self._services.database_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self._name)))


def _create(services: Services, name: str, template: str = "template0") -> None:
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _url(services: Services, database: str) -> str:
    return services.database_url.rpartition("/")[0] + f"/{database}"
