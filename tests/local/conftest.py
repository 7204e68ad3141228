"""As root the databases of these homes lie where PostgreSQL's user can reach them: they go with the test's folder."""

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _databases_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield
    for noted in tmp_path_factory.getbasetemp().glob("*/**/postgres.place"):
        if "services with a space" not in str(noted):  # the session's own, still in use
            shutil.rmtree(noted.read_text(), ignore_errors=True)
