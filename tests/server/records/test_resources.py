"""FHIR resources: exact bytes, every version, one identity each."""

from functools import partial

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from peers.together import together
from sqlalchemy import func, select

from server.errors import Conflict, NotFound
from server.records import identities, resources
from server.records.index_keys import exact_token
from server.store.db import Database, instant


def _patient(id_: str = "p", value: str = "1", **more: object) -> dict[str, object]:
    return {"resourceType": "Patient", "id": id_, "identifier": [{"system": "urn:oid:1.2.3", "value": value}], **more}


def _put(database: Database, resource: dict[str, object], now: int | None = None) -> resources.Stored:
    with database.write() as connection:
        return resources.put(connection, resource, now=now)


def test_put_stamps_and_read_gives_the_same_bytes(database: Database) -> None:
    put = _put(database, _patient(gender="female"), now=1_000_000_123_000)
    with database.read() as connection:
        assert resources.read(connection, "Patient", "p") == put
        assert resources.vread(connection, "Patient", "p", 1) == put
    body = orjson.loads(put.body)
    assert list(body)[:3] == ["resourceType", "id", "meta"]
    assert body["meta"] == {"versionId": "1", "lastUpdated": instant(1_000_000_123_000)}
    assert (put.etag, put.patient, body["gender"]) == ('W/"1"', "p", "female")


def test_unchanged_content_makes_no_new_version(database: Database) -> None:
    first = _put(database, _patient())
    assert _put(database, _patient()) == first
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(resources.VERSION)).scalar() == 1


def test_changed_content_makes_the_next_version_and_keeps_the_last(database: Database) -> None:
    first = _put(database, _patient(gender="female"), now=5_000_000)
    second = _put(database, _patient(gender="male"), now=5_000_000)
    assert second.version == 2
    assert second.updated > first.updated, "also when the clock stands still or goes back"
    with database.read() as connection:
        assert resources.vread(connection, "Patient", "p", 1).body == first.body
        assert resources.vread(connection, "Patient", "p", 2).body == second.body
        assert resources.read(connection, "Patient", "p") == second
        for version in (0, 3):
            with pytest.raises(NotFound):
                resources.vread(connection, "Patient", "p", version)


def test_what_is_not_there_is_not_found(database: Database) -> None:
    _put(database, _patient())
    with database.read() as connection:
        for type_, id_ in (("Patient", "q"), ("ImagingStudy", "p")):
            with pytest.raises(NotFound):
                resources.read(connection, type_, id_)


def test_a_business_identifier_belongs_to_one_resource(database: Database) -> None:
    _put(database, _patient("p", "1"))
    with pytest.raises(Conflict):
        _put(database, _patient("q", "1"))
    with database.read() as connection:
        assert identities.by_identity(connection, "Patient", "urn:oid:1.2.3", "1") == "p"
        with pytest.raises(NotFound):
            resources.read(connection, "Patient", "q")
    _put(database, _patient("q", "2"))


def test_identifiers_and_tokens_follow_the_resource(database: Database) -> None:
    _put(database, _patient("p", "1"))
    _put(database, _patient("p", "2"))
    with database.read() as connection:
        assert identities.by_identity(connection, "Patient", "urn:oid:1.2.3", "1") is None
        assert identities.by_identity(connection, "Patient", "urn:oid:1.2.3", "2") == "p"
        rows = connection.execute(select(resources.TOKEN.c.hash, resources.TOKEN.c.exact)).all()
    hashes = {number for row in rows for number in row}
    assert {resources.token_hash("Patient", "identifier", *form) for form in ((None, "2"), ("urn:oid:1.2.3", None))} <= hashes
    assert exact_token("Patient", "identifier", "urn:oid:1.2.3", "2") in hashes
    assert exact_token("Patient", "identifier", "urn:oid:1.2.3", "1") not in hashes
    assert resources.token_hash("Patient", "identifier", None, "1") not in hashes


def test_writers_that_meet_make_one_resource_with_a_version_each(database: Database) -> None:
    writers = [partial(_put, database, _patient(gender=f"g{number}")) for number in range(6)]
    assert together(*writers) == []
    with database.read() as connection:
        versions = sorted(connection.execute(select(resources.VERSION.c.version)).scalars())
        assert versions == [1, 2, 3, 4, 5, 6]
        assert resources.read(connection, "Patient", "p").version == 6
        assert connection.execute(select(func.count()).select_from(resources.RESOURCE)).scalar() == 1


@given(st.binary(max_size=3000))
def test_packing_is_reversible(body: bytes) -> None:
    assert resources.unpacked(resources.packed(body)) == body


def test_large_bodies_are_packed_small() -> None:
    assert len(resources.packed(b'{"a": "b"}' * 1000)) < 200


@example(["a\x1f=b", None, "", ""], ["a", "b\x1f*", "", ""])
@example(["a", "=b\x1f=c", "", ""], ["a\x1f==b", "c", "", ""])
@given(
    st.lists(st.none() | st.text(max_size=5), min_size=4, max_size=4),
    st.lists(st.none() | st.text(max_size=5), min_size=4, max_size=4),
)
def test_token_hashes_tell_values_apart(one: list[str | None], other: list[str | None]) -> None:
    """Absent is not empty, and no value runs into the next, whatever it has in it."""
    a = ("Patient", "identifier", one[0], one[1])
    b = ("Patient", "identifier", other[0], other[1])
    assert (resources.token_hash(*a) == resources.token_hash(*b)) == (a == b)
    assert -(1 << 63) <= resources.token_hash(*a) < 1 << 63
