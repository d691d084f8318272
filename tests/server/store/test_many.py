"""Rows by the dozen, on both engines: what is told of each, and what is told where a key is taken."""

import pytest
from sqlalchemy.exc import IntegrityError

from server.store.db import Database
from server.store.many import Adding
from server.store.tables import Identity, RegistryAssociation, Resource

RESOURCES = Adding(Resource.__table__, ("type", "id"), "pk", unless_there=True)  # type: ignore[attr-defined]
ASSOCIATIONS = Adding(RegistryAssociation.__table__, ("entry_uuid",), "pk")  # type: ignore[attr-defined]
IDENTITIES = Adding(Identity.__table__, ("type", "system", "value"), "resource_pk", unless_there=True)  # type: ignore[attr-defined]


def resource(id_: str) -> dict[str, object]:
    return {
        "type": "Basic", "id": id_, "version": 1, "updated": 2, "deleted": 0, "patient": "", "date": 0, "date_end": 0, "status": "",
        "body": b"\x00'{\",", "summary": None, "indexed": id_.encode(),
    }  # fmt: skip


def association(id_: str) -> dict[str, object]:
    return {"entry_uuid": id_, "type": "t", "source": "s", "target": "{,\"'\\", "status": "", "body": b"{}"}


def test_each_is_told_by_its_number_in_the_order_in_which_they_came(database: Database) -> None:
    names = [f"r{number}" for number in range(250)]
    with database.write() as connection:
        pks = RESOURCES.add(connection, [resource(name) for name in names])
        rows = connection.exec_driver_sql("SELECT id, pk, body, summary FROM resource").all()
    assert {(id_, pk) for id_, pk, *_ in rows} == set(zip(names, pks, strict=True))
    assert {(bytes(body), summary) for *_, body, summary in rows} == {(b"\x00'{\",", None)}


def test_what_is_there_or_came_before_among_them_is_left_out(database: Database) -> None:
    with database.write() as connection:
        (first,) = RESOURCES.add(connection, [resource("a")])
        found = RESOURCES.add(connection, [resource("b"), resource("a"), resource("b")])
        assert found[0] not in (None, first)
        assert found[1:] == [None, None]
        rows = [
            {"type": "Basic", "system": "s", "value": "v", "resource_pk": first},
            {"type": "Basic", "system": "s", "value": "v", "resource_pk": found[0]},
        ]
        assert IDENTITIES.add(connection, rows) == [first, None]
        assert RESOURCES.add(connection, []) == []


def test_a_key_that_is_taken_is_the_error_that_sqlalchemy_has_for_it_and_it_tells_no_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as told, database.write() as connection:
        ASSOCIATIONS.add(connection, [association("a")])
        ASSOCIATIONS.add(connection, [association("b"), association("a")])
    assert told.value.params is None
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM registry_association").scalar() == 0
