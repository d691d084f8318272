"""RAD-68: manifests of published studies to partners, once each, whatever goes wrong on the way."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from peers import imageshare
from peers.partner import HANGS, LOST, SENDER, Fault, Partner, partner
from peers.shows import shows
from peers.xds import Archive, cx, get, instance
from sqlalchemy import func, select, update
from starlette.testclient import TestClient
from typer.testing import CliRunner

from profiles.audit_event import INSTANCES_TRANSFERRED, Agent
from profiles.dicom_json import Attributes
from profiles.document import APPROVED, DEPRECATED, DocumentEntry
from profiles.vocabulary import DICOM
from server import doctor
from server.app import create_app
from server.cli import app
from server.records import catalogue, foreign_entries, resources
from server.records.foreign_entries import Foreign
from server.settings import load
from server.store.tables import ForeignEntry, Job
from server.work.corrections import Corrector
from server.work.ingest import Sender
from server.work.manifest_submission import SUBMIT
from server.work.reconcile import Actor, Reconciler, Target

on_both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
FOREIGN = ForeignEntry.__table__  # type: ignore[attr-defined]
JOB = Job.__table__  # type: ignore[attr-defined]
ACTOR = Actor(Agent(identifier="tester"), rest=False)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partner]:
    with partner(tmp_path_factory.mktemp("partner") / "data") as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path, other: Partner, request: pytest.FixtureRequest) -> Iterator[Archive]:
    """A source with one recipient. Its patients are of an authority of its own, so that tests do not meet at the partner."""
    given = {"name": "clinic", "url": other.repository, "update_url": other.registry, **getattr(request, "param", {})}
    other.faults.clear()
    other.heard.clear()
    with imageshare.node(tmp_path / "data", documents_to=(given,)) as node:
        made = Archive(node)
        other.knows(cx(made))
        yield made


def there(other: Partner, patient: str, status: str = APPROVED) -> tuple[DocumentEntry, ...]:
    return other.archive.find(patient, status)


def rows(archive: Archive) -> list[Foreign]:
    with archive.node.database.read() as connection:
        return foreign_entries.of_study(connection, "clinic", 1)


def states(archive: Archive) -> list[str]:
    return [row.state for row in rows(archive)]


def again(archive: Archive) -> None:
    """What was put back is due now."""
    with archive.node.database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.kind == SUBMIT).values(due=0, leased_until=0))
    imageshare.publish_all(archive.node)


def waits(archive: Archive) -> bool:
    with archive.node.database.read() as connection:
        return bool(connection.execute(select(func.count()).select_from(JOB).where(JOB.c.kind == SUBMIT)).scalar_one())


def reconciler(archive: Archive) -> Reconciler:
    node = archive.node
    return Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)


@on_both_engines
@shows("transaction", "RAD-68 Imaging Document Source")
def test_a_published_study_is_found_at_the_partner_with_its_manifest(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    (own,) = archive.find(cx(archive))
    (entry,) = there(other, cx(archive))
    assert (entry.unique_id, entry.hash, entry.size, entry.mime_type) == (own.unique_id, own.hash, own.size, DICOM)
    assert (entry.event_codes, entry.reference_ids, entry.title) == (own.event_codes, own.reference_ids, own.title)
    assert (entry.source_patient_id, entry.source_patient_info) == (own.source_patient_id, own.source_patient_info)
    assert entry.entry_uuid == rows(archive)[0].entry_uuid != own.entry_uuid
    assert entry.repository_unique_id == other.archive.node.installation.repository
    assert get(other.archive, entry.unique_id)[1] == get(archive, own.unique_id)[1]
    assert states(archive) == ["sent"]
    assert not waits(archive)


def test_both_sides_tell_their_trails(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    (event,) = archive.trail("RAD-68")
    assert event.outcome == "0"
    assert event.patient
    destination, source = event.body["agent"]
    assert (destination["who"]["identifier"]["value"], destination["network"]["address"]) == ("clinic", "127.0.0.1")
    assert (destination["requestor"], source["requestor"]) == (False, True)
    assert event.body["type"]["code"] == "110106"  # export
    received = other.archive.trail("ITI-41")[-1]
    assert [each for each in _named(event.body) if each in _named(received.body)]


def _named(body: dict[str, list[dict[str, dict[str, dict[str, str]]]]]) -> list[str]:
    named = [each["what"].get("identifier", {}).get("value", "") for each in body["entity"]]
    return [each for each in named if each.startswith("urn:oid:")]


@shows("transaction", "RAD-68 Imaging Document Source")
def test_a_late_instance_replaces_the_manifest_there(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    archive.send(instance())
    (own,) = archive.find(cx(archive))
    (entry,) = there(other, cx(archive))
    (former,) = there(other, cx(archive), DEPRECATED)
    assert entry.unique_id == own.unique_id != former.unique_id
    assert states(archive) == ["replaced", "sent"]


def test_what_is_rejected_is_deprecated_there_and_comes_back(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    reconciler(archive).reject(Target("2.25.1"), reason="113001", actor=ACTOR)
    imageshare.publish_all(archive.node)
    assert there(other, cx(archive)) == ()
    assert states(archive) == ["withdrawn"]
    assert archive.trail("ITI-57")[-1].outcome == "0"
    reconciler(archive).restore(Target("2.25.1"), actor=ACTOR)
    imageshare.publish_all(archive.node)
    assert [each.unique_id for each in there(other, cx(archive))] == [each.unique_id for each in archive.find(cx(archive))]
    assert states(archive) == ["withdrawn", "sent"]


def test_a_study_that_moves_to_another_patient_moves_there_too(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    node = archive.node
    other.knows(cx(archive, "P2"))
    moved: Attributes = {"00100020": {"vr": "LO", "Value": ["P2"]}}
    corrector = Corrector(reconciler(archive), node.database, node.blobs, node.installation.patients.oid)
    corrector.correct("2.25.1", moved, node.installation.domains(node.settings), actor=ACTOR)
    imageshare.publish_all(node)
    assert states(archive) == ["withdrawn", "sent"]
    assert there(other, cx(archive)) == ()
    assert len(there(other, cx(archive, "P2"))) == 1


def test_what_is_purged_is_deprecated_there(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    reconciler(archive).purge(Target("2.25.1"), actor=ACTOR)
    imageshare.publish_all(archive.node)
    assert states(archive) == ["withdrawn"]
    assert there(other, cx(archive)) == ()


@pytest.mark.parametrize("archive", [{"update_url": ""}], indirect=True)
def test_what_cannot_be_withdrawn_there_is_told_and_replaced_later(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    reconciler(archive).reject(Target("2.25.1"), reason="113001", actor=ACTOR)
    imageshare.publish_all(archive.node)
    assert len(there(other, cx(archive))) == 1
    (row,) = rows(archive)
    assert row.state == "left"
    assert "update_url" in row.error
    with archive.node.database.read() as connection:
        assert [(each.pk, uid) for each, uid in foreign_entries.troubled(connection)] == [(row.pk, "2.25.1")]
    reconciler(archive).restore(Target("2.25.1"), actor=ACTOR)
    imageshare.publish_all(archive.node)
    assert states(archive) == ["replaced", "sent"]
    assert len(there(other, cx(archive))) == 1


def test_an_answer_that_is_lost_makes_no_second_entry(archive: Archive, other: Partner) -> None:
    other.faults.append(LOST)
    archive.send(instance())
    assert states(archive) == ["waiting"]
    assert waits(archive)
    assert [event.outcome for event in archive.trail("RAD-68")] == ["8"]
    again(archive)
    assert (states(archive), waits(archive)) == (["sent"], False)
    assert len(there(other, cx(archive))) == 1
    assert [event.outcome for event in archive.trail("RAD-68")] == ["8", "0"]


@on_both_engines
def test_a_lost_replacement_is_settled_before_the_next_version(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    other.faults.append(LOST)
    archive.send(instance())
    archive.send(instance())
    again(archive)
    assert states(archive) == ["replaced", "replaced", "sent"]
    (own,) = archive.find(cx(archive))
    assert [each.unique_id for each in there(other, cx(archive))] == [own.unique_id]
    assert len(there(other, cx(archive), DEPRECATED)) == 2


def test_what_may_have_arrived_is_withdrawn_when_it_is_rejected(archive: Archive, other: Partner) -> None:
    other.faults.append(LOST)
    archive.send(instance())
    reconciler(archive).reject(Target("2.25.1"), reason="113001", actor=ACTOR)
    again(archive)
    assert states(archive) == ["withdrawn"]
    assert there(other, cx(archive)) == ()
    assert len(there(other, cx(archive), DEPRECATED)) == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (("XDSUnknownPatientId",), "XDSUnknownPatientId"),
        (("XDSRepositoryError", "XDSRegistryError"), "XDSRegistryError, XDSRepositoryError"),
        (SENDER, "SOAP fault Sender"),
    ],
)
def test_what_may_pass_is_tried_again(archive: Archive, other: Partner, fault: Fault, told: str) -> None:
    other.faults.append(fault)
    archive.send(instance())
    (row,) = rows(archive)
    assert (row.state, row.error) == ("waiting", told)
    again(archive)
    assert states(archive) == ["sent"]


def test_what_is_refused_is_told_and_not_repeated(archive: Archive, other: Partner) -> None:
    other.faults.append(("XDSRepositoryMetadataError",))
    archive.send(instance())
    (row,) = rows(archive)
    assert (row.state, row.error) == ("refused", "XDSRepositoryMetadataError")
    assert not waits(archive)
    assert archive.trail("RAD-68")[-1].outcome == "4"
    shown = CliRunner().invoke(app, ["manifests", "--data", str(archive.node.settings.data)])
    assert shown.output == "refused  clinic  2.25.1  XDSRepositoryMetadataError\n"
    archive.send(instance())  # the next version is tried anew, and replaces nothing
    assert states(archive) == ["refused", "sent"]
    assert there(other, cx(archive), DEPRECATED) == ()


def test_what_was_refused_is_tried_anew_when_somebody_says_so(
    archive: Archive, other: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.faults.append(("XDSRepositoryMetadataError",))
    archive.send(instance())
    node = archive.node
    monkeypatch.setenv(
        "IMAGESHARE_DOCUMENTS_TO", orjson.dumps([each.model_dump() for each in node.settings.documents_to]).decode()
    )
    told = doctor.examined(load(data=node.settings.data))
    assert [line for line in told if line[0] == "manifests at clinic"] == [
        ("manifests at clinic", "1 refused; see imageshare manifests", False)
    ]
    again_ = ["manifests", "--again", "--data", str(node.settings.data)]
    assert CliRunner().invoke(app, again_).exit_code == 0
    imageshare.publish_all(node)
    assert states(archive) == ["sent"]
    assert CliRunner().invoke(app, again_).output == "partners have taken all of them\n"


def test_that_none_was_sent_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["manifests", "--data", str(tmp_path / "data")]
    with imageshare.node(tmp_path / "data") as node:
        monkeypatch.setenv("IMAGESHARE_DATABASE_URL", node.settings.database)
        nobody = CliRunner().invoke(app, arguments)
        assert nobody.output == "the settings name no partner that is given manifests (documents_to), and none was sent\n"
        monkeypatch.setenv("IMAGESHARE_DOCUMENTS_TO", '[{"name": "clinic", "url": "http://127.0.0.1:1/xds"}]')
        assert CliRunner().invoke(app, arguments).output.startswith("no manifest was sent yet: ")
        Archive(node).send(instance())
        queued = CliRunner().invoke(app, [*arguments, "--all"])
        assert queued.output == "the worker tells partners of 1 studies: of those that they do not know yet\n"


def test_a_partner_who_has_nothing_to_replace_gets_it_alone(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    other.faults.append(("XDSRegistryDeprecatedDocumentError",))
    archive.send(instance())
    assert states(archive) == ["replaced", "sent"]
    assert rows(archive)[-1].replaces == ""


def test_a_duplicate_at_the_first_attempt_is_another_document(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    other.faults.append(("XDSDuplicateUniqueIdInRegistry",))
    archive.send(instance())
    assert states(archive) == ["sent", "refused"]


@pytest.mark.parametrize("archive", [{"url": "http://127.0.0.1:9/xds"}], indirect=True)
def test_a_partner_who_is_not_there_is_tried_for_a_week(archive: Archive) -> None:
    archive.send(instance())
    (row,) = rows(archive)
    assert (row.state, row.error) == ("waiting", "there is no answer at this address")
    with archive.node.database.write() as connection:
        connection.execute(update(FOREIGN).values(created=0))
    again(archive)
    assert states(archive) == ["given up"]
    again(archive)
    assert (states(archive), waits(archive)) == (["given up"], False)
    archive.send(instance())  # it is not known whether the first has arrived: it goes first
    assert states(archive) == ["waiting"]


@pytest.mark.parametrize(
    "archive", [{"patient_authority": "1.2.3.4", "codes": {"class_code": "IMG^Images^1.2.3", "content_type": "CT^Type^1.2.3"}}],
    indirect=True,
)  # fmt: skip
def test_the_partners_affinity_domain_has_ids_and_codes_of_its_own(archive: Archive, other: Partner) -> None:
    archive.send(instance())
    (row,) = rows(archive)
    assert (row.state, row.patient_id) == ("waiting", "")
    assert "affinity domain" in row.error
    assert other.heard == []
    foreign = f"G{archive.node.installation.patients.oid[-9:]}"
    with archive.node.database.write() as connection:
        body = resources.content(connection, "Patient", catalogue.patient_id(connection, catalogue.patient_pk(connection, 1)))
        body["identifier"].append({"system": "urn:oid:1.2.3.4", "value": foreign})
        resources.put(connection, body, now=1, base=f"{archive.node.settings.base_url}/fhir")
    other.knows(f"{foreign}^^^&1.2.3.4&ISO")
    again(archive)
    (entry,) = there(other, f"{foreign}^^^&1.2.3.4&ISO")
    assert entry.source_patient_id == cx(archive)
    assert entry.class_code is not None
    assert (entry.class_code.code, entry.class_code.scheme, entry.class_code.display) == ("IMG", "1.2.3", "Images")


@pytest.mark.skipif("IMAGESHARE_TEST_DEEP" not in os.environ, reason="IMAGESHARE_TEST_DEEP is not set: takes long")
def test_a_server_killed_while_it_waits_for_the_answer_sends_it_once(tmp_path: Path, other: Partner) -> None:
    other.faults.append(HANGS)
    other.hanging.clear()
    given = orjson.dumps([{"name": "clinic", "url": other.repository}]).decode()
    with imageshare.node(tmp_path / "data") as node:
        archive = Archive(node)
        other.knows(cx(archive))
        batch = node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        writer = batch.receive()
        writer.write(instance())
        batch.store(writer)
        patient = cx(archive)
    with imageshare.running(tmp_path / "data", documents_to=given) as killed:
        assert other.hanging.wait(30)
        killed.kill()
    with imageshare.running(tmp_path / "data", documents_to=given), imageshare.node(tmp_path / "data") as node:
        ends = time.monotonic() + 30
        while states(Archive(node)) != ["sent"] and time.monotonic() < ends:
            time.sleep(0.1)
        assert states(Archive(node)) == ["sent"]
        assert rows(Archive(node))[0].attempts == 2
    assert len(there(other, patient)) == 1


def test_who_is_named_later_gets_what_was_published_before(
    tmp_path: Path, other: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.faults.clear()
    with imageshare.node(tmp_path / "data") as node:
        Archive(node).send(instance())
        assert not waits(Archive(node))
        database_url = node.settings.database
        other.knows(cx(Archive(node)))
    given = ({"name": "clinic", "url": other.repository},)
    with imageshare.node(tmp_path / "data", database_url, documents_to=given) as node:
        monkeypatch.setenv("IMAGESHARE_DOCUMENTS_TO", orjson.dumps(given).decode())
        assert CliRunner().invoke(app, ["manifests", "--all", "--data", str(tmp_path / "data")]).exit_code == 0
        imageshare.publish_all(node)
        assert states(Archive(node)) == ["sent"]
        with TestClient(create_app(node)) as client:
            told = client.get("/metrics").text
        assert 'imageshare_partner_manifests{partner="clinic",state="sent"} 1.0' in told
        assert 'imageshare_partner_manifests{partner="clinic",state="refused"} 0.0' in told


def _says(archive: Archive, provision: dict[str, object]) -> None:
    """A Consent of the patient's, written by FHIR."""
    with archive.node.database.read() as connection:
        patient = catalogue.patient_id(connection, catalogue.patient_pk(connection, 1))
    token = archive.node.tokens.issue(client="script", scope="system/*.cruds")
    consent = {
        "resourceType": "Consent", "id": "c", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{patient}"}, "policy": [{"uri": "urn:policy"}], "provision": provision,
    }  # fmt: skip
    with TestClient(create_app(archive.node)) as client:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
        assert client.put("/fhir/Consent/c", content=orjson.dumps(consent), headers=headers).status_code in (200, 201)


def test_what_the_patient_withholds_is_not_told_and_withdrawn(tmp_path: Path, other: Partner) -> None:
    """From the next version on, or where `imageshare manifests --all` looks again."""
    given = {"name": "clinic", "url": other.repository, "update_url": other.registry}
    with imageshare.node(tmp_path / "data", documents_to=(given,)) as node:
        archive = Archive(node)
        other.faults.clear()
        other.knows(cx(archive))
        archive.send(instance())
        assert states(archive) == ["sent"]
        _says(archive, {"type": "deny"})
        archive.send(instance())
        assert states(archive) == ["withdrawn"]
        assert there(other, cx(archive)) == ()
