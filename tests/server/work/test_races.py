"""Acts that meet: a study is rejected, purged, moved or corrected while it is published, a patient merged while images come in."""

import io
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from peers.generated import Made, send
from peers.imageshare import publish_all
from pydicom import dcmread
from sqlalchemy import select, update

from profiles import frames, manifest, part10
from profiles.audit_event import Agent
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Patient
from server.edges.context import Node
from server.errors import Conflict
from server.records import belonging, catalogue, changes, corrections, documents, rejections, resources
from server.records.resources import unpacked
from server.store.tables import Job
from server.upkeep import verify
from server.work.corrections import Copies, Corrector
from server.work.publish import Publisher
from server.work.reconcile import Actor, Reconciler, Target

ON_BOTH_ENGINES = True
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))
TWO = [Made(), Made(number=2)]
STUDY = TWO[0].study_uid
JOB = Job.__table__  # type: ignore[attr-defined]


@pytest.fixture
def once_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, Callable[[], object]], None]:
    """Does something once, as soon as the named function has been called and before its caller goes on."""

    def patch(where: Any, name: str, act: Callable[[], object]) -> None:
        real, left = getattr(where, name), [act]

        def followed(*args: Any, **named: Any) -> Any:
            found = real(*args, **named)
            while left:
                left.pop()()
            return found

        monkeypatch.setattr(where, name, followed)

    return patch


Once = Callable[[Any, str, Callable[[], object]], None]


def _publish(opened: Node) -> None:
    """Also what was put back because something came in between."""
    for _ in range(3):
        publish_all(opened)
        with opened.database.write() as connection:
            connection.execute(update(JOB).values(due=0))


def _p2(opened: Node) -> Patient:
    return Patient(PatientIdentifier("P2", AssigningAuthority(opened.installation.patients.oid)))


def _accession(value: str) -> dict[str, dict[str, object]]:
    return {"00080050": {"vr": "SH", "Value": [value]}}


def _id(opened: Node, value: str) -> str:
    with opened.database.read() as connection:
        return str(connection.execute(select(catalogue.PATIENT.c.id).where(catalogue.PATIENT.c.value == value)).scalar_one())


def _shown(opened: Node, study: str = STUDY) -> set[str]:
    """The instances that every face shows: retrieval, ImagingStudy, manifest and counts must agree."""
    with opened.database.read() as connection:
        pk = catalogue.study_pk(connection, study)
        uids = {one.uid for one in catalogue.instances(connection, study)}
        loaded = catalogue.load(connection, pk)
        counted = connection.execute(select(catalogue.STUDY.c.instance_count).where(catalogue.STUDY.c.pk == pk)).scalar_one()
        assert counted == len(uids)
        entry = documents.current(connection, pk)
        if not uids:
            assert entry is None
            assert loaded.version <= 0
            return uids
        fhir = orjson.loads(resources.read(connection, "ImagingStudy", loaded.id).body)
        assert {one["uid"] for series in fhir["series"] for one in series["instance"]} == uids
        assert entry is not None
        (document,) = documents.by_uuid(connection, [entry.entry_uuid])
        content = manifest.read(b"".join(opened.blobs.stream(document.blob_id)))
        assert {one.sop_instance_uid for series in content.series for one in series.instances} == uids
    return uids


def _said(opened: Node, study: str = STUDY) -> tuple[str, str]:
    """(Patient ID, accession number) as files, their frames, metadata, FHIR, manifest and catalogue say; they must agree."""
    with opened.database.read() as connection:
        pk = catalogue.study_pk(connection, study)
        loaded = catalogue.load(connection, pk)
        found = {(loaded.patient.identifier.value, loaded.accession_number)}
        instances = catalogue.instances(connection, study)
        assert instances
        for one, body in zip(instances, catalogue.dicom_json(connection, [one.pk for one in instances]), strict=True):
            file = io.BytesIO(b"".join(opened.blobs.stream(one.blob_id)))
            table = frames.table(part10.parse(file), file)
            assert catalogue.frame_table(connection, one.pk) == (table.to_bytes() if table else None)
            file.seek(0)
            dataset = dcmread(file)
            found.add((dataset.PatientID, dataset.AccessionNumber))
            told = orjson.loads(unpacked(body))
            found.add((told["00100020"]["Value"][0], told["00080050"]["Value"][0]))
        fhir = orjson.loads(resources.read(connection, "ImagingStudy", loaded.id).body)
        assert fhir["subject"] == {"reference": f"Patient/{loaded.patient.id}"}
        entry = documents.current(connection, pk)
        assert entry is not None
        (document,) = documents.by_uuid(connection, [entry.entry_uuid])
        content = manifest.read(b"".join(opened.blobs.stream(document.blob_id)))
        found.add((content.patient_id, content.accession_number))
    assert verify(opened.settings) == []
    (one_answer,) = found
    return one_answer


# --- what happens between the publisher's plan and its transaction, to a study that was never shown


def test_what_is_rejected_while_it_is_published_stays_hidden(opened: Node, reconciler: Reconciler, once_after: Once) -> None:
    send(opened, *TWO)
    once_after(Publisher, "_plan", lambda: reconciler.reject(Target(STUDY), reason=rejections.PATIENT_SAFETY, actor=ACTOR))
    _publish(opened)
    assert _shown(opened) == set()
    reconciler.restore(Target(STUDY), actor=ACTOR)
    _publish(opened)
    assert _shown(opened) == {one.uid for one in TWO}
    assert _said(opened) == ("P1", "A1")


def test_of_a_study_only_the_instance_that_is_rejected_meanwhile_is_hidden(
    opened: Node, reconciler: Reconciler, once_after: Once
) -> None:
    send(opened, *TWO)
    target = Target(STUDY, TWO[0].series_uid, TWO[0].uid)
    once_after(Publisher, "_plan", lambda: reconciler.reject(target, reason=rejections.QUALITY, actor=ACTOR))
    _publish(opened)
    assert _shown(opened) == {TWO[1].uid}


@pytest.mark.parametrize("act", ["reject and restore", "reject and restore one of a shown study"])
def test_what_was_rejected_and_restored_meanwhile_is_shown_once(
    opened: Node, reconciler: Reconciler, once_after: Once, act: str
) -> None:
    if act.endswith("study"):
        send(opened, Made(number=3))
        _publish(opened)
    send(opened, *TWO)
    target = Target(STUDY, TWO[0].series_uid, TWO[0].uid)

    def there_and_back() -> None:
        reconciler.reject(target, reason=rejections.QUALITY, actor=ACTOR)
        reconciler.restore(target, actor=ACTOR)

    once_after(Publisher, "_plan", there_and_back)
    _publish(opened)
    assert _shown(opened) >= {one.uid for one in TWO}
    with opened.database.read() as connection:
        created = [one.uid for one in changes.read(connection) if one.event == "create"]
    assert len(created) == len(set(created))


def test_a_study_that_moves_while_it_is_published_is_the_new_patients_everywhere(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, *TWO, Made(study=3, patient="P2"))
    once_after(Publisher, "_plan", lambda: corrector.move_study(STUDY, _p2(opened), actor=ACTOR))
    _publish(opened)
    assert _said(opened) == ("P2", "A1")
    assert _shown(opened) == {one.uid for one in TWO}


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_purged_while_it_is_published_is_nowhere(
    opened: Node, reconciler: Reconciler, once_after: Once, *, whole: bool
) -> None:
    send(opened, *TWO)
    target = Target(STUDY) if whole else Target(STUDY, TWO[0].series_uid, TWO[0].uid)
    once_after(Publisher, "_plan", lambda: reconciler.purge(target, actor=ACTOR))
    _publish(opened)
    assert _shown(opened) == (set() if whole else {TWO[1].uid})
    with opened.database.read() as connection:
        created = {one.uid for one in changes.read(connection) if one.event == "create"}
    assert created == (set() if whole else {TWO[1].uid})


def test_nothing_is_told_of_instances_that_are_gone(opened: Node) -> None:
    with opened.database.write() as connection:
        changes.record(connection, "create", [4711])
    with opened.database.read() as connection:
        assert changes.read(connection) == []


def test_only_what_waits_is_published(opened: Node) -> None:
    """The rows decide, should the version ever say nothing."""
    send(opened, *TWO)
    with opened.database.read() as connection:
        study = catalogue.load(connection, 1)
        news = [pk for pk, _ in catalogue.pending(connection, 1, prepared=False)]
    with opened.database.write() as connection:
        connection.execute(update(catalogue.INSTANCE).where(catalogue.INSTANCE.c.pk == news[0]).values(published=2))
    with opened.database.write() as connection:
        assert not catalogue.publish(connection, 1, study, news, updated=1)
        connection.rollback()


# --- what happens while late instances are made ready


def test_a_late_instance_that_is_corrected_while_it_is_made_ready_is_made_ready_again(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, Made(), Made(study=3, patient="P2-that-is-known-by-a-longer-identifier"))
    _publish(opened)
    send(opened, Made(number=2))
    to = Patient(PatientIdentifier("P2-that-is-known-by-a-longer-identifier", _p2(opened).identifier.authority))
    once_after(Publisher, "_rendered", lambda: corrector.move_study(STUDY, to, actor=ACTOR))
    _publish(opened)
    assert _said(opened) == (to.identifier.value, "A1")
    assert _shown(opened) == {one.uid for one in TWO}


def test_what_comes_after_the_late_ones_were_corrected_is_corrected_too(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, Made())
    _publish(opened)
    corrector.correct_study(STUDY, _accession("A2"), actor=ACTOR)
    send(opened, Made(number=2))
    once_after(Copies, "apply_late", lambda: send(opened, Made(number=3)))
    _publish(opened)
    assert _said(opened) == ("P1", "A2")
    assert len(_shown(opened)) == 3


def test_a_correction_made_while_late_instances_are_corrected_is_kept(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, Made())
    _publish(opened)
    corrector.correct_study(STUDY, _accession("A2"), actor=ACTOR)
    send(opened, Made(number=2))
    once_after(Copies, "_copy", lambda: corrector.correct_study(STUDY, _accession("A3"), actor=ACTOR))
    _publish(opened)
    assert _said(opened) == ("P1", "A3")
    with opened.database.read() as connection:
        assert corrections.of(connection, 1)["00080050"] == {"vr": "SH", "Value": ["A3"]}


def test_late_instances_leave_who_corrected_as_it_is(opened: Node, corrector: Corrector) -> None:
    send(opened, Made())
    _publish(opened)
    corrector.correct_study(STUDY, _accession("A2"), actor=ACTOR)
    with opened.database.write() as connection:
        corrections.put(connection, 1, corrections.of(connection, 1), who="somebody")
    send(opened, Made(number=2))
    _publish(opened)
    with opened.database.read() as connection:
        assert connection.execute(select(corrections.CORRECTION.c.who)).scalar_one() == "somebody"


# --- corrections that meet each other, and what comes in


def test_two_corrections_of_one_study_are_both_kept(opened: Node, corrector: Corrector, once_after: Once) -> None:
    send(opened, *TWO)
    _publish(opened)
    described: dict[str, dict[str, object]] = {"00081030": {"vr": "LO", "Value": ["Described"]}}
    once_after(Copies, "_copy", lambda: corrector.correct_study(STUDY, described, actor=ACTOR))
    corrector.correct_study(STUDY, _accession("A2"), actor=ACTOR)
    assert _said(opened) == ("P1", "A2")
    with opened.database.read() as connection:
        assert corrections.of(connection, 1) == {**described, **_accession("A2")}
        assert catalogue.load(connection, 1).description == "Described"


def test_a_study_that_arrives_during_a_merge_is_merged_too(opened: Node, corrector: Corrector, once_after: Once) -> None:
    send(opened, Made(), Made(study=3, patient="P2"))
    _publish(opened)
    once_after(Copies, "_copy", lambda: send(opened, Made(study=7)))
    assert corrector.merge(_id(opened, "P1"), _id(opened, "P2"), actor=ACTOR) == 2
    send(opened, Made(study=7, number=2))
    _publish(opened)
    assert _said(opened, Made(study=7).study_uid) == _said(opened) == ("P2", "A1")


def test_a_study_that_is_placed_while_its_patient_is_merged_goes_along(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    if opened.database.is_sqlite:
        pytest.skip("a writer is alone on SQLite")
    send(opened, Made(), Made(study=3, patient="P2"))
    _publish(opened)
    source, target = _id(opened, "P1"), _id(opened, "P2")
    once_after(belonging, "merged", lambda: corrector.merge(source, target, actor=ACTOR))
    send(opened, Made(study=7))
    _publish(opened)
    assert _said(opened, Made(study=7).study_uid) == ("P2", "A1")


def test_a_study_that_becomes_the_patients_during_an_update_of_her_is_updated_too(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, Made(), Made(study=3, patient="P2"))
    _publish(opened)
    once_after(Copies, "_copy", lambda: corrector.move_study(STUDY, _p2(opened), actor=ACTOR))
    corrector.update_patient(_id(opened, "P2"), {"00100040": {"vr": "CS", "Value": ["O"]}}, actor=ACTOR)
    with opened.database.read() as connection:
        (one,) = catalogue.instances(connection, STUDY)
        assert dcmread(io.BytesIO(b"".join(opened.blobs.stream(one.blob_id)))).PatientSex == "O"
    assert _said(opened) == ("P2", "A1")


def test_a_study_that_moves_while_its_new_patient_is_updated_says_so(
    opened: Node, corrector: Corrector, once_after: Once
) -> None:
    send(opened, Made(), Made(study=3, patient="P2"))
    _publish(opened)
    sex: dict[str, dict[str, object]] = {"00100040": {"vr": "CS", "Value": ["O"]}}
    once_after(Copies, "_copy", lambda: corrector.update_patient(_id(opened, "P2"), sex, actor=ACTOR))
    corrector.move_study(STUDY, _p2(opened), actor=ACTOR)
    with opened.database.read() as connection:
        (one,) = catalogue.instances(connection, STUDY)
        assert dcmread(io.BytesIO(b"".join(opened.blobs.stream(one.blob_id)))).PatientSex == "O"


def test_a_patient_that_is_merged_meanwhile_is_not_merged_into(opened: Node, corrector: Corrector, once_after: Once) -> None:
    send(opened, Made(), Made(study=3, patient="P2"), Made(study=4, patient="P3"))
    _publish(opened)
    first, second, third = (_id(opened, value) for value in ("P1", "P2", "P3"))
    once_after(Copies, "_copy", lambda: corrector.merge(second, third, actor=ACTOR))
    with pytest.raises(Conflict):
        corrector.merge(first, second, actor=ACTOR)
    assert _said(opened)[0] == "P1"
    assert _said(opened, Made(study=3).study_uid)[0] == "P3"
