"""The migrations lead to the schema that the tables describe, on both engines."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from peers.together import together
from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, MetaData, Table, select
from sqlalchemy.exc import IntegrityError

from profiles.document import APPROVED
from server.errors import SettingsError
from server.records import resources
from server.records.index_keys import token_hash
from server.store.db import Database, ping
from server.store.migrations import configuration, migrate, require_current
from server.store.tables import METADATA


@pytest.fixture
def database(bare_database_url: str) -> Iterator[Database]:
    opened = Database(bare_database_url)
    yield opened
    opened.close()


def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    migrate(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_a_database_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/database")
    with pytest.raises(SettingsError, match="there is no imageshare database"):
        require_current(database)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_refused_with_what_to_do(database: Database) -> None:
    ping(database)  # which makes SQLite's file
    with pytest.raises(SettingsError, match="imageshare migrate"):
        require_current(database)
    migrate(database)
    require_current(database)


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for refusing in (require_current, migrate):
        with pytest.raises(
            SettingsError, match=r"revision 9999, of a newer version .* install that newer version again, or restore"
        ):
            refusing(database)


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO installation (key, value) VALUES ('kept', 'yes')")
    migrate(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM installation").scalar() == "yes"


def test_processes_that_start_together_wait_for_each_other(database: Database) -> None:
    def start() -> None:
        own = Database(database.url.render_as_string(hide_password=False))
        try:
            migrate(own)
        finally:
            own.close()

    assert together(*[start] * 4) == []
    require_current(database)


REVISIONS = sorted(each.revision for each in ScriptDirectory.from_config(configuration()).walk_revisions())
TAKEN_OVER = {"document_entry", "submission_set", "document_association"}
"""Tables that are no more: their rows are those of `registry_object` and its like."""
MANIFEST = orjson.dumps(
    {
        "status": APPROVED, "creation_time": "20260101", "submission_time": "20260102", "mime_type": "application/dicom", "hash": "a" * 40,
        "size": 5, "patient_id": "p^^^&1.2&ISO", "title": "CT", "class_code": {"code": "a", "scheme": "1.2.3", "display": "A"},
        "authors": [{"person": "^Alba", "institutions": [], "roles": [], "specialties": []}], "reference_ids": ["1^^^^urn:x"],
    }
)  # fmt: skip
NO_BLOB = "UPDATE instance SET blob_id = 'missing'"


def older(database: Database, revision: str) -> list[Table]:
    """Brings an empty database to `revision`. Returns its tables, what is referred to first."""
    with database.write() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        known = MetaData()
        known.reflect(connection)
        return [table for table in known.sorted_tables if table.name != "alembic_version"]


def value(column: "Column[object]") -> object:
    """What the one row of a table has there; a foreign key has that of the row that it refers to."""
    if isinstance(column.type, Integer | Float):
        return 77  # not what a sequence begins with
    for key in column.foreign_keys:
        return value(key.column)
    text = f"{column.table.name}.{column.name}"
    if column.name == "body" and column.table.name in TAKEN_OVER:
        return MANIFEST
    return text.encode() if isinstance(column.type, LargeBinary) else text


def fill(connection: Connection, tables: list[Table]) -> None:
    for table in tables:
        connection.execute(table.insert().values({column.name: value(column) for column in table.c}))


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_the_rows_of_every_table_outlive_the_migrations(database: Database, revision: str) -> None:
    tables = older(database, revision)
    with database.write() as connection:
        fill(connection, tables)
    migrate(database)
    require_current(database)
    with database.read() as connection:
        for table in (each for each in tables if each.name not in TAKEN_OVER):
            first = [column == value(column) for column in table.primary_key]
            assert list(connection.execute(select(table).where(*first)).one()) == [value(column) for column in table.c], (
                table.name
            )
    with pytest.raises(IntegrityError), database.write() as connection:  # the keys are enforced as ever
        connection.exec_driver_sql(NO_BLOB)


def test_manifests_come_along_with_what_queries_look_for_and_go_back(database: Database) -> None:
    tables = older(database, "0013")
    with database.write() as connection:
        fill(connection, tables)
    migrate(database)
    with database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT kind, entry_uuid, study_pk, status, time, hash FROM registry_object ORDER BY pk"
        ).all()
        assert [tuple(each) for each in found] == [
            ("document", "document_entry.entry_uuid", 77, "document_entry.status", "20260101", "a" * 40),
            ("submission", "submission_set.entry_uuid", None, APPROVED, "20260102", "a" * 40),
        ]
        terms = connection.exec_driver_sql(
            "SELECT kind, value, scheme FROM registry_term WHERE object_pk = 1 ORDER BY number"
        ).all()
        assert [tuple(each) for each in terms] == [
            ("class_code", "a", "1.2.3"), ("authors", "^Alba", ""), ("reference_ids", "1^^^^urn:x", ""), ("title", "CT", ""),
        ]  # fmt: skip
        kept = connection.exec_driver_sql("SELECT unique_id, blob_id, mime_type, size FROM repository_document").one()
        assert tuple(kept) == ("document_entry.unique_id", "blob.id", "application/dicom", 5)
        assert connection.exec_driver_sql("SELECT source, status FROM registry_association").one() == (
            "document_association.source",
            APPROVED,
        )
    with database.rebuild() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "0013")
    with database.read() as connection:
        entry = connection.exec_driver_sql(
            "SELECT entry_uuid, study_pk, patient_cx, status, blob_id, body FROM document_entry"
        ).one()
        assert tuple(entry) == ("document_entry.entry_uuid", 77, "p^^^&1.2&ISO", "document_entry.status", "blob.id", MANIFEST)
        for name in ("submission_set", "document_association"):
            assert connection.exec_driver_sql(f"SELECT entry_uuid FROM {name}").scalar_one() == f"{name}.entry_uuid"


def test_versions_get_the_patient_of_their_resource_but_not_of_a_study_that_was_moved(database: Database) -> None:
    tables = older(database, "0007")
    with database.write() as connection:
        fill(connection, tables)
        version = next(table for table in tables if table.name == "resource_version")
        connection.execute(version.insert().values(resource_pk=77, version=78, updated=1, body=b""))
        connection.exec_driver_sql("UPDATE resource SET type = 'ImagingStudy', id = 'study.id', version = 78, patient = 'now'")
        moved = connection.exec_driver_sql("SELECT study_pk FROM former_patient").scalar_one()
        assert connection.exec_driver_sql("SELECT pk FROM study WHERE id = 'study.id'").scalar_one() == moved
    migrate(database)
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT version, type, patient FROM resource_version ORDER BY version").all()
        assert [tuple(each) for each in found] == [(77, "ImagingStudy", ""), (78, "ImagingStudy", "now")]
        # Nothing is indexed yet by parameters that searches look at now.
        assert connection.exec_driver_sql("SELECT type, codes FROM reindexing").one() == ("ImagingStudy", "*")


def test_tokens_are_found_by_the_revision_before_after_a_way_back(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        identifiers = [{"system": "urn:a", "value": "1"}, {"value": "1"}]
        resources.put(connection, {"resourceType": "Patient", "id": "p", "identifier": identifiers})
    with database.rebuild() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
    with database.read() as connection:
        hashes = set(connection.exec_driver_sql("SELECT hash FROM token").scalars())
    forms = (("urn:a", "1"), ("", "1"), (None, "1"), ("urn:a", None))
    assert {token_hash("Patient", "identifier", *form) for form in forms} <= hashes


@pytest.mark.parametrize("name", ["foreign_entry", "foreign_document"])
def test_there_is_no_way_back_from_what_is_registered_at_partners(database: Database, name: str) -> None:
    tables = older(database, "0018")
    others = [each for each in tables if each.name.startswith("foreign_") and each.name != name]
    with database.write() as connection:
        fill(connection, tables)
        for each in others:
            connection.execute(each.delete())
    with pytest.raises(RuntimeError, match="registered at partners"):
        _back(database, "0017")
    with database.write() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() == 1
        connection.exec_driver_sql(f"DELETE FROM {name}")
    _back(database, "0017")


def _back(database: Database, revision: str) -> None:
    with database.rebuild() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_a_database_with_rows_that_refer_to_nothing_stays_as_it_was(tmp_path: Path) -> None:
    """PostgreSQL cannot have such rows; SQLite can, by whoever opened it without its foreign keys."""
    database = Database(f"sqlite:///{tmp_path}/database")
    tables = older(database, "0001")
    with database.write() as connection:
        fill(connection, tables)
    with database.rebuild() as connection:
        connection.exec_driver_sql(NO_BLOB)
    with pytest.raises(SettingsError, match="refer to others"):
        migrate(database)
    with pytest.raises(SettingsError, match="revision 0001"):
        require_current(database)
    database.close()


def test_what_mhd_searches_by_is_indexed_of_what_was_there(database: Database) -> None:
    older(database, "0018")
    with database.write() as connection:
        resources.put(connection, {"resourceType": "List", "id": "l", "status": "current", "mode": "working"})
    migrate(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT type, codes FROM reindexing").all() == [("List", "designationType sourceId")]
        assert connection.exec_driver_sql("SELECT key FROM job WHERE kind = 'reindex'").all() == [("List",)]
