"""The CapabilityStatement says what there is; each claim has a test, and docs/fhir.md names it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from peers import fhir_document
from peers.fhir_site import XML, FhirSite, fhir_site, issue
from peers.shows import shown, shows

from profiles.fhir.validation import check
from profiles.r4.definitions import resource_types
from profiles.r4.search import parameters
from server.edges.fhir import capability, formats
from server.edges.fhir.formats import Format
from server.records.fhir_search import events
from server.work.fhir import offered
from server.work.fhir.listing import Listing

ROOT = Path(__file__).resolve().parents[4]
VALUES = {
    "number": "1", "date": "ge2020", "string": "x", "token": "x", "reference": "Patient/x", "quantity": "gt1", "uri": "urn:x", "special": "52.52|13.405|10|km",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("capability") / "data") as site:
        site.put({"resourceType": "Patient", "id": "one"})
        yield site


@pytest.fixture(scope="module")
def statement(site: FhirSite) -> dict[str, Any]:
    found = site.ask("GET", "metadata", {})
    assert found.status_code == 200
    return dict(found.json())


@shows("interaction", "capabilities")
def test_it_is_valid_and_needs_no_token(statement: dict[str, Any]) -> None:
    CapabilityStatement.model_validate(statement)
    assert check(statement) == []
    assert statement["fhirVersion"] == "4.0.1"


def test_each_claim_is_shown_by_a_test(statement: dict[str, Any]) -> None:
    found = {(each.kind, each.name) for each in shown()}
    missing = fhir_document.claims(statement) - found
    assert not missing, f"claimed, and no test says @shows of it: {sorted(missing)}"


def test_the_document_is_what_the_tests_show() -> None:
    assert (ROOT / "docs" / "fhir.md").read_text() == fhir_document.document(), "run: make fhir-doc"


def test_it_has_every_type_with_its_parameters(statement: dict[str, Any]) -> None:
    told = {each["type"]: each for each in statement["rest"][0]["resource"]}
    assert set(told) == set(resource_types()) - {"Parameters"}
    for type_, each in told.items():
        assert [code["code"] for code in each["interaction"]] == list(offered.interactions(type_))
        names = {parameter["name"] for parameter in each.get("searchParam", ())}
        if type_ == "AuditEvent":
            assert names == set(events.OFFERED)
        elif "search-type" in offered.interactions(type_):
            assert names >= set(parameters(type_))
        else:
            assert not names
    assert "ImagingStudy:patient" in told["Patient"]["searchRevInclude"]
    assert "ImagingStudy:patient" in told["ImagingStudy"]["searchInclude"]


@pytest.mark.parametrize(
    "type_",
    [
        "Patient",
        "AuditEvent",
        "ImagingStudy",
        "DocumentReference",
        "Observation",
        "Encounter",
        "Consent",
        "Location",
        "RiskAssessment",
        "ValueSet",
    ],
)
def test_each_parameter_that_it_tells_of_works(site: FhirSite, statement: dict[str, Any], type_: str) -> None:
    (told,) = [each for each in statement["rest"][0]["resource"] if each["type"] == type_]
    for each in told["searchParam"]:
        if each["type"] in VALUES:
            found = site.get(f"{type_}?{each['name']}={VALUES[each['type']]}")
            assert found.status_code == 200, (each, found.text)
    for each in told.get("searchInclude", [])[1:]:
        assert site.get(f"{type_}?_include={each}").status_code == 200, each
    for each in told.get("searchRevInclude", [])[:3]:
        assert site.get(f"{type_}?_revinclude={each}").status_code == 200, each


def test_each_type_is_read_and_searched(site: FhirSite, statement: dict[str, Any]) -> None:
    for each in statement["rest"][0]["resource"]:
        issue(site.get(f"{each['type']}/nothing"), 404, "not-found")
        codes = {code["code"] for code in each["interaction"]}
        searched = site.get(f"{each['type']}?_id=nothing")
        assert (searched.status_code == 200) == ("search-type" in codes), (each["type"], searched.text)
        history = site.get(f"{each['type']}/_history?_count=1")
        assert (history.status_code == 200) == ("history-type" in codes), (each["type"], history.text)


def test_a_parameter_of_a_client_is_told(site: FhirSite) -> None:
    site.put(
        {
            "resourceType": "SearchParameter",
            "id": "colour",
            "url": "http://example.org/colour",
            "name": "Colour",
            "status": "active",
            "description": "x",
            "code": "colour",
            "base": ["Patient"],
            "type": "string",
            "expression": "Patient.maritalStatus.text",
        }
    )
    (told,) = [each for each in site.get("metadata").json()["rest"][0]["resource"] if each["type"] == "Patient"]
    assert {"name": "colour", "definition": "http://example.org/colour", "type": "string"} in told["searchParam"]


def test_modes(site: FhirSite) -> None:
    assert site.get("metadata?mode=full").json()["resourceType"] == "CapabilityStatement"
    assert site.get("metadata?mode=normative").status_code == 200
    issue(site.get("metadata?mode=terminology"), 406, "not-supported")
    for query in ("mode=x", "colour=red"):
        assert site.get(f"metadata?{query}").status_code == 400
    assert "rest" not in site.get("metadata?_elements=software").json() or site.get("metadata?_summary=true").status_code == 200
    assert site.get("metadata", Accept=XML).headers["content-type"] == XML


def test_clients_of_smart_see_that_there_is_security(statement: dict[str, Any]) -> None:
    """FHIR R4 section 5.2, CapabilityStatement.rest.security.service."""
    (service,) = statement["rest"][0]["security"]["service"]
    assert service["coding"] == [
        {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
    ]


# --- each form of it is made once


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Format]:
    """The forms that are made while a test runs."""
    made: list[Format] = []

    def encoded(body: bytes | Listing, wanted: Format) -> bytes:
        made.append(wanted)
        return formats.encoded(body, wanted)

    monkeypatch.setattr(capability, "encoded", encoded)
    capability._kept.cache_clear()
    return made


def test_each_form_is_made_once(site: FhirSite, encodings: list[Format]) -> None:
    queries = ["", "?_format=xml", "?_format=json&_pretty=true", "?_format=xml&_pretty=true", "?_summary=true", "?mode=full"]
    found = [[site.ask("GET", f"metadata{query}", {}) for query in queries] for _ in range(3)]
    assert [each.content for each in found[0]] == [each.content for each in found[2]]
    assert len(encodings) == 5
    tags = [each.headers["etag"] for each in found[0]]
    assert (len(set(tags)), tags[0] == tags[5]) == (5, True)
    plain = site.ask("GET", "metadata?_format=xml", {}, Accept_Encoding="identity")
    assert "content-encoding" not in plain.headers
    packed = site.ask("GET", "metadata?_format=xml", {}, Accept_Encoding="gzip")
    assert (packed.headers["content-encoding"], packed.content == plain.content) == ("gzip", True)


def test_parts_are_not_kept(site: FhirSite, encodings: list[Format]) -> None:
    for _ in range(2):
        assert "rest" not in site.ask("GET", "metadata?_elements=software", {}).json()
    assert len(encodings) == 2
    assert capability._kept.cache_info().currsize == 0


@shows("conditional", "read")
def test_who_has_the_statement_is_told_so(site: FhirSite) -> None:
    """RFC 9110 section 13.1.2."""
    first = site.ask("GET", "metadata", {})
    tag = first.headers["etag"]
    for held in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = site.ask("GET", "metadata", {}, If_None_Match=held)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert site.ask("GET", "metadata?_format=xml", {}, If_None_Match=tag).status_code == 200
    assert site.ask("GET", "metadata", {}, If_None_Match='"x"').status_code == 200


def test_it_changes_with_what_it_tells(site: FhirSite) -> None:
    before = site.ask("GET", "metadata", {}).headers["etag"]
    parameter = {
        "resourceType": "SearchParameter", "id": "size", "url": "http://example.org/size", "name": "Size", "status": "active",
        "description": "x", "code": "size", "base": ["Patient"], "type": "string", "expression": "Patient.maritalStatus.text",
    }  # fmt: skip
    site.put(parameter)
    assert site.ask("GET", "metadata", {}, If_None_Match=before).status_code == 200
