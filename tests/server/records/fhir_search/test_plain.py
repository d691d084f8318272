"""Statements that are known: the same finds as those that are made for a search, by other values, pages and Decisions."""

from collections.abc import Iterator
from typing import Any

import pytest
from peers.fhir_search import BASE, LATER
from sqlalchemy import ColumnElement, Connection, event, true

from profiles.fhir.query import Search
from profiles.fhir.search_request import read
from server.records import fhir_search, resources
from server.records.fhir_search import Page, Position, ResourceRow, plain, whose
from server.store.db import Database

ON_BOTH_ENGINES = True


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    database = Database(database_url, durable=False)
    with database.write() as opened:
        for number in range(24):
            resources.put(opened, _study(number), now=1_000_000_000_000_000 + number, base=BASE)
        yield opened
    database.close()


def _study(number: int) -> dict[str, Any]:
    study: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": f"s{number}",
        "status": "available" if number % 3 else "cancelled",
        "subject": {"reference": f"Patient/p{number % 4}"},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{number}"}],
        "modality": [{"system": "http://example.org", "code": ("CT", "MR")[number % 2]}],
        "encounter": {"reference": f"Encounter/e{number % 5}"},
    }
    if number % 6:
        study["started"] = f"20{10 + number:02}-05-0{1 + number % 9}T10:00:00Z"
    return study


def _asked(query: str) -> Search:
    pairs = [tuple(each.split("=", 1)) for each in query.split("&") if each]
    return read(("ImagingStudy",), pairs, base=BASE, now=LATER)  # type: ignore[arg-type]


def _page(connection: Connection, search: Search, patient: str, only: frozenset[str] | None, after: Position | None) -> Page:
    def may(_: str, row: ResourceRow) -> ColumnElement[bool]:
        return whose(row) == patient if patient else true()

    return fhir_search.page(
        connection, search, decision_where=may, confined=bool(patient), count=3, began=LATER, after=after, only=only
    )


_PLAIN = [
    "", "_sort=started", "_sort=-started", "_sort=_lastUpdated", "_sort=-_lastUpdated", "patient=p1", "subject=Patient/p2",
    "patient=p1,p2", "status=available", "status=available,cancelled&_sort=-started", "modality=http://example.org|CT",
    "modality=|CT", "identifier=urn:dicom:uid|urn:oid:1.2.7", "encounter=e3", "encounter=Encounter/e1,Encounter/e2",
    "started=ge2015", "started=lt2020-05-03&started=ge2012", "started=2014", "started=ne2014-05-05", "started=ap2019",
    "started=gt2013-05-04T10:00:00Z", "started=sa2013&started=eb2030", "patient=p1&started=ge2012&status=available",
    "_lastUpdated=ge2001-09-09", "modality=CT&started=le2025&_sort=-started", "_id=s1", "_id=s1,s2,s5,s9,s13", "_id=|s1,s2",
]  # fmt: skip


_NEVER = {"started=ap2019", "_id=|s1,s2"}
_LOOKED_UP = {"started=ne2014-05-05", "_lastUpdated=ge2001-09-09", "_id=s1", "_id=s1,s2,s5,s9,s13"}
"""Whether few resources meet these is asked first, unless the caller sees few anyway."""


@pytest.mark.parametrize("patient", ["", "p1"])
@pytest.mark.parametrize("query", _PLAIN)
def test_every_page_is_that_of_the_general_way(connection: Connection, query: str, patient: str) -> None:
    search, after, pages = _asked(query), None, 0
    only = frozenset({patient} - {""})
    is_plain = plain.rows(connection, search, only, LATER, 3, None) is not None
    assert is_plain != (query in _NEVER or (query in _LOOKED_UP and not patient))
    while True:
        plainly = _page(connection, search, patient, only, after)
        assert plainly == _page(connection, search, patient, None, after)
        pages, after = pages + 1, plainly.next
        if after is None:
            break
    assert pages > 1 or query


def test_a_statement_is_made_once_for_a_shape(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_kept", {})
    made: list[object] = []
    make = plain._made

    def counted(*given: Any) -> Any:
        made.append(given)
        return make(*given)

    monkeypatch.setattr(plain, "_made", counted)
    found = {
        patient: [
            match.id
            for match in _page(connection, _asked(f"patient={patient}&started=ge20{year}"), "", frozenset(), None).matches
        ]
        for patient, year in (("p1", 12), ("p2", 15), ("p3", 20))
    }
    assert len(made) == 1
    assert found["p1"] != found["p2"] != found["p3"]
    assert all(found.values())


@pytest.mark.parametrize(
    "query",
    [
        "patient.name=x", "_has:Observation:focus:code=x", "status:not=available", "status:missing=true", "_sort=patient",
        "_sort=status,-started", "identifier:of-type=a|b|c", "series=1.2", "patient:identifier=x", "started=2014-05-05T10:00:00.0001Z",
    ],
)  # fmt: skip
def test_what_is_not_plain_goes_the_general_way(connection: Connection, query: str) -> None:
    search = _asked(query)
    assert plain.rows(connection, search, frozenset(), LATER, 3, None) is None
    assert (
        plain.rows(connection, _asked("status=available"), None, LATER, 3, None) is None
    )  # whose studies may be seen is not said


def test_what_is_asked_takes_one_statement(connection: Connection) -> None:
    search = _asked("patient=p1&status=available")
    _page(connection, search, "", frozenset(), None)
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    try:
        assert _page(connection, search, "", frozenset(), None).matches
    finally:
        event.remove(connection, "before_cursor_execute", note)
    assert len([each for each in asked if "SELECT" in each]) <= 1
