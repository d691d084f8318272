"""ITI-18 over HTTP: what the Document Registry finds, and what it says when it finds nothing."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from lxml import etree
from peers import imageshare
from peers.shows import shows
from peers.xds import REGISTRY, Archive, cx, get, instance, payload, uids

from ihe import iti18, iti51, xml
from ihe.ebrs import FAILURE, SUCCESS
from ihe.find_documents import FindDocuments, GetDocuments
from ihe.iti18 import ReturnType, StoredQuery
from ihe.stored_queries import FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, GET_ALL, MULTI_PATIENT_QUERIES, STORED_QUERIES
from profiles.document import APPROVED, DEPRECATED


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        yield Archive(node)


@shows("transaction", "ITI-18 Document Registry")
def test_FindDocuments_gives_the_manifest_of_each_study(archive: Archive) -> None:
    archive.send(instance(study="2.25.1"), instance(study="2.25.2", series="2.25.2.1"), instance("P2", "2.25.3", "2.25.3.1"))
    found = archive.find(cx(archive))
    assert len(found) == 2
    assert {entry.patient_id for entry in found} == {cx(archive)}
    assert {entry.repository_unique_id for entry in found} == {archive.node.installation.repository}
    assert {entry.home_community_id for entry in found} == {f"urn:oid:{archive.node.installation.home_community}"}
    assert len(archive.find(f"P1^^^Local name&{archive.node.installation.patients.oid}&ISO")) == 2


def test_FindDocuments_filters(archive: Archive) -> None:
    archive.send(instance())
    (entry,) = archive.find(cx(archive))
    assert archive.find(cx(archive), type_codes=(entry.type_code,), event_codes=((entry.event_codes[0],),)) == (entry,)
    assert archive.find(cx(archive), object_types=("urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248",)) == ()
    assert archive.find(cx(archive), reference_ids=((entry.reference_ids[0],),)) == (entry,)
    assert archive.find(cx(archive), reference_ids=(("nothing",),)) == ()


def test_ObjectRef_gives_ids_only_and_GetDocuments_the_rest(archive: Archive) -> None:
    archive.send(instance())
    (entry,) = archive.find(cx(archive))
    found = archive.query(FindDocuments(cx(archive)).query(ReturnType.OBJECT_REF))
    assert (found.object_refs, found.entries) == ((entry.entry_uuid,), ())
    assert archive.query(GetDocuments(entry_uuids=(entry.entry_uuid,)).query()).entries == (entry,)
    assert archive.query(GetDocuments(unique_ids=(entry.unique_id,)).query()).entries == (entry,)
    assert archive.query(GetDocuments(unique_ids=("1.2.3",)).query()).entries == ()


def test_GetDocuments_takes_more_ids_than_a_statement_does(archive: Archive) -> None:
    archive.send(instance())
    (entry,) = archive.find(cx(archive))
    many = tuple(f"2.25.{number}" for number in range(40_000))
    assert archive.query(GetDocuments(unique_ids=(*many, entry.unique_id)).query()).entries == (entry,)


def test_GetDocuments_of_several_patients_only_as_ids(archive: Archive) -> None:
    archive.send(instance("P1", "2.25.1", "2.25.1.1"), instance("P2", "2.25.2", "2.25.2.1"))
    both = tuple(entry.entry_uuid for patient in ("P1", "P2") for entry in archive.find(cx(archive, patient)))
    refused = archive.query(GetDocuments(entry_uuids=both).query())
    assert (refused.status, [error.code for error in refused.errors]) == (FAILURE, ["XDSResultNotSinglePatient"])
    assert set(archive.query(GetDocuments(entry_uuids=both).query(ReturnType.OBJECT_REF)).object_refs) == set(both)
    *_, refusal, first, second = archive.trail("ITI-18")
    assert (refusal.outcome, refusal.patient) == ("4", "")
    assert refusal.why.startswith("XDSResultNotSinglePatient")
    assert first.patient != second.patient


def test_an_unknown_patient_has_no_documents(archive: Archive) -> None:
    assert archive.find("P404^^^&1.2.3&ISO") == ()
    (event,) = archive.trail("ITI-18")
    assert (event.outcome, event.patient) == ("0", "")
    entity = event.body["entity"][0]
    # ITI TF-2 section 3.18.5.1.2: FindDocuments, as it was asked
    assert entity["what"]["identifier"]["value"] == "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
    assert entity["detail"] == [{"type": "QueryEncoding", "valueString": "UTF-8"}]
    assert b"P404^^^" in base64.b64decode(entity["query"])


def test_a_patient_id_that_is_none_is_an_error(archive: Archive) -> None:
    answer = archive.query(FindDocuments("P1").query())
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSRegistryError"])
    assert "P1" not in answer.errors[0].context


def test_a_late_instance_replaces_the_manifest(archive: Archive) -> None:
    archive.send(instance())
    (old,) = archive.find(cx(archive))
    archive.send(instance())
    (new,) = archive.find(cx(archive))
    assert new.entry_uuid != old.entry_uuid
    (deprecated,) = archive.find(cx(archive), DEPRECATED)
    assert (deprecated.entry_uuid, deprecated.status) == (old.entry_uuid, DEPRECATED)
    assert len(archive.find(cx(archive), APPROVED, DEPRECATED)) == 2
    # Both can still be had: a consumer may hold the old id.
    for entry, images in ((old, 1), (new, 2)):
        _, documents = get(archive, entry.unique_id)
        manifest = pydicom.dcmread(io.BytesIO(documents[entry.unique_id]))
        (study,) = manifest.CurrentRequestedProcedureEvidenceSequence
        assert sum(len(series.ReferencedSOPSequence) for series in study.ReferencedSeriesSequence) == images


def test_a_study_that_is_not_settled_is_not_found(tmp_path: Path, database_url: str) -> None:
    with imageshare.node(tmp_path / "data", database_url, quiet_period=3600) as node:
        archive = Archive(node)
        file = instance()
        archive.send(file)
        assert archive.find(cx(archive), APPROVED, DEPRECATED) == ()
        answer, documents = archive.images(uids(file))
        assert (answer.status, documents) == (FAILURE, {})


@pytest.mark.parametrize(
    ("query_id", "code"),
    [
        # known to another transaction
        ("urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f", "XDSUnknownStoredQuery"),
        ("urn:uuid:00000000-0000-4000-8000-000000000000", "XDSUnknownStoredQuery"),
        ("urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", "XDSStoredQueryMissingParam"),
    ],
)
def test_queries_that_are_refused(archive: Archive, query_id: str, code: str) -> None:
    body = iti18.request(GetDocuments(unique_ids=("1.2",)).query())
    adhoc = body.find(f"{{{xml.RIM}}}AdhocQuery")
    assert adhoc is not None
    adhoc.set("id", query_id)
    for slot in adhoc:
        slot.set("name", "$XDSSubmissionSetPatientId")
    status = etree.SubElement(adhoc, f"{{{xml.RIM}}}Slot", name="$XDSSubmissionSetStatus")
    etree.SubElement(etree.SubElement(status, f"{{{xml.RIM}}}ValueList"), f"{{{xml.RIM}}}Value").text = f"('{APPROVED}')"
    answer = iti18.parse_response(payload(archive.post(REGISTRY, iti18.REQUEST_ACTION, body)))
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, [code])
    (event,) = archive.trail("ITI-18")
    assert event.outcome == "4"
    assert event.why.startswith(code)
    entity = event.body["entity"][0]
    assert "query" in entity
    assert ("what" in entity) == (query_id in STORED_QUERIES | MULTI_PATIENT_QUERIES), (
        "what a client calls a query need not be one"
    )


@shows("transaction", "ITI-51 Document Registry")
def test_several_patients_are_asked_for_at_once_and_each_has_an_event(archive: Archive) -> None:
    """ITI TF-2 section 3.51.5.1: one audit event for each patient."""
    archive.send(instance("P1", "2.25.1", "2.25.1.1"), instance("P2", "2.25.2", "2.25.2.1"))
    patients = (cx(archive), cx(archive, "P2"))
    parameters = {"$XDSDocumentEntryPatientId": (patients,), "$XDSDocumentEntryStatus": ((APPROVED,),)}
    query = StoredQuery(FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, ReturnType.LEAF_CLASS, parameters)
    answer = iti51.parse_response(payload(archive.post(REGISTRY, iti51.REQUEST_ACTION, iti51.request(query))))
    assert answer.status == SUCCESS
    assert {entry.patient_id for entry in answer.entries} == {cx(archive), cx(archive, "P2")}
    first, second = archive.trail("ITI-51")
    assert len({first.patient, second.patient, ""}) == 3
    assert first.body["subtype"][-1]["display"] == "Multi-Patient Stored Query"
    assert archive.trail("ITI-18") == []


def test_who_asks_with_a_home_community_gets_it_with_everything(archive: Archive) -> None:
    archive.send(instance())
    home = f"urn:oid:{archive.node.installation.home_community}"
    statuses = {f"$XDS{each}Status": [(APPROVED,)] for each in ("DocumentEntry", "SubmissionSet", "Folder")}
    for return_type in ReturnType:
        query = StoredQuery(GET_ALL, return_type, {"$patientId": [(cx(archive),)], **statuses}, home)
        body = payload(archive.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(query)))
        (listed,) = body.iter(f"{{{xml.RIM}}}RegistryObjectList")
        assert len(listed) == 3, "the Submission Set, the manifest, and that one has the other"
        assert {each.get("home") for each in listed} == {home}


def test_more_objects_than_the_setting_allows_are_refused(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data", max_query_results=1) as node:
        archive = Archive(node)
        archive.send(instance(study="2.25.1"), instance(study="2.25.2", series="2.25.2.1"))
        refused = archive.query(FindDocuments(cx(archive)).query())
        assert (refused.status, [error.code for error in refused.errors]) == (FAILURE, ["XDSTooManyResults"])
        assert len(archive.query(FindDocuments(cx(archive)).query(ReturnType.OBJECT_REF)).object_refs) == 2
