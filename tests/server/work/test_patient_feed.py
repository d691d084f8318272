"""The patient identity feed and images: one patient, whoever spoke of her first."""

import threading
from typing import Any

import orjson
import pytest
from peers.generated import Made, send
from peers.hl7_sender import adt, mrg
from peers.imageshare import publish_all
from sqlalchemy import Connection, select

from ihe import hl7v2, iti8
from ihe.hl7v2 import MessageRefused
from profiles.audit_event import Agent
from server.edges.context import Node
from server.records import catalogue, documents, patients, resources
from server.work.patient_feed import PatientFeed

ON_BOTH_ENGINES = True
SENDER = Agent(identifier="HIS", address="127.0.0.1")
FIRST = Made()


@pytest.fixture
def feed(opened: Node) -> PatientFeed:
    return PatientFeed(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)


def _nothing(_: Connection) -> None:
    pass


def take(
    feed: PatientFeed, opened: Node, event: str, value: str, name: str = "Test^Thea", subsumed: str = "", more: str = ""
) -> None:
    """A message about patients whose ids this installation assigns, as those of `Made` are."""
    domain = opened.installation.patients.oid
    patient = f"PID|||{value}^^^&{domain}&ISO||{name}||19700102|F{more}"
    message = adt(event, patient, *([mrg(subsumed, domain)] if subsumed else []))
    feed.take(iti8.read(hl7v2.read(message)), SENDER, _nothing)


def said(opened: Node, study: str) -> tuple[str, str, str]:
    """Patient ID and name as the metadata of the images have them, and the family name of the FHIR Patient."""
    with opened.database.read() as connection:
        loaded = catalogue.load(connection, catalogue.study_pk(connection, study))
        (instance, *_) = catalogue.instances(connection, study)
        told = orjson.loads(resources.unpacked(next(iter(catalogue.dicom_json(connection, [instance.pk])))))
        patient = resources.content(connection, "Patient", loaded.patient.id)
    assert told["00100020"]["Value"][0] == loaded.patient.identifier.value
    assert told["00100010"]["Value"][0]["Alphabetic"] == loaded.patient.name
    return loaded.patient.identifier.value, loaded.patient.name, patient["name"][0]["family"]


def versions(opened: Node) -> int:
    """How often the study was shown."""
    with opened.database.read() as connection:
        return int(
            connection.execute(select(catalogue.STUDY.c.version).where(catalogue.STUDY.c.uid == FIRST.study_uid)).scalar_one()
        )


def test_images_of_a_patient_of_the_feed_are_hers(opened: Node, feed: PatientFeed) -> None:
    take(feed, opened, "A01", "P1", "Feed^Thea", more="|||1 Street^^Town")
    send(opened, FIRST)
    publish_all(opened)
    with opened.database.read() as connection:
        (patient,) = connection.execute(select(resources.RESOURCE.c.id).where(resources.RESOURCE.c.type == "Patient")).scalars()
        content = resources.content(connection, "Patient", patient)
        assert (content["name"][0]["family"], content["address"]) == ("Feed", [{"line": ["1 Street"], "city": "Town"}])
        assert catalogue.load(connection, catalogue.study_pk(connection, FIRST.study_uid)).patient.id == patient


def test_an_update_corrects_the_images_and_one_that_says_nothing_new_does_not(opened: Node, feed: PatientFeed) -> None:
    send(opened, FIRST)
    publish_all(opened)
    before = versions(opened)
    take(feed, opened, "A08", "P1", "Neu^Thea", more="|||1 Street^^Town")
    assert said(opened, FIRST.study_uid) == ("P1", "Neu^Thea", "Neu")
    changed = versions(opened)
    assert changed > before
    take(feed, opened, "A08", "P1", "Neu^Thea", more="|||2 Street^^Town")
    assert versions(opened) == changed, "the images say nothing of where she lives"


def test_a_merge_takes_images_and_documents_along(opened: Node, feed: PatientFeed) -> None:
    send(opened, FIRST)
    publish_all(opened)
    take(feed, opened, "A01", "P2", "Right^Rita")
    take(feed, opened, "A40", "P2", subsumed="P1")
    assert said(opened, FIRST.study_uid)[:2] == ("P2", "Right^Rita")
    with opened.database.read() as connection:
        entry = documents.current(connection, catalogue.study_pk(connection, FIRST.study_uid))
        assert entry is not None
        assert entry.patient_id.startswith("P2^^^")
        assert patients.is_known(connection, f"P1^^^&{opened.installation.patients.oid}&ISO") is None
    send(opened, Made(number=9))
    publish_all(opened)
    assert said(opened, FIRST.study_uid)[:2] == ("P2", "Right^Rita"), "what comes late under the subsumed id"


def test_a_patient_of_the_feed_is_known_when_her_last_study_is_purged(opened: Node, feed: PatientFeed) -> None:
    from server.work.reconcile import Actor, Reconciler, Target

    take(feed, opened, "A01", "P1", "Feed^Thea")
    send(opened, FIRST)
    publish_all(opened)
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    reconciler.purge(Target(FIRST.study_uid), actor=Actor(SENDER))
    with opened.database.read() as connection:
        (patient,) = connection.execute(select(resources.RESOURCE.c.id).where(resources.RESOURCE.c.type == "Patient")).scalars()
        assert resources.content(connection, "Patient", patient)["name"][0]["family"] == "Feed"


def test_a_patient_whom_a_client_made_first_is_that_one(opened: Node, feed: PatientFeed) -> None:
    domain = opened.installation.patients.oid
    hers: dict[str, Any] = {
        "resourceType": "Patient", "id": "made", "identifier": [{"system": f"urn:oid:{domain}", "value": "P1"}], "maritalStatus": {"text": "m"},
    }  # fmt: skip
    with opened.database.write() as connection:
        resources.create(connection, hers)
    take(feed, opened, "A04", "P1", "Feed^Thea")
    with opened.database.read() as connection:
        content = resources.content(connection, "Patient", "made")
        assert (content["name"][0]["family"], content["maritalStatus"]) == ("Feed", {"text": "m"})


def test_what_fails_leaves_everything(opened: Node, feed: PatientFeed) -> None:
    send(opened, FIRST)
    publish_all(opened)
    before = said(opened, FIRST.study_uid)

    def broken(_: Connection) -> None:
        raise RuntimeError

    domain = opened.installation.patients.oid
    for event, value, more in (("A08", "P1", ()), ("A01", "P7", ()), ("A40", "P8", (mrg("P1", domain),))):
        message = iti8.read(hl7v2.read(adt(event, f"PID|||{value}^^^&{domain}&ISO||Other^Olga", *more)))
        with pytest.raises(RuntimeError):
            feed.take(message, SENDER, broken)
    assert said(opened, FIRST.study_uid) == before
    with opened.database.read() as connection:
        assert patients.is_known(connection, f"P7^^^&{domain}&ISO") is None
        assert patients.is_known(connection, f"P1^^^&{domain}&ISO") is not None


def test_of_two_merges_of_one_patient_at_once_one_is_refused(opened: Node, feed: PatientFeed) -> None:
    for value in ("P1", "P2", "P3"):
        take(feed, opened, "A01", value)
    came: list[object] = []

    def merge(into: str) -> None:
        try:
            take(feed, opened, "A40", into, subsumed="P1")
            came.append("done")
        except MessageRefused as refused:
            came.append(refused.condition)

    threads = [threading.Thread(target=merge, args=(into,)) for into in ("P2", "P3")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(map(str, came)) == ["204", "done"]


def test_names_of_authorities_are_known_by_the_settings(opened: Node) -> None:
    settings = opened.settings.model_copy(update={"authorities": {"HOSPITAL": "1.2.3"}, "affinity_domain_authority": ("1.2.3",)})
    feed = PatientFeed(settings, opened.database, opened.blobs, opened.installation, opened.trail)
    feed.take(iti8.read(hl7v2.read(adt("A01", "PID|||9^^^&9.9&ISO~1^^^HOSPITAL||Doe^Jane"))), SENDER, _nothing)
    with opened.database.read() as connection:
        assert patients.is_known(connection, "1^^^&1.2.3&ISO", ("1.2.3",)) is not None
        assert patients.is_known(connection, "9^^^&9.9&ISO") is None
        for unknown in ("1^^^&1.2.4&ISO", "1^^^HOSPITAL", "", "2^^^&1.2.3&ISO"):
            assert patients.is_known(connection, unknown) is None
        assert patients.is_known(connection, "1^^^&1.2.3&ISO", ("1.2.4",)) is None
