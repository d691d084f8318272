"""ITI-64: documents that a hospital submitted for a patient are another patient's."""

import pytest
from peers.hl7_sender import adt
from peers.registering import OTHER, PATIENT, Registry, document, stroke, submitted
from peers.registry_objects import association
from sqlalchemy import Connection, true

from ihe import hl7v2, iti64
from ihe.hl7v2 import MessageRefused
from profiles.audit_event import Agent
from profiles.document import HAS_MEMBER
from server.edges.context import Node
from server.records import patients, resources, trail
from server.work.patient_feed import PatientFeed

ON_BOTH_ENGINES = True
LOCAL, OTHERS = "77^^^&1.3.6.1.4.1.21367.13.99&ISO", "78^^^&1.3.6.1.4.1.21367.13.99&ISO"
SENDER = Agent(identifier="MPI", address="127.0.0.1")


@pytest.fixture
def registry(opened: Node) -> Registry:
    return Registry(opened)


def _nothing(_: Connection) -> None:
    pass


def change(opened: Node, patient: str, previous: str, event: str = "A43") -> None:
    feed = PatientFeed(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    message = adt(event, f"PID|||{patient}|| ", f"MRG|{previous}", version="2.5")
    feed.take(iti64.read(hl7v2.read(message)), SENDER, _nothing)


def of(registry: Registry, local: str = LOCAL, *more: object) -> tuple[str, str]:
    """A document that was submitted under this local id, and its Submission Set."""
    done = registry.submit(submitted(document(source_patient_id=local), *more))  # type: ignore[arg-type]
    return done.submission.documents[0].entry_uuid, done.submission.submission_set.entry_uuid


def subject(registry: Registry, type_: str, id_: str) -> str:
    return str(registry.shown(type_, id_)["subject"]["reference"]).removeprefix("Patient/")


def patient(registry: Registry, cx: str) -> str:
    with registry.node.database.read() as connection:
        known = patients.registered(connection, cx)
    assert known is not None
    return known.id


def test_documents_of_the_local_id_are_the_other_patients(registry: Registry, opened: Node) -> None:
    moved, submission = of(registry)
    stays, other_submission = of(registry, OTHERS)
    change(opened, f"{OTHER}~{LOCAL}", PATIENT)
    assert registry.one(moved).patient_id == OTHER
    assert registry.one(moved).source_patient_id == LOCAL
    assert registry.one(submission).patient_id == OTHER, "all of it is hers"
    assert registry.one(stays).patient_id == PATIENT
    assert registry.one(other_submission).patient_id == PATIENT
    target = patient(registry, OTHER)
    assert subject(registry, "DocumentReference", moved) == target
    assert subject(registry, "List", submission) == target
    assert subject(registry, "DocumentReference", stays) == patient(registry, PATIENT)


def test_the_former_patient_is_in_no_version_any_more(registry: Registry, opened: Node) -> None:
    moved, _ = of(registry)
    change(opened, f"{OTHER}~{LOCAL}", PATIENT)
    with opened.database.read() as connection:
        former = f"Patient/{patient(registry, PATIENT)}".encode()
        page = resources.history(connection, since=0, allowed=lambda *_: true(), count=100)
        hers = [each.body for each in page.entries if each.id == moved.removeprefix("urn:uuid:")]
        assert len(hers) == 1
        assert former not in hers[0]
        told = [each for each in trail.events(connection, limit=100) if b'"ITI-64"' in each.body]
    assert {each.patient for each in told} == {patient(registry, PATIENT), patient(registry, OTHER)}


def test_a_local_id_that_was_subsumed_is_the_new_one(registry: Registry, opened: Node) -> None:
    moved, _ = of(registry, OTHERS)
    untouched, _ = of(registry, LOCAL)
    change(opened, f"{OTHER}~{LOCAL}", f"{PATIENT}~{OTHERS}")
    assert (registry.one(moved).patient_id, registry.one(moved).source_patient_id) == (OTHER, LOCAL)
    assert registry.one(untouched).patient_id == PATIENT, "the message is of the subsumed id"


def test_a_folder_loses_what_goes_and_goes_with_all_that_it_has(registry: Registry, opened: Node) -> None:
    done = registry.submit(
        submitted(
            document(source_patient_id=LOCAL),
            document("Document02", source_patient_id=OTHERS),
            document("Document03", source_patient_id=LOCAL),
            stroke(),
            stroke(entry_uuid="Folder02"),
            association("a", "Folder01", "Document01"),
            association("b", "Folder01", "Document02"),
            association("c", "Folder02", "Document03"),
        )
    ).submission
    mixed, hers = (each.entry_uuid for each in done.folders)
    change(opened, f"{OTHER}~{LOCAL}", PATIENT)
    held = [each.target for each in registry.around(mixed) if each.type == HAS_MEMBER and each.source == mixed]
    assert held == [done.documents[1].entry_uuid]
    assert registry.one(mixed).patient_id == PATIENT
    assert registry.one(hers).patient_id == OTHER
    assert len(registry.shown("List", mixed)["entry"]) == 1
    assert registry.one(done.submission_set.entry_uuid).patient_id == PATIENT, "what was submitted once, for both"


def test_nothing_of_that_id_is_nothing_to_do(registry: Registry, opened: Node) -> None:
    stays, _ = of(registry, OTHERS)
    change(opened, f"{OTHER}~{LOCAL}", PATIENT)
    assert registry.one(stays).patient_id == PATIENT


@pytest.mark.parametrize(
    ("pid", "mrg", "condition"),
    [
        (OTHER, PATIENT, "101"),
        (f"{OTHER}~{LOCAL}~{OTHERS}", PATIENT, "102"),
        (f"{OTHER}~5^^^SOMEBODY", PATIENT, "102"),
        (f"{PATIENT}~{LOCAL}", PATIENT, "205"),
        (f"{OTHER.replace('2^', '9^')}~{LOCAL}", PATIENT, "204"),
        (f"{OTHER}~{LOCAL}", PATIENT.replace("1^", "9^"), "204"),
    ],
)
def test_what_is_refused_changes_nothing(registry: Registry, opened: Node, pid: str, mrg: str, condition: str) -> None:
    stays, _ = of(registry)
    with pytest.raises(MessageRefused) as refused:
        change(opened, pid, mrg)
    assert refused.value.condition == condition
    assert registry.one(stays).patient_id == PATIENT
