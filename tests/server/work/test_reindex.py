"""Resources of a database from before revision 0008 get their rows from the worker, and a version knows how it came."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import column, insert, select, table

from server.records import index_rows, parameters, resources
from server.records.resources import RESOURCE, VERSION
from server.settings import load
from server.store import jobs
from server.store.db import Database
from server.store.many import many
from server.store.migrations import configuration, migrate
from server.work.reindex import REINDEX, Reindexer

PK = 77
BODY = (
    b'{"resourceType":"Patient","id":"p","meta":{"versionId":"1","lastUpdated":"1970-01-01T00:00:00.000Z"},"gender":"female",'
    b'"identifier":[{"system":"urn:oid:1.2.3","value":"1"}]}'
)


@pytest.fixture
def old(bare_database_url: str) -> Iterator[Database]:
    """At revision 0007, with a Patient in it."""
    database = Database(bare_database_url)
    config = configuration()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
    with database.write() as connection:
        row = {
            "pk": PK,
            "type": "Patient",
            "id": "p",
            "version": 1,
            "updated": 5,
            "patient": "p",
            "date": 0,
            "date_end": 0,
            "status": "",
        }
        body = resources.packed(BODY)
        connection.execute(insert(table("resource", *map(column, [*row, "body"]))).values(**row, body=body))
        version = {"resource_pk": PK, "version": 1, "updated": 5, "body": body}
        connection.execute(insert(table("resource_version", *map(column, version))).values(**version))
    yield database
    database.close()


def test_what_was_stored_before_is_indexed_in_the_background(old: Database, tmp_path: Path) -> None:
    migrate(old)
    with old.read() as connection:
        assert connection.execute(select(VERSION.c.type, VERSION.c.method)).all() == [("Patient", "PUT")]
        assert resources.read(connection, "Patient", "p").body == BODY
        assert [each.type for each in parameters.indexing(connection)] == ["Patient"]
    due = jobs.claim(old, REINDEX)
    Reindexer(load(data=tmp_path), old).run(due)
    with old.read() as connection:
        assert parameters.indexing(connection) == []
        assert not jobs.is_known(connection, REINDEX, "Patient")
        index = parameters.indexer(connection, "Patient").index(resources.content(connection, "Patient", "p"), "")
        for walked, rows in index_rows.found("Patient", index).rows.items():
            assert len(many(walked).of(connection, PK)) == len(rows) > 0
        assert connection.execute(select(RESOURCE.c.body)).scalar_one() == resources.packed(BODY)
        assert connection.execute(select(RESOURCE.c.patient)).scalar_one() == "p"
        assert connection.execute(select(VERSION.c.patient)).scalar_one() == "p"
    with old.write() as connection:
        assert resources.put(connection, resources.content(connection, "Patient", "p")).version == 1


def test_a_database_goes_back_to_the_revision_before_without_what_was_deleted(old: Database) -> None:
    migrate(old)
    with old.write() as connection:
        resources.create(connection, {"resourceType": "Patient", "id": "q"})
        resources.delete(connection, "Patient", "q")
    config = configuration()
    with old.rebuild() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
    with old.read() as connection:
        assert connection.exec_driver_sql("SELECT id, version FROM resource").all() == [("p", 1)]
        assert connection.exec_driver_sql("SELECT resource_pk, version FROM resource_version").all() == [(PK, 1)]
    migrate(old)
