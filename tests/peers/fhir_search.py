"""Searches as the records answer them: what tests of `server.records.fhir_search` ask with, and what they ask about."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, true

from profiles.fhir.query import Search
from profiles.fhir.search_request import read
from server.records import fhir_search, resources
from server.records.fhir_search import Allowed, Page, Position, ResourceRow, whose

BASE: Final = "https://here.example/fhir"
LATER: Final = 4_000_000_000_000_000
"""A time after everything, in microseconds."""
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"


def everybody(_: str, __: ResourceRow) -> ColumnElement[bool]:
    return true()


def only(*patients: str) -> Allowed:
    return lambda _, row: whose(row).in_(patients)


def asked(types: str, query: str = "") -> Search:
    pairs = [tuple(each.split("=", 1)) for each in query.split("&")] if query else []
    return read(tuple(types.split(",")), pairs, base=BASE, now=LATER)  # type: ignore[arg-type]


def page(
    connection: Connection,
    search: Search,
    count: int = 100,
    after: Position | None = None,
    began: int = LATER,
    may: Allowed = everybody,
) -> Page:
    found, plainly = (
        fhir_search.page(
            connection,
            search,
            decision_where=may,
            confined=may is not everybody,
            count=count,
            began=began,
            after=after,
            only=each,
        )
        for each in (None, frozenset[str]() if may is everybody else None)
    )
    assert plainly == found  # a statement that is known finds the same
    return found


def found(connection: Connection, types: str, query: str = "", may: Allowed = everybody) -> list[str]:
    return [match.id for match in page(connection, asked(types, query), may=may).matches]


def study(id_: str, **content: Any) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": id_,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{id_[1:]}"}],
        "status": "available",
        "series": [{"uid": f"1.2.{id_[1:]}.1", "modality": {"system": DCM, "code": "CT"}}],
        "subject": {"reference": "Patient/p1"},
        **content,
    }


def observation(id_: str, code: str = "x", **content: Any) -> dict[str, Any]:
    made = {"resourceType": "Observation", "id": id_, "status": "final", "code": {"coding": [{"system": "urn:c", "code": code}]}}
    return {**made, **content}


def filled(connection: Connection, count: int) -> list[str]:
    """`count` studies of a day each; their ids, newest first."""
    for number in range(1, count + 1):
        resources.put(connection, study(f"s{number}", started=f"2026-01-{number:02}"), now=1_000_000 * number)
    return [f"s{number}" for number in range(count, 0, -1)]
