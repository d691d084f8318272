"""Corrected patients and studies: every door out says the same, the bytes that came stay known, what comes late goes along."""

import io
from typing import Any

import orjson
import pytest
from peers.generated import Made, send
from peers.imageshare import publish_all
from pydicom import dcmread
from sqlalchemy import select

from profiles import manifest
from profiles.audit_event import Agent
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Patient
from server.edges.context import Node
from server.errors import NotFound, PatientConflict, Refused
from server.records import catalogue, changes, documents, registry, resources
from server.records.resources import unpacked
from server.upkeep import verify
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler, Target

ON_BOTH_ENGINES = True
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))
FIRST = [Made(series=1, number=1), Made(series=1, number=2, pixel=7)]
STUDY = FIRST[0].study_uid


def _patient_id(opened: Node, value: str) -> str:
    with opened.database.read() as connection:
        return str(connection.execute(select(catalogue.PATIENT.c.id).where(catalogue.PATIENT.c.value == value)).scalar_one())


def _said(opened: Node, study: str = STUDY) -> tuple[str, str, str]:
    """(Patient ID, name, accession number) as files, metadata, FHIR, manifest and catalogue say; they must agree."""
    found = set()
    with opened.database.read() as connection:
        instances = catalogue.instances(connection, study)
        loaded = catalogue.load(connection, catalogue.study_pk(connection, study))
        found.add((loaded.patient.identifier.value, loaded.patient.name, loaded.accession_number))
        for instance, body in zip(instances, catalogue.dicom_json(connection, [one.pk for one in instances]), strict=True):
            file = b"".join(opened.blobs.stream(instance.blob_id))
            assert len(file) == instance.size
            dataset = dcmread(io.BytesIO(file))
            found.add((dataset.PatientID, str(dataset.PatientName), dataset.AccessionNumber))
            told = orjson.loads(unpacked(body))
            found.add((told["00100020"]["Value"][0], told["00100010"]["Value"][0]["Alphabetic"], told["00080050"]["Value"][0]))
        entry = documents.current(connection, catalogue.study_pk(connection, study))
        assert entry is not None
        (document,) = documents.by_uuid(connection, [entry.entry_uuid])
        content = manifest.read(b"".join(opened.blobs.stream(document.blob_id)))
        assert (content.patient_id, content.accession_number) == (loaded.patient.identifier.value, loaded.accession_number)
        assert document.patient == loaded.patient.id
        fhir = orjson.loads(resources.read(connection, "ImagingStudy", loaded.id).body)
        assert fhir["subject"] == {"reference": f"Patient/{loaded.patient.id}"}
        resources.read(connection, "Patient", loaded.patient.id)
    (one,) = found
    return one


def test_a_corrected_accession_number_is_what_every_face_says(opened: Node, corrector: Corrector) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    assert _said(opened) == ("P1", "Test^Thea", "A1")
    for value in ("A2", "A3"):
        corrector.correct_study(STUDY, {"00080050": {"vr": "SH", "Value": [value]}}, actor=ACTOR)
        assert _said(opened) == ("P1", "Test^Thea", value)
    assert verify(opened.settings) == []
    with opened.database.read() as connection:
        assert [one.event for one in changes.read(connection)] == ["create"] * 2 + ["update"] * 4
    assert len(list(opened.blobs.list())) == 2 + 2 + 3, "originals, one copy of each, three manifests"
    assert [receipt.new for receipt in send(opened, *FIRST)] == [False, False], "the bytes that came are known"


def test_pixels_and_frames_of_a_corrected_instance_are_the_same(opened: Node, corrector: Corrector) -> None:
    from server.work.retrieve import frame, frame_table

    send(opened, *FIRST)
    publish_all(opened)
    corrector.correct_study(STUDY, {"00081030": {"vr": "LO", "Value": ["A much longer description than before"]}}, actor=ACTOR)
    with opened.database.read() as connection:
        instance = catalogue.by_sop_uid(connection, [FIRST[1].uid])[FIRST[1].uid]
        table = frame_table(connection, instance)
    assert b"".join(next(frame(opened.blobs, instance, table, 1)).read()) == bytes([7]) * 16


def test_an_updated_patient_is_updated_in_all_her_studies(opened: Node, corrector: Corrector) -> None:
    send(opened, *FIRST, Made(study=2), Made(study=3, patient="P2"))
    publish_all(opened)
    corrector.update_patient(
        _patient_id(opened, "P1"), {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Neu^Thea"}]}}, actor=ACTOR
    )
    assert _said(opened)[:2] == _said(opened, Made(study=2).study_uid)[:2] == ("P1", "Neu^Thea")
    assert _said(opened, Made(study=3).study_uid)[1] == "Test^Thea"
    send(opened, Made(number=9))
    publish_all(opened)
    assert _said(opened)[1] == "Neu^Thea", "what comes late says so too"


def test_a_moved_study_is_the_other_patients_and_no_longer_the_formers(opened: Node, corrector: Corrector) -> None:
    send(opened, *FIRST, Made(study=3, patient="P2", name="Right^Rita"))
    publish_all(opened)
    wrong = _patient_id(opened, "P1")
    to = Patient(PatientIdentifier("P2", AssigningAuthority(opened.installation.patients.oid)))
    corrector.move_study(STUDY, to, actor=ACTOR)
    assert _said(opened) == ("P2", "Right^Rita", "A1")
    with opened.database.read() as connection:
        assert (
            connection.execute(select(registry.OBJECT.c.pk).join(catalogue.PATIENT).where(catalogue.PATIENT.c.id == wrong)).all()
            == []
        )
    send(opened, Made(number=9))
    publish_all(opened)
    assert _said(opened) == ("P2", "Right^Rita", "A1"), "the scanner goes on under the wrong patient"
    with pytest.raises(PatientConflict):
        send(opened, Made(number=10, patient="P3"))


@pytest.mark.parametrize("is_merge", [False, True])
def test_what_clients_said_of_a_study_goes_with_its_patient(opened: Node, corrector: Corrector, is_merge: bool) -> None:
    """It was said of the patient whose the study was thought to be. After a merge that is one and the same."""
    send(opened, *FIRST, Made(study=3, patient="P2", name="Right^Rita"))
    publish_all(opened)
    said: dict[str, Any] = {
        "note": [{"text": "HIV positive"}],
        "encounter": {"reference": "Encounter/1"},
        "identifier": [{"value": "order of hers"}],
    }
    with opened.database.write() as connection:
        study = catalogue.load(connection, catalogue.study_pk(connection, STUDY))
        shown = resources.content(connection, "ImagingStudy", study.id)
        resources.put(
            connection,
            {**shown, **said, "identifier": [*shown["identifier"], *said["identifier"]], "meta": {"tag": [{"code": "t"}]}},
        )
    if is_merge:
        corrector.merge(study.patient.id, _patient_id(opened, "P2"), actor=ACTOR)
    else:
        to = Patient(PatientIdentifier("P2", AssigningAuthority(opened.installation.patients.oid)))
        corrector.move_study(STUDY, to, actor=ACTOR)
    with opened.database.read() as connection:
        now = resources.content(connection, "ImagingStudy", study.id)
        added = {"note", "encounter", "meta"} & now.keys()
        assert added == ({"note", "encounter", "meta"} if is_merge else set())
        assert (said["identifier"][0] in now["identifier"]) == is_merge
        assert now["subject"] == {"reference": f"Patient/{_patient_id(opened, 'P2')}"}
    assert _said(opened) == ("P2", "Right^Rita", "A1")


def test_a_study_may_move_to_a_patient_nobody_knew(opened: Node, corrector: Corrector) -> None:
    send(opened, *FIRST)
    to = Patient(PatientIdentifier("NEW", AssigningAuthority("1.2.3.4", "OTHER")), "Brand^New", "19990101", "M")
    corrector.move_study(STUDY, to, actor=ACTOR)
    publish_all(opened)
    assert _said(opened) == ("NEW", "Brand^New", "A1")
    with pytest.raises(NotFound):
        corrector.move_study("1.2.3", to, actor=ACTOR)


def test_merged_patients_are_one_also_for_what_comes_later(opened: Node, corrector: Corrector) -> None:
    send(opened, *FIRST, Made(study=3, patient="P2", name="Right^Rita"))
    publish_all(opened)
    source, target = _patient_id(opened, "P1"), _patient_id(opened, "P2")
    assert corrector.merge(source, target, actor=ACTOR) == 1
    assert _said(opened)[:2] == ("P2", "Right^Rita")
    with opened.database.read() as connection:
        old = orjson.loads(resources.read(connection, "Patient", source).body)
        assert (old["active"], old["link"]) == (False, [{"other": {"reference": f"Patient/{target}"}, "type": "replaced-by"}])
        assert [one.event for one in changes.read(connection)][-2:] == ["merge", "merge"]
    send(opened, Made(number=9), Made(study=4))
    publish_all(opened)
    assert _said(opened)[:2] == _said(opened, Made(study=4).study_uid)[:2] == ("P2", "Right^Rita")
    with pytest.raises(Refused):
        corrector.merge(target, target, actor=ACTOR)


def test_a_purge_of_a_corrected_study_takes_the_originals_too(opened: Node, corrector: Corrector, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    corrector.correct_study(STUDY, {"00080050": {"vr": "SH", "Value": ["A2"]}}, actor=ACTOR)
    reconciler.purge(Target(STUDY), actor=ACTOR)
    assert list(opened.blobs.list()) == []


def test_a_correction_that_fails_leaves_everything(opened: Node, corrector: Corrector, monkeypatch: pytest.MonkeyPatch) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    before = {name for name, _ in opened.blobs.list()}

    def failing(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(Reconciler, "shown", failing)
    with pytest.raises(OSError):
        corrector.correct_study(STUDY, {"00080050": {"vr": "SH", "Value": ["A2"]}}, actor=ACTOR)
    monkeypatch.undo()
    assert _said(opened)[2] == "A1"
    assert {name for name, _ in opened.blobs.list()} == before


def test_what_comes_in_meanwhile_is_corrected_too(opened: Node, corrector: Corrector, monkeypatch: pytest.MonkeyPatch) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    real, late = Reconciler.changing_all, iter([Made(number=9)])

    def interrupted(self: Reconciler, uids: list[str]) -> object:
        send(opened, *[made for made in late])
        return real(self, uids)

    monkeypatch.setattr(Reconciler, "changing_all", interrupted)
    corrector.correct_study(STUDY, {"00080050": {"vr": "SH", "Value": ["A2"]}}, actor=ACTOR)
    publish_all(opened)
    assert _said(opened)[2] == "A2"
    with opened.database.read() as connection:
        assert len(catalogue.instances(connection, STUDY)) == 3
    assert verify(opened.settings) == []
    assert len(list(opened.blobs.list())) == 3 + 3 + 3
