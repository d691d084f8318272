"""Tokens (FHIR R4 section 3.1.1.4.10): one row of a code, whatever its systems, tells of `code` and of `system|code`."""

import pytest
from peers.fhir_search import asked, found, observation, page
from sqlalchemy import Connection

from server.records import index_rows, resources
from server.store.many import many

_SEVERAL = [{"system": "urn:a", "code": "x"}, {"system": "urn:b", "code": "x"}, {"code": "x"}, {"system": "urn:b", "code": "y"}]


@pytest.fixture
def told(connection: Connection) -> Connection:
    resources.put(connection, {**observation("several"), "code": {"coding": _SEVERAL}})
    resources.put(connection, {**observation("one"), "code": {"coding": _SEVERAL[1:2]}})
    resources.put(connection, {**observation("other"), "code": {"coding": [{"system": "urn:c", "code": "x"}]}})
    return connection


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("code=x", ["one", "other", "several"]),
        ("code=urn:a|x", ["several"]),
        ("code=urn:b|x", ["one", "several"]),
        ("code=|x", ["several"]),
        ("code=urn:b|", ["one", "several"]),
        ("code=urn:a|y", []),
        ("code=urn:a|x,urn:b|y", ["several"]),
        ("code=urn:a|y,urn:b|x", ["one", "several"]),
        ("code=urn:c|,urn:a|x,y", ["other", "several"]),
        ("code:not=urn:b|x", ["other"]),
        ("code:not=urn:a|", ["one", "other"]),
    ],
)
@pytest.mark.parametrize("sort", ["", "&status=final", "&_sort=date", "&_sort=-date", "&_sort=-_lastUpdated"])
def test_a_code_of_several_systems_is_found_once_by_each(told: Connection, query: str, ids: list[str], sort: str) -> None:
    assert sorted(found(told, "Observation", query + sort)) == ids


def test_each_page_of_a_code_goes_on_where_the_last_ended(told: Connection) -> None:
    search, ids = asked("Observation", "code=x&_sort=-date"), []
    first = page(told, search, 1)
    while first.matches:
        ids += [match.id for match in first.matches]
        if first.next is None:
            break
        first = page(told, search, 1, first.next)
    assert sorted(ids) == ["one", "other", "several"]


def test_a_code_has_one_row_for_each_of_its_systems(told: Connection) -> None:
    pk = told.execute(resources.RESOURCE.select().where(resources.RESOURCE.c.id == "one")).one().pk
    code = index_rows.keys.token_hashes("Observation", "code", "urn:b", "x")
    rows = {row for row in many(index_rows.TOKEN).of(told, pk) if row[0] in code}
    assert {(row[0], row[3]) for row in rows} == {(code[0], code[1]), (code[2], 0)}
