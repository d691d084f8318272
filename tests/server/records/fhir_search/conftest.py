"""A database that the tests of a module share, and a connection to it of which nothing stays."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from server.store.db import Database


@pytest.fixture(scope="module")
def module_database(module_database_url: str) -> Iterator[Database]:
    """Open, on each engine."""
    opened = Database(module_database_url, durable=False)
    yield opened
    opened.close()


@pytest.fixture
def connection(module_database: Database) -> Iterator[Connection]:
    """What a test does in it is undone."""
    with module_database.write() as opened:
        nested = opened.begin_nested()
        yield opened
        nested.rollback()
