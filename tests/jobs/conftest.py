"""An engine on a fresh, migrated database, and short ways to put jobs into it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from common.db import make_engine


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, name="kiln-test")
    yield engine
    engine.dispose()
