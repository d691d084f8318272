"""Rejecting, restoring and purging: every face follows at once, and what went does not come back by itself."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from peers.notes import rejection_note
from sqlalchemy import func, select

from profiles import manifest
from profiles.audit_event import Agent
from profiles.document import APPROVED, DEPRECATED
from server.edges.context import Node
from server.errors import LegallyHeld, MalformedQuery, NotFound, RejectedInstance
from server.records import belonging, catalogue, changes, documents, registry, rejections, resources, trail
from server.records.trail import EVENT
from server.store.blobs import FolderBlobs
from server.store.db import micros
from server.upkeep import sweep_orphans, verify
from server.work.reconcile import Actor, Reconciler, Target

ON_BOTH_ENGINES = True
FIRST = [Made(series=1, number=1), Made(series=1, number=2), Made(series=2, number=1, modality="MR")]
STUDY = FIRST[0].study_uid
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url, rejection_senders=["PACS"]) as made:
        yield made


def _study(opened: Node) -> dict[str, object]:
    with opened.database.read() as connection:
        id_ = connection.execute(select(catalogue.STUDY.c.id).where(catalogue.STUDY.c.uid == STUDY)).scalar_one()
        found: dict[str, object] = orjson.loads(resources.read(connection, "ImagingStudy", id_).body)
    return found


def _visible(opened: Node) -> set[str]:
    """What every face shows: retrieval, ImagingStudy and manifest must agree."""
    with opened.database.read() as connection:
        stored = {one.uid for one in catalogue.instances(connection, STUDY)}
        entry = documents.current(connection, 1)
        listed = set()
        if entry is not None:
            (document,) = documents.by_uuid(connection, [entry.entry_uuid])
            content = manifest.read(b"".join(opened.blobs.stream(document.blob_id)))
            listed = {one.sop_instance_uid for series in content.series for one in series.instances}
        counted = connection.execute(
            select(func.sum(catalogue.SERIES.c.instance_count)).where(catalogue.SERIES.c.study_pk == 1)
        ).scalar_one()
    series = _study(opened).get("series", [])
    in_fhir = {one["uid"] for each in series for one in each["instance"]}  # type: ignore[attr-defined]
    assert stored == listed == in_fhir
    assert counted == len(stored)
    return stored


def _events(opened: Node) -> list[tuple[str, str]]:
    with opened.database.read() as connection:
        return [(one.event, one.uid) for one in changes.read(connection, limit=1000)]


def _refused(opened: Node) -> list[tuple[str, str, set[str]]]:
    """(sender, why, what was named) of every refusal in the trail."""
    found = []
    with opened.database.read() as connection:
        for one in trail.events(connection, EVENT.c.outcome != "0", limit=100):
            body = orjson.loads(one.body)
            (agent,) = (each for each in body["agent"] if each["requestor"])
            named = {each["what"].get("identifier", {}).get("value") for each in body["entity"]}
            found.append((agent["who"]["identifier"]["value"], body["outcomeDesc"], named - {None}))
    return found


def test_a_rejected_instance_is_hidden_everywhere_and_comes_back_when_restored(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    everything = _visible(opened)
    assert reconciler.reject(Target(STUDY, FIRST[2].series_uid), reason=rejections.QUALITY, actor=ACTOR) == 1
    assert _visible(opened) == everything - {FIRST[2].uid}
    assert _study(opened)["numberOfSeries"] == 1
    assert reconciler.reject(Target(STUDY, FIRST[2].series_uid), reason=rejections.QUALITY, actor=ACTOR) == 0
    assert reconciler.restore(Target(STUDY), actor=ACTOR) == 1
    assert _visible(opened) == everything
    publish_all(opened)
    assert _visible(opened) == everything
    assert _events(opened) == [("create", made.uid) for made in FIRST] + [("reject", FIRST[2].uid), ("restore", FIRST[2].uid)]


def test_a_study_of_which_nothing_is_left_is_withdrawn(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    reconciler.reject(Target(STUDY), reason=rejections.WRONG_WORKLIST, actor=ACTOR)
    assert _visible(opened) == set()
    assert (_study(opened)["status"], _study(opened)["numberOfInstances"]) == ("entered-in-error", 0)
    with opened.database.read() as connection:
        with pytest.raises(NotFound):
            catalogue.study_patient(connection, STUDY)
        assert catalogue.counts(connection) == {"studies": 0, "instances": 0, "pending": 0}
        found = registry.objects(connection, registry.OBJECT.c.kind == "document")
        assert [each.entry.status for each in found] == [DEPRECATED]
    send(opened, Made(series=3))
    publish_all(opened)
    assert _visible(opened) == {Made(series=3).uid}
    assert _study(opened)["status"] == "available"


def test_what_is_rejected_while_it_waits_is_never_shown(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    reconciler.reject(Target(STUDY, FIRST[0].series_uid, FIRST[0].uid), reason=rejections.PATIENT_SAFETY, actor=ACTOR)
    publish_all(opened)
    assert _visible(opened) == {FIRST[1].uid, FIRST[2].uid}
    reconciler.restore(Target(STUDY), actor=ACTOR)
    publish_all(opened)
    assert _visible(opened) == {made.uid for made in FIRST}


@pytest.mark.parametrize("purged", [False, True])
def test_what_was_withdrawn_is_refused_when_it_is_sent_again(opened: Node, reconciler: Reconciler, *, purged: bool) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    target = Target(STUDY, FIRST[0].series_uid, FIRST[0].uid)
    if purged:
        reconciler.purge(target, actor=ACTOR)
    else:
        reconciler.reject(target, reason=rejections.QUALITY, actor=ACTOR)
    with pytest.raises(RejectedInstance) as refusal:
        send(opened, FIRST[0])
    assert (refusal.value.dimse_status, FIRST[0].uid in refusal.value.detail) == (0xA770, False)
    publish_all(opened)
    assert _visible(opened) == {FIRST[1].uid, FIRST[2].uid}
    assert reconciler.restore(target, actor=ACTOR) == (0 if purged else 1)
    assert [receipt.new for receipt in send(opened, FIRST[0])] == [purged]
    publish_all(opened)
    assert _visible(opened) == {made.uid for made in FIRST}


def test_a_purge_leaves_no_byte_and_no_word_about_the_patient(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    assert len(list(opened.blobs.list())) == 4
    assert reconciler.purge(Target(STUDY), actor=ACTOR) == 3
    assert list(opened.blobs.list()) == []
    assert verify(opened.settings) == []
    assert _visible(opened) == set()
    with opened.database.read() as connection:
        assert documents.current(connection, 1) is None
        (version,) = connection.execute(
            select(func.count())
            .select_from(resources.VERSION)
            .join(resources.RESOURCE)
            .where(resources.RESOURCE.c.type == "ImagingStudy")
        ).scalars()
        assert version == 1
        row = connection.execute(select(catalogue.STUDY)).mappings().one()
        assert (row["description"], row["accession_number"], row["attributes"]) == ("", "", b"{}")
        assert [(one.event, one.latest) for one in changes.read(connection)] == [("create", False)] * 3 + [("delete", True)] * 3
        told = [body for (body,) in connection.execute(select(EVENT.c.body).where(EVENT.c.subtype == "delete"))]
    assert len(told) == 1
    publish_all(opened)
    with pytest.raises(NotFound):
        reconciler.purge(Target(STUDY), actor=ACTOR)


def _about(opened: Node) -> list[dict[str, object]]:
    """What the rows of the study and its series say they are about, as the instances brought it."""
    with opened.database.read() as connection:
        study = connection.execute(select(catalogue.STUDY)).mappings().one()
        series = connection.execute(select(catalogue.SERIES).order_by(catalogue.SERIES.c.uid)).mappings().all()
    told = [{k: v for k, v in study.items() if k not in ("version", "updated", "received", "result")}]
    return told + [{k: v for k, v in one.items() if k != "result"} for one in series]


@pytest.mark.parametrize("series", [None, FIRST[2].series_uid])
def test_what_went_because_its_time_was_over_may_come_back(opened: Node, reconciler: Reconciler, series: str | None) -> None:
    """Whole, or a series of it: the rows that stayed, emptied, say again what they are about."""
    send(opened, *FIRST)
    publish_all(opened)
    before, moment = _about(opened), micros()
    reconciler.purge(Target(STUDY, series), actor=ACTOR, reason=rejections.RETENTION)
    assert _about(opened) != before
    send(opened, *FIRST)
    publish_all(opened)
    assert _visible(opened) == {made.uid for made in FIRST}
    assert _about(opened) == before
    with opened.database.read() as connection:
        received = connection.execute(select(catalogue.STUDY.c.received)).scalar_one()
    assert (received > moment) == (series is None), "its time begins anew"


def _person(opened: Node, value: str = "P1") -> tuple[list[str], dict[str, object], int]:
    """What is known of a patient: in the catalogue, as FHIR Patient, and in how many versions of it."""
    patient = catalogue.PATIENT.c
    with opened.database.read() as connection:
        columns = (patient.id, patient.name, patient.name_folded, patient.birth_date, patient.sex)
        id_, *known = connection.execute(select(*columns).where(patient.value == value)).one()
        kept = select(resources.VERSION.c.version).join(resources.RESOURCE).where(resources.RESOURCE.c.id == id_)
        shown = resources.content(connection, "Patient", id_)
        return known, shown, len(connection.execute(kept).all())


def test_with_her_last_study_the_patient_is_forgotten_and_known_again_when_one_comes(
    opened: Node, reconciler: Reconciler
) -> None:
    send(opened, *FIRST, Made(study=2))
    publish_all(opened)
    before = _person(opened)
    assert (before[0][0], "name" in before[1]) == ("Test^Thea", True)
    reconciler.reject(Target(Made(study=2).study_uid), reason=rejections.QUALITY, actor=ACTOR)
    reconciler.purge(Target(STUDY), actor=ACTOR, reason=rejections.RETENTION)
    assert _person(opened) == before, "she has a study, though hidden"
    reconciler.purge(Target(Made(study=2).study_uid), actor=ACTOR)
    known, shown, versions = _person(opened)
    assert (known, versions) == ([""] * 4, 1)
    assert set(shown) <= {"resourceType", "id", "meta", "identifier"}
    send(opened, *FIRST)
    publish_all(opened)
    assert _person(opened)[:2] == before[:2]
    send(opened, Made(study=3, name="Other^Name"))
    publish_all(opened)
    assert _person(opened)[:2] == before[:2], "the first to come says who she is, as ever"


@pytest.mark.parametrize("by", ["name", "telecom", "observation", "a deleted observation", "a tag"])
def test_whom_clients_know_by_more_than_images_said_is_not_forgotten(opened: Node, reconciler: Reconciler, by: str) -> None:
    """Nor are versions of her; with retention nobody would have asked for it."""
    send(opened, *FIRST)
    publish_all(opened)
    id_ = str(_person(opened)[1]["id"])
    said: dict[str, object] = {}
    with opened.database.write() as connection:
        if by == "name":
            said = {"name": [{"family": "Fromehr"}]}
        elif by == "telecom":
            said = {"telecom": [{"value": "1"}]}
        elif by == "a tag":
            said = {"meta": {"tag": [{"code": "t"}]}}
        resources.put(connection, {**resources.content(connection, "Patient", id_), **said})
        if "observation" in by:
            subject = {"reference": f"Patient/{id_}"}
            resources.put(
                connection, {"resourceType": "Observation", "id": "o", "status": "final", "code": {}, "subject": subject}
            )
        if "deleted" in by:
            resources.delete(connection, "Observation", "o")
    before = _person(opened)
    reconciler.purge(Target(STUDY), actor=ACTOR, reason=rejections.RETENTION)
    if by in ("a deleted observation", "a tag"):
        assert set(_person(opened)[1]) == {"resourceType", "id", "identifier"}
    else:
        assert _person(opened) == before
        assert before[1].items() >= said.items()


def test_a_purge_of_a_part_leaves_no_version_that_names_it(opened: Node, reconciler: Reconciler) -> None:
    """Neither of the ImagingStudy nor a manifest; what clients added to the study stays."""
    send(opened, *FIRST)
    publish_all(opened)
    with opened.database.write() as connection:
        noted = {**resources.content(connection, "ImagingStudy", str(_study(opened)["id"])), "note": [{"text": "n"}]}
        resources.put(connection, noted)
    reconciler.purge(Target(STUDY, FIRST[2].series_uid), actor=ACTOR)
    assert _visible(opened) == {made.uid for made in FIRST[:2]}
    assert _study(opened)["note"] == [{"text": "n"}]
    with opened.database.read() as connection:
        bodies = connection.execute(select(resources.VERSION.c.body)).scalars().all()
        entries = [each.entry.status for each in registry.objects(connection, registry.OBJECT.c.kind == "document")]
    assert not any(FIRST[2].series_uid.encode() in resources.unpacked(body) for body in bodies if body)
    assert entries == [APPROVED]
    for name, _ in opened.blobs.list():
        assert FIRST[2].uid.encode() not in b"".join(opened.blobs.stream(name))


def test_a_patient_whose_late_images_are_corrected_to_her_name_keeps_it(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST, Made(study=2, patient="P2", name="Zwei^Zoe"))
    publish_all(opened)
    with opened.database.write() as connection:
        (one, two) = connection.execute(select(catalogue.PATIENT.c.pk).order_by(catalogue.PATIENT.c.value)).scalars()
        belonging.merge(connection, one, two)
    reconciler.purge(Target(Made(study=2).study_uid), actor=ACTOR)
    assert _person(opened, "P2")[0][0] == "Zwei^Zoe"


def test_a_crash_between_rows_and_files_is_finished_by_the_worker(
    opened: Node, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    monkeypatch.setattr(Reconciler, "erase", lambda *_: None)
    reconciler.purge(Target(STUDY), actor=ACTOR)
    assert len(list(opened.blobs.list())) == 4
    monkeypatch.undo()
    with opened.database.write() as connection:
        connection.exec_driver_sql("UPDATE job SET due = 0")
    publish_all(opened)
    assert list(opened.blobs.list()) == []


def test_the_sweep_of_a_restart_erases_what_was_purged_and_sets_nothing_of_it_aside(
    opened: Node, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    monkeypatch.setattr(Reconciler, "erase", lambda *_: None)
    reconciler.purge(Target(STUDY), actor=ACTOR)
    sweep_orphans(opened.settings, alone=True)
    assert list(opened.blobs.list()) == []
    assert not (opened.settings.blob_folder / "quarantine").exists()


def test_nothing_changes_where_the_manifest_cannot_be_written(
    opened: Node, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    before = _events(opened)

    def full(_: FolderBlobs, __: str) -> None:
        raise OSError

    monkeypatch.setattr(FolderBlobs, "create", full)
    with pytest.raises(OSError):
        reconciler.reject(Target(STUDY, FIRST[2].series_uid), reason=rejections.QUALITY, actor=ACTOR)
    assert _visible(opened) == {made.uid for made in FIRST}
    assert _events(opened) == before


def test_a_study_under_legal_hold_is_not_purged(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    with opened.database.write() as connection:
        rejections.hold(connection, STUDY, why="case 1", who="tester")
    with pytest.raises(LegallyHeld):
        reconciler.purge(Target(STUDY), actor=ACTOR)
    with opened.database.write() as connection:
        assert rejections.release(connection, STUDY)
    assert reconciler.purge(Target(STUDY), actor=ACTOR) == 3


def test_only_reasons_of_the_standard_and_only_what_is_there(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    with pytest.raises(MalformedQuery, match="CID 7011"):
        reconciler.reject(Target(STUDY), reason="113002", actor=ACTOR)
    for act in (reconciler.purge, reconciler.restore):
        with pytest.raises(NotFound):
            act(Target("1.2.3"), actor=ACTOR)
    with pytest.raises(NotFound):
        reconciler.restore(Target(STUDY), actor=ACTOR)


@pytest.mark.parametrize(
    ("reason", "sender", "left"),
    [
        (rejections.QUALITY, "PACS", {FIRST[1].uid, FIRST[2].uid, "note"}),
        (rejections.PATIENT_SAFETY, "PACS", {FIRST[1].uid, FIRST[2].uid}),
        (rejections.PATIENT_SAFETY, "STRANGER", {FIRST[0].uid, FIRST[1].uid, FIRST[2].uid, "note"}),
        ("113000", "PACS", {FIRST[0].uid, FIRST[1].uid, FIRST[2].uid, "note"}),
    ],
)
def test_a_rejection_note_is_obeyed_from_whom_it_may_come(opened: Node, reason: str, sender: str, left: set[str]) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    note = rejection_note(FIRST[:1], reason)
    send(opened, note, name=sender)
    publish_all(opened)
    named = {uid if uid != "note" else f"{STUDY}.99.1" for uid in left}
    assert _visible(opened) == named
    refused = [] if sender == "PACS" else [(sender, "the sender of this rejection note may not reject", {f"urn:oid:{STUDY}"})]
    assert _refused(opened) == refused


def test_a_rejection_note_does_not_reach_another_patient(opened: Node) -> None:
    send(opened, *FIRST, Made(study=2, patient="P2"))
    publish_all(opened)
    send(opened, rejection_note(FIRST, rejections.PATIENT_SAFETY, about=Made(study=2, patient="P2")), name="PACS")
    publish_all(opened)
    assert _visible(opened) == {made.uid for made in FIRST}
    assert _refused(opened) == [("PACS", "this rejection note is of another patient", {f"urn:oid:{STUDY}"})]


def test_the_feed_has_no_gaps_and_says_what_is_newest(opened: Node, reconciler: Reconciler) -> None:
    send(opened, *FIRST)
    publish_all(opened)
    moment = micros()
    reconciler.reject(Target(STUDY, FIRST[2].series_uid), reason=rejections.QUALITY, actor=ACTOR)
    with opened.database.read() as connection:
        found = changes.read(connection)
        assert [one.sequence for one in found] == [1, 2, 3, 4]
        assert [one.latest for one in found] == [True, True, False, True]
        assert changes.read(connection, offset=2, limit=1) == found[2:3]
        assert changes.read(connection, start=moment) == found[3:]
        assert changes.read(connection, end=moment, offset=1) == found[1:3]
        assert changes.newest(connection) == [found[3]]
        assert [one.version for one in found] == [1, 1, 1, 2]
