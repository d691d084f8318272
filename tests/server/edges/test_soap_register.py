"""ITI-42, 57, 61, 62 and 92 over HTTP: errors with their codes, all at once; what is registered is found by ITI-18 and by FHIR; the trail."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from lxml.etree import _Element
from peers import imageshare
from peers.registering import OTHER, PATIENT, Registry, document, new_status, new_version, stroke, submitted
from peers.registry_objects import association
from peers.shows import shows
from peers.xds import REGISTRY, SHARED, Archive, needs_shared

from ihe import ebrs, iti42, iti57, iti61, iti62, iti92, soap
from ihe.ebrs import FAILURE, SUCCESS, RegistryResponse
from ihe.find_documents import GetDocuments
from profiles.document import DEPRECATED, RPLC, Submission
from server.errors import Conflict, Contradiction
from server.records import resources
from server.work.fhir import projections

ON_BOTH_ENGINES = True


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data") as node:
        Registry(node)
        yield Archive(node)


def answered(archive: Archive, action: str, body: _Element) -> RegistryResponse:
    response = archive.post(REGISTRY, action, body)
    assert response.status_code == 200
    return ebrs.read(soap.response_of(soap.parse(response.content)))


def register(archive: Archive, submission: Submission) -> RegistryResponse:
    return answered(archive, iti42.REQUEST_ACTION, iti42.request(submission))


def update(archive: Archive, submission: Submission) -> RegistryResponse:
    return answered(archive, iti57.REQUEST_ACTION, iti57.request(submission))


def codes(answer: RegistryResponse) -> list[str]:
    assert answer.status == (FAILURE if answer.errors else SUCCESS)
    return [error.code for error in answer.errors]


def restricted(archive: Archive, submission: Submission) -> list[str]:
    return codes(answered(archive, iti92.REQUEST_ACTION, iti92.request(submission)))


@shows("transaction", "ITI-92 Update Responder")
def test_a_restricted_update_makes_new_versions_of_entries_and_nothing_else(archive: Archive) -> None:
    register(archive, submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (old,) = archive.find(PATIENT)
    new = replace(old, entry_uuid="Document01", logical_id=old.entry_uuid, title="better")
    moved, renamed = replace(new, patient_id=OTHER), replace(new, unique_id="1.2.3")
    assert restricted(archive, new_version(moved, 1)) == ["UnmodifiableMetadataError"]
    assert restricted(archive, new_version(renamed, 1)) == ["UnmodifiableMetadataError"]
    assert set(restricted(archive, new_status(old.entry_uuid, DEPRECATED))) == {"XDSMetadataUpdateOperationError"}
    assert set(restricted(archive, submitted(stroke()))) == {"XDSMetadataUpdateOperationError"}
    assert archive.find(PATIENT) == (old,)
    assert restricted(archive, new_version(new, 1)) == []
    assert [each.title for each in archive.find(PATIENT)] == ["better"]
    assert restricted(archive, new_version(new, 1)) == ["XDSMetadataVersionError"]
    (event, *_) = [each for each in archive.trail("ITI-92") if each.outcome == "0"]
    assert (event.body["action"], event.body["type"]["code"], bool(event.patient)) == ("U", "110107", True)


@shows("transaction", "ITI-42 Document Registry")
def test_what_is_registered_is_found(archive: Archive) -> None:
    sent = document()
    assert codes(register(archive, submitted(sent))) == []
    (found,) = archive.find(PATIENT)
    known = {
        "entry_uuid": found.entry_uuid,
        "logical_id": found.entry_uuid,
        "version": 1,
        "home_community_id": found.home_community_id,
    }
    assert found == replace(sent, **known)  # type: ignore[arg-type]
    (event,) = archive.trail("ITI-42")
    assert (event.outcome, event.body["action"], event.body["type"]["code"], bool(event.patient)) == ("0", "C", "110107", True)
    assert event.body["entity"][0]["what"]["identifier"]["value"].startswith("urn:oid:2.25.7.")


@shows("transaction", "ITI-42 Document Registry")
def test_all_errors_of_a_message_come_at_once(archive: Archive) -> None:
    wrong = submitted(document(class_code=None, language=""), document("Document02", size=None))
    answer = register(archive, wrong)
    assert codes(answer) == ["XDSRegistryMetadataError"] * 3
    assert {error.location for error in answer.errors} == {"Document01", "Document02"}
    assert archive.find(PATIENT) == ()
    (event,) = archive.trail("ITI-42")
    assert (event.outcome, event.why.startswith("XDSRegistryMetadataError")) == ("4", True)


STRANGER = "7359^^^&1.3.6.1.4.1.21367.13.20&ISO"


def test_an_unknown_patients_id_is_repeated_to_the_sender_and_nowhere_else(
    archive: Archive, capfd: pytest.CaptureFixture[str]
) -> None:
    """ITI TF-3 table 4.2.4.1-2, decision 26."""
    answer = register(archive, submitted(document(patient_id=STRANGER), patient=STRANGER))
    assert codes(answer) == ["XDSUnknownPatientId"]
    assert answer.errors[0].context.endswith(f": {STRANGER}")
    (event,) = archive.trail("ITI-42")
    assert "7359" not in orjson.dumps(event.body).decode()
    assert "7359" not in "".join(capfd.readouterr())


def test_of_patients_that_do_not_match_the_answer_has_the_id_that_was_sent_alone(archive: Archive) -> None:
    register(archive, submitted(document()))
    (hers,) = archive.find(PATIENT)
    about_hers = association("r", "Document01", hers.entry_uuid, RPLC)
    in_the_registry = register(archive, submitted(document(patient_id=OTHER), about_hers, patient=OTHER))
    in_the_message = register(archive, submitted(document(patient_id=STRANGER)))
    for answer, sent in ((in_the_registry, OTHER), (in_the_message, STRANGER)):
        assert codes(answer) == ["XDSPatientIdDoesNotMatch"]
        assert answer.errors[0].context.endswith(f": {sent}")
        assert PATIENT not in answer.errors[0].context
    told = orjson.dumps([event.body for event in archive.trail("ITI-42")]).decode()
    assert all(cx not in told for cx in (PATIENT, OTHER, STRANGER))


def test_a_replacement_and_its_refusal(archive: Archive) -> None:
    register(archive, submitted(document()))
    (old,) = archive.find(PATIENT)
    other = submitted(document(patient_id=OTHER), association("r", "Document01", old.entry_uuid, RPLC), patient=OTHER)
    assert codes(register(archive, other)) == ["XDSPatientIdDoesNotMatch"]
    assert codes(register(archive, submitted(document(), association("r", "Document01", old.entry_uuid, RPLC)))) == []
    (deprecated,) = archive.find(PATIENT, DEPRECATED)
    assert deprecated.entry_uuid == old.entry_uuid
    again = submitted(document(), association("r", "Document01", old.entry_uuid, RPLC))
    assert codes(register(archive, again)) == ["XDSRegistryDeprecatedDocumentError"]


@shows("transaction", "ITI-57 Document Registry", "ITI-62 Document Registry")
def test_an_update_and_a_removal(archive: Archive) -> None:
    register(archive, submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (old,) = archive.find(PATIENT)
    new = replace(old, entry_uuid="Document01", logical_id=old.entry_uuid, title="better")
    assert codes(update(archive, new_version(new, 1))) == []
    versions = archive.query(GetDocuments(unique_ids=(old.unique_id,)).query()).entries
    assert max(versions, key=lambda each: each.version).title == "better"
    assert codes(update(archive, new_version(new, 1))) == ["XDSMetadataVersionError"]
    assert codes(update(archive, new_status(old.entry_uuid, DEPRECATED))) != []
    assert [event.outcome for event in archive.trail("ITI-57")] == ["0", "4", "4"]
    removal = answered(archive, iti62.REQUEST_ACTION, iti62.request([old.entry_uuid]))
    assert set(codes(removal)) == {"ReferencesExistException"}
    (event,) = archive.trail("ITI-62")
    assert (event.outcome, event.body["action"], event.body["type"]["code"]) == ("4", "D", "110110")


@shows("transaction", "ITI-61 Document Registry")
def test_on_demand_entries_come_by_their_own_transaction(archive: Archive) -> None:
    made = document(object_type="urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248", creation_time="", hash="", size=None)
    assert set(codes(register(archive, submitted(made)))) == {"XDSRegistryMetadataError"}
    assert codes(answered(archive, iti61.REQUEST_ACTION, iti61.request(submitted(made)))) == []
    (event,) = archive.trail("ITI-61")
    assert event.outcome == "0"


@needs_shared
def test_codes_are_those_of_the_affinity_domain(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data", affinity_domain_codes=next(SHARED.glob("nist/environment/**/codes.xml"))) as node:
        Registry(node)
        answer = register(Archive(node), submitted(document()))
        assert set(codes(answer)) == {"XDSRegistryMetadataError"} or codes(answer) == ["XDSUnknownPatientId"]
        assert any("code set" in error.context for error in answer.errors)


def test_a_client_changes_nothing_of_it_by_fhir_but_tags(archive: Archive) -> None:
    register(archive, submitted(document()))
    (entry,) = archive.find(PATIENT)
    with archive.node.database.write() as connection:
        stored = resources.read(connection, "DocumentReference", entry.entry_uuid.removeprefix("urn:uuid:"))
        body = resources.unstamped(stored.body)
        tagged = {**body, "meta": {"tag": [{"code": "mine"}]}}
        assert projections.merge(connection, stored, tagged)["meta"] == tagged["meta"]
        with pytest.raises(Contradiction):
            projections.merge(connection, stored, {**body, "description": "mine"})
        with pytest.raises(Conflict):
            projections.require_deletable(connection, stored)
