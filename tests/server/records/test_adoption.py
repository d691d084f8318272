"""What clients made before its images came: the study's own resource, if it is of the study's patient, and nothing of it in any other case."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import select, update

from profiles.audit_event import Agent
from profiles.fhir.json import parse
from server.edges.context import Node
from server.records import belonging, identities, resources
from server.records.catalogue import PATIENT, STUDY
from server.records.resources import RESOURCE
from server.store.tables import Job
from server.work.publish import Publisher
from server.work.reconcile import Actor, Reconciler, Target

ON_BOTH_ENGINES = True
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))
UID = {"system": "urn:dicom:uid", "value": f"urn:oid:{Made().study_uid}"}
JOB = Job.__table__  # type: ignore[attr-defined]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        yield made


def _patient(opened: Node, value: str = "P1", id_: str = "theirs") -> dict[str, Any]:
    named = {"system": f"urn:oid:{opened.installation.patients.oid}", "value": value}
    return {"resourceType": "Patient", "id": id_, "identifier": [named], "name": [{"family": "Said by the EHR"}]}


def _study(patient: str = "theirs", id_: str = "mine", **more: Any) -> dict[str, Any]:
    said = {"status": "registered", "identifier": [UID], "note": [{"text": f"of {patient}"}]}
    return {"resourceType": "ImagingStudy", "id": id_, "subject": {"reference": f"Patient/{patient}"}, **said, **more}


def _write(opened: Node, *given: dict[str, Any]) -> None:
    with opened.database.write() as connection:
        for each in given:
            resources.put(connection, each)


def _all(opened: Node, type_: str) -> dict[str, dict[str, Any]]:
    with opened.database.read() as connection:
        rows = connection.execute(select(RESOURCE.c.id, RESOURCE.c.body).where(RESOURCE.c.type == type_, RESOURCE.c.deleted == 0))
        return {id_: parse(resources.unpacked(body)) for id_, body in rows}


def _owner(opened: Node) -> str | None:
    with opened.database.read() as connection:
        return identities.by_identity(connection, "ImagingStudy", UID["system"], UID["value"])


@pytest.mark.parametrize("when", ["before its images", "before its publication", "of the other patient only then"])
def test_what_is_said_of_another_patients_study_does_not_get_into_it(opened: Node, when: str) -> None:
    """Neither its content nor its past; the identity is the study's own."""
    _write(opened, _patient(opened), _patient(opened, "P9", "other"))
    if when == "before its images":
        _write(opened, _study("other"))
    elif when == "of the other patient only then":
        _write(opened, _study("theirs"))
    send(opened, Made())
    if when != "before its images":
        _write(opened, _study("other"))
    publish_all(opened)
    found = _all(opened, "ImagingStudy")
    planted, (shown,) = found.pop("mine"), found.values()
    assert (planted["subject"]["reference"], planted["note"]) == ("Patient/other", [{"text": "of other"}])
    assert (shown["subject"]["reference"], "note" in shown, shown["meta"]["versionId"]) == ("Patient/theirs", False, "1")
    assert _owner(opened) == shown["id"]
    send(opened, Made(number=2))
    publish_all(opened)
    assert _all(opened, "ImagingStudy")[shown["id"]]["numberOfInstances"] == 2


def test_what_is_said_of_a_patient_who_was_merged_is_of_the_one_whose_the_study_is(opened: Node) -> None:
    send(opened, Made(study=2, patient="P2"), Made(study=3, patient="P1"))
    publish_all(opened)
    with opened.database.write() as connection:
        rows = {row.value: row for row in connection.execute(select(PATIENT.c.value, PATIENT.c.pk, PATIENT.c.id))}
        belonging.merge(connection, rows["P1"].pk, rows["P2"].pk)
    _write(opened, _study(rows["P1"].id))
    send(opened, Made())
    publish_all(opened)
    shown = _all(opened, "ImagingStudy")["mine"]
    assert (shown["subject"]["reference"], shown["status"]) == (f"Patient/{rows['P2'].id}", "available")


def test_a_study_that_was_never_shown_is_still_the_clients_when_its_images_go(opened: Node) -> None:
    _write(opened, _patient(opened), _study())
    send(opened, Made())
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    reconciler.purge(Target(Made().study_uid), actor=ACTOR)
    study, patient = _all(opened, "ImagingStudy")["mine"], _all(opened, "Patient")["theirs"]
    assert (study["status"], study["note"], study["meta"]["versionId"]) == ("registered", [{"text": "of theirs"}], "1")
    assert (patient["name"], patient["meta"]["versionId"]) == ([{"family": "Said by the EHR"}], "1")


def _race(opened: Node, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """A client's write is in its transaction while the study is published, and is committed when that meets it."""
    written, asked = threading.Event(), threading.Event()

    def client() -> None:
        with opened.database.write() as connection:
            resources.put(connection, given)
            written.set()
            asked.wait(30)

    planned = Publisher.__dict__["_plan"]
    thread = threading.Thread(target=client)

    def plan(self: Publisher, job: Any) -> Any:
        made = planned(self, job)
        if not written.is_set():
            thread.start()
            written.wait(30)
            threading.Timer(0.5, asked.set).start()
        return made

    monkeypatch.setattr(Publisher, "_plan", plan)
    publish_all(opened)
    thread.join()
    for _ in range(2):
        with opened.database.write() as connection:
            connection.execute(update(JOB).values(due=0))
        publish_all(opened)


@pytest.mark.parametrize("of_own", [True, False])
def test_a_client_who_writes_a_study_while_it_is_published_makes_no_second_one(
    opened: Node, monkeypatch: pytest.MonkeyPatch, of_own: bool
) -> None:
    """On PostgreSQL neither sees the other's row until it is committed; on SQLite one comes after the other."""
    _write(opened, _patient(opened), _patient(opened, "P9", "other"))
    send(opened, Made())
    _race(opened, monkeypatch, _study("theirs" if of_own else "other"))
    found = _all(opened, "ImagingStudy")
    shown = found[_owner(opened) or ""]
    assert (shown["numberOfInstances"], shown["subject"]["reference"]) == (1, "Patient/theirs")
    assert (shown["id"] == "mine", len(found)) == ((True, 1) if of_own else (False, 2))
    with opened.database.read() as connection:
        assert connection.execute(select(STUDY.c.id)).scalar_one() == shown["id"]


def test_a_client_who_writes_a_patient_while_her_study_is_published_makes_no_second_one(
    opened: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(opened, Made())
    _race(opened, monkeypatch, _patient(opened))
    assert list(_all(opened, "Patient")) == ["theirs"]
    (study,) = _all(opened, "ImagingStudy").values()
    assert study["subject"]["reference"] == "Patient/theirs"
