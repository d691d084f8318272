"""Business identifiers that exist once, of whatever length."""

import pytest
from sqlalchemy import text

from server.errors import Conflict, Invalid
from server.records import identities, resources
from server.store.db import Database
from server.store.migrations import migrate

LONG = "1.2." + "7" * 9000


@pytest.mark.parametrize("system", ["urn:oid:1.2.3", f"urn:oid:{LONG}"])
def test_a_long_identifier_exists_once_as_any_other(database_url: str, system: str) -> None:
    """PostgreSQL's index takes no row of that length."""
    database = Database(database_url)
    migrate(database)
    named = [{"system": system, "value": LONG}]
    with database.write() as connection:
        resources.put(connection, {"resourceType": "Patient", "id": "p", "identifier": named})
        resources.put(connection, {"resourceType": "Patient", "id": "p", "identifier": named, "active": True})
        resources.put(connection, {"resourceType": "Patient", "id": "q", "identifier": [{**named[0], "value": LONG + "8"}]})
    with database.write() as connection, pytest.raises(Conflict):
        resources.create(connection, {"resourceType": "Patient", "id": "r", "identifier": named})
    with database.write() as connection:
        assert identities.by_identity(connection, "Patient", system, LONG) == "p"
        assert identities.by_identity(connection, "Patient", system, LONG + "8") == "q"
        identities.disown(connection, "Patient", system, LONG)
        assert identities.by_identity(connection, "Patient", system, LONG) is None
    database.close()


def test_what_no_index_takes_is_refused_for_good(postgresql_database: str) -> None:
    """To say that it can be tried again later would be untrue."""
    database = Database(postgresql_database)
    with pytest.raises(Invalid, match="longer than the server's database takes") as told, database.write() as connection:
        connection.execute(text("CREATE TABLE one (value TEXT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO one SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n"))
    assert (told.value.http_status, told.value.fhir_code) == (422, "too-long")
    database.close()
