"""A Kiln of the module's own, with leases short enough to watch run out. Each test brings its workers."""

from collections.abc import Iterator

import pytest

from common.settings import Settings
from tests.deployment import Kiln, running_kiln
from tests.processes import changed


@pytest.fixture(scope="module")
def kiln(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiln]:
    settings = changed(module_settings, lease_seconds=3, heartbeat_seconds=0.5, sweep_seconds=0.3)
    with running_kiln(settings, tmp_path_factory.mktemp("system")) as started:
        yield started
