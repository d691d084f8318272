"""IHE MHD: what ITI-65 and ITI-105 submit, ITI-18, ITI-43, ITI-66, ITI-67 and ITI-68 give back; all of it, or nothing is there."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from peers import mhd_source as mhd
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.mhd_source import TEXT, document, entry, listed, oid, provided, urn
from peers.shows import shows
from peers.xds import Archive, cx, get, instance
from sqlalchemy import func, select

from profiles.document import DEPRECATED, Author, Code, DocumentEntry
from server.records.catalogue import BLOB
from server.records.registry import OBJECT

ON_BOTH_ENGINES = True
Json = dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    """With a patient P1, whom an image told of."""
    with fhir_site(tmp_path_factory.mktemp("mhd"), module_database_url) as site:
        Archive(site.node).send(instance())
        yield site


@pytest.fixture(scope="module")
def archive(site: FhirSite) -> Archive:
    return Archive(site.node)


@pytest.fixture(scope="module")
def patient(site: FhirSite) -> str:
    return f"Patient/{site.ids('Patient')[0]}"


def sent(site: FhirSite, bundle: Json, token: dict[str, str] | None = None) -> list[Json]:
    response = site.ask("POST", "", token, body=bundle)
    assert response.status_code == 200, response.text
    Bundle.model_validate(response.json())
    assert response.json()["type"] == "transaction-response"
    return [each["response"] for each in response.json()["entry"]]


def registered(archive: Archive, unique_id: str, *statuses: str) -> DocumentEntry:
    (found,) = [each for each in archive.find(cx(archive), *statuses) if each.unique_id == unique_id]
    return found


def local(told: Json) -> str:
    """`Type/id` of a response's location."""
    return "/".join(told["location"].split("/")[:2])


def counted(site: FhirSite) -> tuple[int, int]:
    with site.node.database.read() as connection:
        objects, blobs = (connection.execute(select(func.count()).select_from(each)).scalar_one() for each in (OBJECT, BLOB))
    return objects, blobs


@shows("transaction", "ITI-65 Document Recipient")
def test_what_a_bundle_provides_xds_gives_back(site: FhirSite, archive: Archive, patient: str) -> None:
    unique = oid()
    told = sent(site, provided(patient, unique))
    assert [each["status"] for each in told] == ["201 Created"] * 3
    assert [each["location"].split("/")[0] for each in told] == ["List", "DocumentReference", "Binary"]
    found = registered(archive, unique)
    assert found.entry_uuid == f"urn:uuid:{local(told[1]).partition('/')[2]}"
    assert (found.hash, found.size, found.mime_type) == (hashlib.sha1(TEXT).hexdigest(), len(TEXT), "text/plain")
    assert (found.title, found.comments, found.language) == ("Chest", "as dictated", "en-US"[:2])
    assert (found.creation_time, found.service_start, found.service_stop) == ("20260102101500", "20260102090000", "20260102")
    assert found.type_code == Code("18748-4", "2.16.840.1.113883.6.1", "the 18748-4")
    assert found.class_code == Code("IMAGES", "1.3.6.1.4.1.21367.100.1", "the IMAGES")
    assert found.confidentiality == (Code("N", "2.16.840.1.113883.5.25", "the N"),)
    assert found.event_codes == (Code("T-32000", "1.2.3.8", "the T-32000"),)
    assert found.source_patient_id == "L\\T\\7^^^&1.2.3.4&ISO"
    assert found.source_patient_info == (
        "PID-3|L\\T\\7^^^&1.2.3.4&ISO", "PID-5|Doe^Jane^^^", "PID-7|19700101", "PID-8|F",
    )  # fmt: skip
    assert found.authors == (
        Author("11^Welby^Marcus^^^^^^&1.2.3.6&ISO", ("General^^^^^&1.2.3.7&ISO^^^^G",), ("Attending",), ("R^^^&1.2.3.5&ISO",), ("^^Internet^welby@example.org",)),
    )  # fmt: skip
    assert found.reference_ids == ("O1^^^&1.2.3.9&ISO^urn:ihe:iti:xds:2013:order",)
    assert get(archive, unique)[1] == {unique: TEXT}
    assert found.repository_unique_id == site.node.installation.repository


@shows("transaction", "ITI-66 Document Responder", "ITI-67 Document Responder", "ITI-68 Document Responder")
def test_what_a_bundle_provides_fhir_gives_back(site: FhirSite, patient: str) -> None:
    """ITI-66, ITI-67 and ITI-68."""
    unique, of_set = oid(), oid()
    bundle = provided(patient, unique, entry(4, listed("folder", patient, of_set, urn(2))))
    submitted, shown, binary, folder = sent(site, bundle)
    assert local(shown).split("/")[1] in site.ids(f"DocumentReference?patient={patient}&status=current&type=18748-4")
    reference = site.get(local(shown)).json()
    assert reference["masterIdentifier"]["value"] == f"urn:oid:{unique}"
    url = reference["content"][0]["attachment"]["url"]
    assert url.endswith(local(binary))
    assert site.get(local(binary), Accept="text/plain").content == TEXT
    lists = site.ids(f"List?patient={patient}&code=submissionset&source:missing=true")
    assert local(submitted).split("/")[1] in lists
    assert local(folder).split("/")[1] in site.ids(f"List?patient={patient}&code=folder&identifier=urn:oid:{of_set}")
    items = [each["item"]["reference"] for each in site.get(local(folder)).json()["entry"]]
    assert items == [local(shown)]
    members = {each["item"]["reference"] for each in site.get(local(submitted)).json()["entry"]}
    assert members == {local(shown), local(folder)}


@pytest.mark.parametrize(
    "query",
    [
        "patient={patient}&status=current&creation=2026-01-02", "patient.identifier={identifier}&date=ge2026-01-01",
        "patient={patient}&category=urn:oid:1.3.6.1.4.1.21367.100.1|IMAGES",
        "patient={patient}&event=T-32000&facility=HOSP&setting=RAD&format=urn:ihe:iti:xds:2017:mimeTypeSufficient",
        "patient={patient}&security-label=N&period=2026-01-02&type=18748-4", "patient={patient}&related:identifier=urn:oid:1.2.3.9|O1",
        "identifier=urn:oid:{unique}",
    ],
)  # fmt: skip
@shows("transaction", "ITI-67 Document Responder")
def test_find_document_references(site: FhirSite, patient: str, hers: Json, one: Json, query: str) -> None:
    """ITI-67: each parameter of the profile."""
    asked = query.format(patient=patient, identifier=f"{hers['system']}|{hers['value']}", unique=one["unique"])
    assert one["DocumentReference"] in site.ids(f"DocumentReference?{asked}")


@pytest.mark.parametrize(
    "query",
    [
        "patient={patient}&code=submissionset&status=current", "patient.identifier={identifier}&code=submissionset&date=2026-01-02",
        "patient={patient}&sourceId=urn:oid:2.999.65", "patient={patient}&designationType=urn:oid:1.3.6.1.4.1.21367.100.1|referral",
    ],
)  # fmt: skip
@shows("transaction", "ITI-66 Document Responder")
def test_find_document_lists(site: FhirSite, patient: str, hers: Json, one: Json, query: str) -> None:
    """ITI-66."""
    asked = query.format(patient=patient, identifier=f"{hers['system']}|{hers['value']}")
    assert one["List"] in site.ids(f"List?{asked}&_count=200")


@pytest.fixture(scope="module")
def one(site: FhirSite, patient: str) -> Json:
    """The ids of what a Bundle made, by type, and the uniqueId of its document."""
    unique = oid()
    told = sent(site, provided(patient, unique))
    return {"unique": unique, **dict(local(each).split("/") for each in told[:2])}


def test_a_folder_takes_a_document_more(site: FhirSite, patient: str) -> None:
    first = sent(site, provided(patient, oid(), entry(4, listed("folder", patient, oid(), urn(2)))))
    folder = local(first[3])
    updated = {**listed("folder", patient, oid(), local(first[1]), urn(2)), "id": folder.partition("/")[2]}
    more = sent(site, provided(patient, oid(), entry(4, updated, "PUT", folder)))
    assert more[3]["status"] == "200 OK"
    items = {each["item"]["reference"] for each in site.get(folder).json()["entry"]}
    assert items == {local(first[1]), local(more[1])}


def test_a_replacement_supersedes(site: FhirSite, archive: Archive, patient: str) -> None:
    unique = oid()
    old = local(sent(site, provided(patient, unique))[1])
    relates = [{"code": "replaces", "target": {"reference": old}}]
    new = local(sent(site, provided(patient, oid(), relatesTo=relates))[1])
    assert registered(archive, unique, DEPRECATED).status == DEPRECATED
    assert site.get(old).json()["status"] == "superseded"
    assert site.get(new).json()["relatesTo"][0] == relates[0]


def test_minimal_metadata_are_enough_for_a_minimal_bundle(site: FhirSite, archive: Archive, patient: str) -> None:
    unique = oid()
    whole = document(patient, unique)
    few = {name: whole[name] for name in ("resourceType", "masterIdentifier", "status", "subject")}
    bundle = provided(patient, unique, profile=mhd.MINIMAL)
    bundle["entry"][1]["resource"] = {**few, "content": [{"attachment": {"contentType": "text/plain", "url": urn(3)}}]}
    sent(site, bundle)
    assert registered(archive, unique).is_limited
    bundle["meta"]["profile"] = [mhd.COMPREHENSIVE]
    found = issue(site.ask("POST", "", body=bundle), 422, "business-rule")
    assert "XDSRepositoryMetadataError" in found["diagnostics"]
    assert found["expression"] == ["Bundle.entry[1].resource"]


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"subject": {"identifier": {"system": "urn:oid:1.2.3.4", "value": "nobody"}}}, "business-rule", "XDSPatientIdDoesNotMatch"),
        ({"relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/none"}}]}, "not-found", "UnresolvedReference"),
        ({"content": [{"attachment": {"contentType": "text/plain", "url": "http://elsewhere.example/1"}}]}, "invalid", "in the Bundle"),
    ],
)  # fmt: skip
def test_what_is_wrong_leaves_nothing(site: FhirSite, patient: str, changed: Json, code: str, told: str) -> None:
    before = counted(site)
    response = site.ask("POST", "", body=provided(patient, oid(), **changed))
    found = [each for each in response.json()["issue"] if told in each["diagnostics"]]
    assert response.status_code == 422
    assert found, response.text
    assert counted(site) == before


def test_a_hash_that_is_another_is_told(site: FhirSite, patient: str) -> None:
    bundle = provided(patient, oid())
    bundle["entry"][2]["resource"] = mhd.binary(b"something else")
    before = counted(site)
    found = issue(site.ask("POST", "", body=bundle), 422, "business-rule")
    assert "DocumentEntry.size" in found["diagnostics"]
    assert found["expression"] == ["Bundle.entry[1].resource"]
    assert counted(site) == before


def test_who_may_not_write_hers_may_not_provide(site: FhirSite, patient: str) -> None:
    before = counted(site)
    bundle = provided(patient, oid())
    scopes = "patient/DocumentReference.c patient/List.c"
    assert site.ask("POST", "", site.token(scopes, "another"), body=bundle).status_code == 403
    assert site.ask("POST", "", site.token("system/DocumentReference.c"), body=bundle).status_code == 403
    assert counted(site) == before
    sent(site, bundle, site.token(scopes, patient.partition("/")[2]))


def test_who_is_confined_is_not_told_who_is_known(site: FhirSite, patient: str, hers: Json) -> None:
    token = site.token("patient/DocumentReference.c patient/List.c", "another")
    for value in ("P1", "nobody"):
        given = mhd.fhir_document({**hers, "value": value}, oid())
        assert site.ask("POST", "DocumentReference/$generate-metadata", token, body=given).status_code == 403


def test_the_trail_has_the_submission(site: FhirSite, patient: str) -> None:
    since = site.mark()
    told = sent(site, provided(patient, oid()))
    (event,) = site.events(since)
    assert [each["code"] for each in event["subtype"]] == ["transaction", "ITI-65"]
    assert event["outcome"] == "0"
    references = [each["what"]["reference"] for each in event["entity"] if "reference" in each.get("what", {})]
    assert local(told[0]) in references
    assert patient in references


@shows("transaction", "ITI-105 Document Recipient")
def test_simplified_publish_makes_a_submission_of_one_document(site: FhirSite, archive: Archive, patient: str) -> None:
    unique = oid()
    given = mhd.published(patient, unique)
    since = site.mark()
    response = site.ask("POST", "DocumentReference", body=given)
    assert response.status_code == 201, response.text
    made = response.json()
    assert "data" not in made["content"][0]["attachment"]
    assert response.headers["location"].endswith(f"DocumentReference/{made['id']}/_history/1")
    assert registered(archive, unique).entry_uuid == f"urn:uuid:{made['id']}"
    assert get(archive, unique)[1] == {unique: TEXT}
    assert [each["subtype"][-1]["code"] for each in site.events(since)][-1] == "ITI-105"
    assert site.ids(f"List?item=DocumentReference/{made['id']}")


def test_fhir_does_not_change_what_is_registered(site: FhirSite, patient: str) -> None:
    """A new version comes by ITI-57, a replacement by ITI-65: what two would say of one document could differ."""
    shown = local(sent(site, provided(patient, oid()))[1])
    given = site.get(shown).json()
    changed = site.ask("PUT", shown, body={**given, "status": "entered-in-error"})
    assert changed.status_code in (409, 422), changed.text
    assert site.ask("DELETE", shown).status_code in (405, 409, 422)
    assert site.get(shown).json()["status"] == "current"


def generated(site: FhirSite, given: Json) -> str:
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": given}]}
    response = site.ask("POST", "DocumentReference/$generate-metadata", body=parameters)
    assert response.status_code == 200, response.text
    return str(response.json()["parameter"][0]["valueReference"]["reference"])


@pytest.fixture(scope="module")
def hers(archive: Archive) -> Json:
    """P1's identifier."""
    return {"system": f"urn:oid:{archive.node.installation.patients.oid}", "value": "P1"}


@shows("operation", "generate-metadata")
@shows("transaction", "ITI-106 Document Recipient")
def test_metadata_of_a_fhir_document(site: FhirSite, archive: Archive, hers: Json) -> None:
    unique = oid()
    given = mhd.fhir_document(hers, unique)
    since = site.mark()
    made = generated(site, given)
    assert [each["code"] for each in site.events(since)[-1]["subtype"]] == ["operation", "ITI-106"]
    found = registered(archive, unique)
    assert f"DocumentReference/{found.entry_uuid.removeprefix('urn:uuid:')}" == made
    assert (found.mime_type, found.title, found.language) == ("application/fhir+json", "Laboratory", "de")
    assert (found.creation_time, found.type_code) == ("20260102100000", Code("11502-2", "2.16.840.1.113883.6.1", "the 11502-2"))
    assert (found.authors, found.source_patient_id) == ((Author("^Welby^Marcus"),), cx(archive))
    assert json.loads(get(archive, unique)[1][unique]) == given


@shows("transaction", "ITI-106 Document Recipient")
def test_metadata_of_a_cda_document(site: FhirSite, archive: Archive, hers: Json) -> None:
    unique = oid()
    content = mhd.cda(hers, unique)
    generated(site, mhd.binary(content, contentType="text/xml"))
    found = registered(archive, f"{unique}^A1")
    assert (found.title, found.language, found.creation_time) == ("Consultation", "en-US", "20260102101500")
    assert found.type_code == Code("11488-4", "2.16.840.1.113883.6.1", "Consultation note")
    assert found.confidentiality == (Code("N", "2.16.840.1.113883.5.25", "N"),)
    assert found.authors == (Author("11^Welby^Marcus^^^^^^&1.2.3.6&ISO", ("General^^^^^&1.2.3.7&ISO^^^^G",)),)
    assert found.source_patient_info[1:] == ("PID-5|Alba^Anna^^^", "PID-7|19700101", "PID-8|F")
    assert (found.service_start, found.service_stop) == ("20260101", "")
    assert get(archive, found.unique_id)[1] == {found.unique_id: content}


@pytest.mark.parametrize(
    "given",
    [
        mhd.binary(b"%PDF-1.7", contentType="application/pdf"),
        mhd.binary(b"<a/>", contentType="text/xml"),
        mhd.binary(b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", contentType="text/xml"),
        {"resourceType": "Bundle", "type": "collection"},
    ],
)
def test_of_what_no_metadata_are_made(site: FhirSite, given: Json) -> None:
    before = counted(site)
    response = site.ask("POST", "DocumentReference/$generate-metadata", body=given)
    assert issue(response, 422, "invalid")["expression"][0].startswith("document")
    assert counted(site) == before
