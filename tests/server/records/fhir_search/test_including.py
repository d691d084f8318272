"""`_include` and `_revinclude` on both engines."""

from typing import Any

import pytest
from peers.fhir_search import LATER, everybody
from sqlalchemy import ColumnElement, Connection, false, true

from profiles.fhir.search_request import read
from server.records import fhir_search, resources
from server.records.fhir_search import Allowed, Included, ResourceRow, including, whose


def put(connection: Connection, reference: str, **content: Any) -> None:
    type_, id_ = reference.split("/")
    resources.put(connection, {"resourceType": type_, "id": id_, **content})


def to(reference: str) -> dict[str, str]:
    return {"reference": reference}


def observation(connection: Connection, id_: str, **content: Any) -> None:
    put(connection, f"Observation/{id_}", status="final", code={"text": "x"}, **content)


def included(connection: Connection, query: str, may: Allowed = everybody, most: int = 1000) -> Included:
    type_, _, rest = query.partition("?")
    search = read((type_,), [tuple(each.split("=", 1)) for each in rest.split("&")], base="", now=LATER)  # type: ignore[misc]
    page = fhir_search.page(connection, search, decision_where=may, confined=False, count=100, began=LATER)
    assert page.matches
    return fhir_search.included(connection, page.matches, search.includes, decision_where=may, most=most)


def names(found: Included) -> set[str]:
    assert len({match.pk for match in found.matches}) == len(found.matches)
    return {f"{match.type}/{match.id}" for match in found.matches}


@pytest.fixture
def world(connection: Connection) -> Connection:
    put(connection, "Organization/g")
    put(connection, "Organization/parent")
    put(connection, "Organization/top")
    resources.put(connection, {"resourceType": "Organization", "id": "g", "partOf": to("Organization/parent")})
    resources.put(connection, {"resourceType": "Organization", "id": "parent", "partOf": to("Organization/top")})
    put(connection, "Practitioner/d")
    put(
        connection,
        "Patient/p",
        managingOrganization=to("Organization/g"),
        generalPractitioner=[to("Practitioner/d"), to("Practitioner/gone")],
    )
    put(connection, "Patient/q")
    observation(connection, "a", subject=to("Patient/p"), performer=[to("Practitioner/d"), to("Patient/p")])
    observation(connection, "b", subject=to("Patient/p"), hasMember=[to("Observation/a"), to("Observation/c")])
    observation(connection, "c", subject=to("Patient/q"), hasMember=[to("Observation/b")])
    put(connection, "Questionnaire/x", status="active", url="http://q.example/x")
    put(connection, "QuestionnaireResponse/r", status="completed", questionnaire="http://q.example/x|2", subject=to("Patient/p"))
    return connection


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("Observation?_id=a&_include=Observation:subject", {"Patient/p"}),
        ("Observation?_id=a&_include=Observation:performer:Practitioner", {"Practitioner/d"}),
        ("Observation?_id=a&_include=Observation:performer:Patient", {"Patient/p"}),
        ("Observation?_id=a&_include=Observation:subject&_include=Observation:performer", {"Patient/p", "Practitioner/d"}),
        ("Observation?_id=a&_include=*", {"Patient/p", "Practitioner/d"}),
        ("Observation?_id=a&_include=Observation:*", {"Patient/p", "Practitioner/d"}),
        ("Observation?_id=a&_include=Patient:organization", set()),
        ("Observation?_id=a&_include=Observation:subject&_include:iterate=Patient:organization", {"Patient/p", "Organization/g"}),
        ("Observation?_id=a&_include=Observation:subject&_include=Patient:organization", {"Patient/p"}),
        (
            "Patient?_id=p&_include=Patient:organization&_include:iterate=Organization:partof",
            {"Organization/g", "Organization/parent", "Organization/top"},
        ),
        ("Patient?_id=p&_revinclude=Observation:subject", {"Observation/a", "Observation/b"}),
        ("Patient?_id=p&_revinclude=Observation:*", {"Observation/a", "Observation/b"}),
        ("Patient?_id=p&_revinclude=*", {"Observation/a", "Observation/b", "QuestionnaireResponse/r"}),
        ("Patient?_id=p&_revinclude=Observation:has-member", set()),
        ("Practitioner?_id=d&_revinclude=Patient:general-practitioner&_revinclude:iterate=Observation:subject", {"Patient/p", "Observation/a", "Observation/b"}),
        ("Observation?_id=a&_revinclude:iterate=Observation:has-member", {"Observation/b", "Observation/c"}),
        ("Observation?_id=b&_include:iterate=Observation:has-member", {"Observation/a", "Observation/c"}),
        ("Observation?_id=a,b,c&_include=Observation:has-member", set()),
        ("QuestionnaireResponse?_id=r&_include=QuestionnaireResponse:questionnaire", {"Questionnaire/x"}),
    ],
)  # fmt: skip
def test_what_is_included(world: Connection, query: str, wanted: set[str]) -> None:
    """Each once, none that is a match, and what leads round in a circle ends."""
    found = included(world, query)
    assert names(found) == wanted
    assert not found.warnings


def test_only_what_the_caller_may_see_is_included(world: Connection) -> None:
    """By type and patient: p's own, and what organizations there are."""

    def may(type_: str, row: ResourceRow) -> ColumnElement[bool]:
        return true() if type_ == "Organization" else whose(row) == "p"

    assert names(included(world, "Observation?_id=b&_include=*&_revinclude=*", may)) == {"Patient/p", "Observation/a"}
    found = included(world, "Patient?_id=p&_include=*&_revinclude=*", may)
    assert names(found) == {"Observation/a", "Observation/b", "QuestionnaireResponse/r", "Organization/g"}


def test_what_was_deleted_is_not_included(world: Connection) -> None:
    resources.delete(world, "Patient", "p")
    assert names(included(world, "Observation?_id=a&_include=Observation:subject")) == set()


def test_more_than_fits_is_told(connection: Connection) -> None:
    put(connection, "Patient/p")
    for number in range(6):
        observation(connection, f"o{number}", subject=to("Patient/p"))
    found = included(connection, "Patient?_id=p&_revinclude=Observation:subject", most=4)
    assert (len(found.matches), found.is_cut, len(found.warnings)) == (4, True, 1)
    assert not included(connection, "Patient?_id=p&_revinclude=Observation:subject", most=6).is_cut


@pytest.mark.parametrize("query", ["_revinclude=Observation:device", "_revinclude=*"])
def test_what_others_have_is_no_reason_to_leave_out_ones_own(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Every study leads to the one Endpoint: of thousands that the caller may not see, his own are not lost."""
    monkeypatch.setattr(including, "MOST_INCLUDED", 2)
    put(connection, "Device/d")
    for number in range(12):
        observation(connection, f"o{number:02}", subject=to("Patient/a" if number < 10 else "Patient/b"), device=to("Device/d"))

    def may(type_: str, row: ResourceRow) -> ColumnElement[bool]:
        return true() if type_ == "Device" else whose(row) == "b" if type_ == "Observation" else false()

    found = included(connection, f"Device?_id=d&{query}", may, most=2)
    assert (names(found), found.is_cut) == ({"Observation/o10", "Observation/o11"}, False)
    found = included(connection, f"Device?_id=d&{query}", may, most=1)
    assert (names(found), found.is_cut) == ({"Observation/o10"}, True)
    assert included(connection, f"Device?_id=d&{query}", most=11).is_cut
    assert names(included(connection, f"Device?_id=d&{query}", most=12)) == {f"Observation/o{number:02}" for number in range(12)}


def test_a_chain_of_references_ends_somewhere(connection: Connection) -> None:
    for number in range(15):
        observation(connection, f"o{number}", hasMember=[to(f"Observation/o{number + 1}")])
    found = included(connection, "Observation?_id=o0&_include:iterate=Observation:has-member")
    assert (len(found.matches), found.is_cut) == (10, True)
