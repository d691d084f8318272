"""Imaging Document Consumer: one of our servers fetches from another over real sockets, by each of three ways, whatever goes wrong."""

import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from peers import imageshare
from peers.document_source import Message, answered, document, submitted
from peers.fetching import USER, WAYS, Consumer, Foreign, sent
from peers.shows import shows
from peers.xds import REGISTRY, REPOSITORY, SOURCE, cx, instance, uids
from starlette.testclient import TestClient
from typer.testing import CliRunner

from ihe import ebrs
from profiles.document import APPROVED
from profiles.identifiers import PatientIdentifier
from server import upkeep
from server.cli import app
from server.edges import dicomweb
from server.errors import ContentConflict, Unavailable
from server.records import fetches, patients
from server.records.fetches import Fetching
from server.work.fetching.asked import Asked
from server.work.fetching.intake import Intake
from server.work.fetching.jobs import ask
from server.worker import Worker

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("by", WAYS)
@shows("transaction", "ITI-18 Imaging Document Consumer", "ITI-43 Imaging Document Consumer", "RAD-69 Imaging Document Consumer")
@shows("transaction", "RAD-55 Imaging Document Consumer", "RAD-107 Imaging Document Consumer")
def test_a_study_is_fetched_whole_and_is_the_patient_s_whom_it_names(consumer: Consumer, foreign: Foreign, by: Any) -> None:
    (made,) = consumer.fetch(study="2.25.1", by=by)
    assert (made.complete, made.studies, made.instances, made.new, made.known) == (True, ("2.25.1",), 6, 6, 0)
    assert made.notes == ()
    assert consumer.stored().keys() == sent(foreign).keys()
    if by != "wado-uri":  # which may be another transfer syntax
        assert consumer.stored() == sent(foreign)
    (entry,) = consumer.archive.find(cx(foreign.archive))
    assert entry.patient_id == cx(foreign.archive)
    assert len(consumer.fetch(study="2.25.2", by=by)) == 1


def test_all_of_a_patient_by_accession_or_document(consumer: Consumer, foreign: Foreign) -> None:
    made = consumer.fetch(accession="A1")
    assert sorted((each.studies, each.new) for each in made) == [(("2.25.1",), 6), (("2.25.2",), 2)]
    assert consumer.fetch(accession="A2") == []
    (again,) = consumer.fetch(document=made[0].unique_id)
    assert (again.complete, again.new, again.known) == (True, 0, again.instances)
    assert consumer.fetch(patient=f"nobody^^^&{foreign.archive.node.installation.patients.oid}&ISO") == []


def test_what_is_here_is_not_fetched_again(consumer: Consumer, foreign: Foreign) -> None:
    consumer.fetch(study="2.25.1")
    foreign.asked.clear()
    (made,) = consumer.fetch(study="2.25.1")
    assert (made.complete, made.new, made.known) == (True, 0, 6)
    assert SOURCE not in foreign.asked


def test_an_answer_that_breaks_off_is_taken_as_far_as_it_came(consumer: Consumer, foreign: Foreign) -> None:
    foreign.goes_wrong(SOURCE, "cut 150000")
    (made,) = consumer.fetch(study="2.25.1")
    assert (made.complete, made.new) == (True, 6)
    assert foreign.asked.count(SOURCE) == 2
    assert consumer.stored() == sent(foreign)


def test_one_that_stays_broken_is_told_and_completed_later(consumer: Consumer, foreign: Foreign) -> None:
    foreign.goes_wrong(SOURCE, "cut 150000", "cut 300")
    (made,) = consumer.fetch(study="2.25.1")
    assert not made.complete
    assert 0 < made.new < 6
    assert made.error
    assert consumer.archive.trail("RAD-69")[-1].outcome != "0"
    (again,) = consumer.fetch(study="2.25.1")
    assert (again.complete, again.new, again.known) == (True, 6 - made.new, made.new)
    assert consumer.stored() == sent(foreign)


@pytest.mark.parametrize("consumer", [{"at_once": 3}], indirect=True)
@pytest.mark.parametrize("by", WAYS[1:])
def test_images_by_url_are_asked_for_a_few_at_a_time(consumer: Consumer, foreign: Foreign, by: Any) -> None:
    foreign.slow = 0.1
    (made,) = consumer.fetch(study="2.25.1", by=by)
    assert (made.complete, made.new, foreign.most_at_once) == (True, 6, 3)
    assert len(consumer.archive.trail("RAD-107" if by == "wado-rs" else "RAD-55")) == 1


@pytest.mark.parametrize("by", WAYS[1:])
def test_images_by_url_that_break_off(consumer: Consumer, foreign: Foreign, by: Any) -> None:
    study, series, uid = uids(next(iter(sent(foreign).values())))
    path = f"/wado {uid}" if by == "wado-uri" else f"/dicomweb/studies/{study}/series/{series}/instances/{uid}"
    foreign.goes_wrong(path, *["cut 4000"] * 6)
    (made,) = consumer.fetch(study="2.25.1", by=by)
    assert (made.complete, made.new) == (False, 5)
    assert made.error
    assert uid not in consumer.stored()
    foreign.goes_wrong(path, "cut 4000", "")
    (again,) = consumer.fetch(study="2.25.1", by=by)
    assert not again.complete  # it was the only one, and nothing came
    (whole,) = consumer.fetch(study="2.25.1", by=by)
    assert (whole.complete, whole.new, whole.known) == (True, 1, 5)


def test_part_of_it_is_told_and_the_rest_is_here(consumer: Consumer, foreign: Foreign) -> None:
    uid = next(iter(sent(foreign)))
    foreign.goes_wrong(SOURCE, f"ask {uid}={uid[:-1]}{(int(uid[-1]) + 1) % 10 if len(uid) < 3 else 'x'}")
    (made,) = consumer.fetch(study="2.25.1")
    assert (made.complete, made.new, made.failed.total(), made.error) == (False, 5, 1, "")
    assert next(iter(made.failed)).startswith("XDS")
    assert uid not in consumer.stored()


@pytest.mark.parametrize(
    ("path", "fault", "told"),
    [
        (SOURCE, "fault", "SOAP fault"),
        (REPOSITORY, "fault", "SOAP fault"),
        (REPOSITORY, "say Manifest=Mbnifest", "its hash is another"),
        (REPOSITORY, "cut 900", "the answer broke off"),
        (REPOSITORY, "ask 2.25.=2.26.", "does not give the document: XDS"),
    ],
)
def test_what_goes_wrong_at_the_partner_is_told_of_the_document(
    consumer: Consumer, foreign: Foreign, path: str, fault: str, told: str
) -> None:
    foreign.goes_wrong(path, fault)
    (made,) = consumer.fetch(study="2.25.1")
    assert not made.complete
    assert told in made.error
    assert consumer.stored() == {}
    assert consumer.fetch(study="2.25.1")[0].complete


@pytest.mark.parametrize("consumer", [{"seconds": 0.5}], indirect=True)
def test_a_silent_partner_is_not_waited_for(consumer: Consumer, foreign: Foreign) -> None:
    foreign.goes_wrong(SOURCE, "silent")
    (made,) = consumer.fetch(study="2.25.1")
    assert made.error == "the server did not answer in time"
    foreign.goes_wrong(REGISTRY, "silent")
    with pytest.raises(Unavailable, match="in time"):
        consumer.fetch(study="2.25.1")


def test_a_registry_that_refuses(consumer: Consumer, foreign: Foreign) -> None:
    foreign.goes_wrong(REGISTRY, "ask rim:AdhocQuery id=rim:AdhocQuery di", "fault")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"refuses the query: XDS|SOAP fault"):
            consumer.fetch()
    assert [each.outcome != "0" for each in consumer.archive.trail("ITI-18")] == [True, True]


def test_a_registry_that_answers_in_part_is_told(consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = consumer.archive.node.settings
    monkeypatch.setenv("IMAGESHARE_COMMUNITIES", orjson.dumps([foreign.settings()]).decode())
    foreign.goes_wrong(
        REGISTRY,
        "say ResponseStatusType:Success=ResponseStatusType:Failure",
        f"say {ebrs.SUCCESS}={ebrs.PARTIAL_SUCCESS}",
    )
    arguments = ["fetch", "county", "--patient", cx(foreign.archive), "--study", "2.25.1", "--data", str(settings.data)]
    refused, part = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert (refused.exit_code, part.exit_code) == (1, 1)
    assert "refuses the query" in refused.stderr
    assert "6 fetched" in part.stdout
    assert "answered in part" in part.stderr


def test_patients_are_never_mixed(consumer: Consumer, foreign: Foreign) -> None:
    foreign.goes_wrong(SOURCE, "say LO\x02\x00P1=LO\x02\x00P2")
    (made,) = consumer.fetch(study="2.25.1")
    assert list(made.failed) == ["the Patient ID announced is not that of the dataset"]
    assert consumer.stored() == {}
    foreign.goes_wrong(REGISTRY, "say P1^^^=P2^^^")
    with pytest.raises(ContentConflict, match="another patient"):
        consumer.fetch()
    assert consumer.fetch(study="2.25.1")[0].complete


def test_the_trail_has_every_transaction_and_who_asked(consumer: Consumer, foreign: Foreign) -> None:
    consumer.fetch(study="2.25.1")
    consumer.fetch(study="2.25.2", by="wado-uri")
    for code, kind, roles in (
        ("ITI-18", "110112", ["110152", "110153"]), ("ITI-43", "110107", ["110153", "110152"]),
        ("RAD-69", "110107", ["110153", "110152"]), ("RAD-55", "110107", ["110153", "110152"]),
    ):  # fmt: skip
        event = consumer.archive.trail(code)[-1]
        assert (event.outcome, event.body["type"]["code"]) == ("0", kind)
        partner, server, user = event.body["agent"]
        assert [each["type"]["coding"][0]["code"] for each in (partner, server)] == roles
        assert partner["who"]["identifier"]["value"] == "county"
        assert partner["network"]["address"] == "127.0.0.1"
        assert [each["requestor"] for each in (partner, server, user)] == [False, False, True]
        assert user["who"]["identifier"]["value"] == "tester"
    assert consumer.archive.trail("ITI-43")[-1].patient  # who is known by now


def test_the_trail_says_where_a_study_comes_from(consumer: Consumer, foreign: Foreign) -> None:
    """By the ids of the foreign repository, community and imaging source, of the resource that it is here."""
    there = foreign.archive.node.installation
    consumer.fetch()
    repository = {"repositoryUniqueId": there.repository, "homeCommunityId": f"urn:oid:{there.home_community}"}
    images = [each.body["entity"][0] for each in consumer.archive.trail("RAD-69")]
    assert {each["what"]["identifier"]["value"] for each in images} == {"urn:oid:2.25.1", "urn:oid:2.25.2"}
    for each in images:
        assert each["what"]["reference"].startswith("ImagingStudy/")
        assert _details(each) == {**repository, "retrieveLocationUid": there.imaging_source}
    retrieved = [each.body["entity"][0] for each in consumer.archive.trail("ITI-43")]
    assert len(retrieved) == 2
    assert all(_details(each) == repository for each in retrieved)


def _details(entity: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["valueString"] for each in entity["detail"]}


@pytest.mark.parametrize("consumer", [{"repositories": {}}, {"imaging_sources": {}}], indirect=True)
def test_only_addresses_of_the_settings_are_called(consumer: Consumer, foreign: Foreign) -> None:
    (made,) = consumer.fetch(study="2.25.1")
    assert "the settings of county name no" in made.error
    assert SOURCE not in foreign.asked


def test_reports_are_registered_here_once(consumer: Consumer, foreign: Foreign) -> None:
    patient = cx(foreign.archive)
    message = Message.of(submitted(patient, document(1)), {"Document01": b"a report"})
    assert answered(message.sent(foreign.archive)).status == ebrs.SUCCESS
    (made,) = [each for each in consumer.fetch(documents=True) if not each.is_manifest]
    assert (made.error, made.new, made.complete) == ("", 1, True)
    (entry,) = [each for each in consumer.archive.find(patient, APPROVED) if each.mime_type == "text/plain"]
    assert entry.unique_id == "2.999.1.1"
    assert entry.repository_unique_id == consumer.archive.node.installation.repository
    (told,) = [
        each
        for event in consumer.archive.trail("ITI-43")
        for each in event.body["entity"]
        if each["what"].get("identifier", {}).get("value") == "urn:oid:2.999.1.1"
    ]
    assert _details(told) == {"repositoryUniqueId": foreign.archive.node.installation.repository}
    again = [each for each in consumer.fetch(documents=True) if not each.is_manifest]
    assert [(each.new, each.known, each.error) for each in again] == [(0, 1, "")]


def test_the_command(consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = consumer.archive.node.settings
    monkeypatch.setenv("IMAGESHARE_COMMUNITIES", orjson.dumps([foreign.settings()]).decode())
    monkeypatch.setenv("IMAGESHARE_DATABASE_URL", settings.database)
    monkeypatch.setenv("IMAGESHARE_MIN_FREE_BYTES", "0")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["fetch", *arguments, "--data", str(settings.data)])

    patient = cx(foreign.archive)
    listed = run("county", "--patient", patient, "--list", "--json", "--study", "2.25.1")
    assert [orjson.loads(line)["mime_type"] for line in listed.stdout.splitlines()] == ["application/dicom"]
    assert SOURCE not in foreign.asked
    table = run("county", "--patient", patient, "--list")
    assert "uniqueId" in table.stdout
    first = run("county", "--patient", patient, "--study", "2.25.1", "--by", "wado-rs")
    assert (first.exit_code, first.stdout.splitlines()) == (
        0, ["6 fetched from county, 0 known already; 6 instances of 1 studies in 1 documents found"],
    )  # fmt: skip
    foreign.goes_wrong(SOURCE, "fault")
    failed = run("county", "--patient", patient)
    assert failed.exit_code == 1
    assert "SOAP fault" in failed.stderr
    (told, _) = sorted(
        (orjson.loads(line) for line in run("county", "--patient", patient, "--json").stdout.splitlines()),
        key=lambda each: each["studies"],
    )
    assert (told["known"], told["complete"]) == (6, True)
    assert run("county", "--patient", "P1").exit_code == 1
    assert "there are: county" in run("country", "--patient", patient).stderr


def test_an_interruption_leaves_what_came_and_nothing_half(
    consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Intake.take
    count = iter(range(100))

    def interrupted(self: Intake, uid: str, chunks: Iterator[bytes]) -> None:
        def broken() -> Iterator[bytes]:
            for data in chunks:
                yield data
                if number == 3:
                    raise KeyboardInterrupt

        number = next(count)
        taken(self, uid, broken())

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Intake, "take", interrupted)
        consumer.fetch(study="2.25.1")
    imageshare.publish_all(consumer.archive.node)
    assert len(consumer.stored()) == 3
    assert not list(consumer.archive.node.settings.blob_folder.rglob("*.part"))
    (made,) = consumer.fetch(study="2.25.1")
    assert (made.complete, made.new, made.known) == (True, 3, 3)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_a_server_does_it_as_a_job(consumer: Consumer, foreign: Foreign) -> None:
    node = consumer.archive.node
    wanted = Asked(PatientIdentifier.from_cx(cx(foreign.archive)), study="2.25.1", by="wado-rs")

    def done() -> Fetching:
        with node.database.write() as connection:
            id_ = ask(connection, "county", wanted, USER)
        imageshare.publish_all(node)
        with node.database.read() as connection:
            found = fetches.find(connection, id_)
        assert found is not None
        return found

    first = done()
    assert (first.state, first.done, first.total, first.error) == ("done", 6, 6, "")
    assert [(each["new"], each["complete"]) for each in first.documents] == [(6, True)]
    assert consumer.archive.trail("RAD-107")[-1].body["agent"][-1]["who"]["identifier"]["value"] == "tester"
    assert consumer.stored() == sent(foreign)
    foreign.goes_wrong(REGISTRY, "fault")
    refused = done()
    assert refused.state == "failed"
    assert "SOAP fault" in refused.error
    with node.database.write() as connection:
        fetches.forget(connection, 1 << 60)
        assert fetches.find(connection, first.id) is None


def test_the_command_has_a_running_server_do_it(consumer: Consumer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = consumer.archive.node.settings
    monkeypatch.setenv("IMAGESHARE_COMMUNITIES", orjson.dumps([foreign.settings()]).decode())
    stop = threading.Event()
    worker = threading.Thread(target=Worker(consumer.archive.node).run, args=(stop,))
    arguments = ["fetch", "county", "--patient", cx(foreign.archive), "--study", "2.25.1", "--data", str(settings.data)]
    with upkeep.owned(settings):
        worker.start()
        try:
            made = CliRunner().invoke(app, arguments)
            assert (made.exit_code, "6 fetched from county, 0 known" in made.stdout) == (0, True)
            foreign.goes_wrong(REGISTRY, "fault")
            refused = CliRunner().invoke(app, arguments)
            assert (refused.exit_code, "SOAP fault" in refused.stderr) == (1, True)
            as_json = CliRunner().invoke(app, [*arguments, "--json"])
            (told,) = [
                orjson.loads(line) for line in as_json.stdout.splitlines() if line.startswith("{")
            ]  # beside the worker's log
            assert told["known"] == 6
        finally:
            stop.set()
            worker.join(20)


def test_programs_ask_by_http(consumer: Consumer, foreign: Foreign) -> None:
    node = consumer.archive.node
    application = FastAPI()
    application.state.node = node
    dicomweb.install(application)
    token = node.tokens.issue(client="viewer", scope="system/ImagingStudy.c")
    with TestClient(application, base_url="http://127.0.0.1:8080", headers={"Authorization": f"Bearer {token}"}) as http:
        body = {"community": "county", "patient": cx(foreign.archive), "study": "2.25.1"}
        begun = http.post("/dicomweb/fetches", json=body)
        assert begun.status_code == 202
        assert http.get(begun.headers["location"]).json()["state"] == "waiting"
        imageshare.publish_all(node)
        told = http.get(begun.headers["location"]).json()
        assert (told["state"], told["done"], told["total"], told["documents"][0]["complete"]) == ("done", 6, 6, True)
        assert consumer.archive.trail("RAD-69")[-1].body["agent"][-1]["who"]["identifier"]["value"] == "viewer"
        assert consumer.archive.trail("read")[-1].patient
        for wrong, status in (
            ({**body, "community": "country"}, 404), ({**body, "patient": "P1"}, 400), ({**body, "more": 1}, 400), ([], 400),
            ({**body, "documents": True}, 403),
        ):  # fmt: skip
            assert http.post("/dicomweb/fetches", json=wrong).status_code == status
        assert http.get("/dicomweb/fetches/none").status_code == 404
        weak = {"Authorization": f"Bearer {node.tokens.issue(client='viewer', scope='system/ImagingStudy.rs')}"}
        assert http.post("/dicomweb/fetches", json=body, headers=weak).status_code == 403


def test_how_a_fetch_stands_is_told_to_who_asked_and_who_may_read_the_patient(consumer: Consumer, foreign: Foreign) -> None:
    node = consumer.archive.node
    application = FastAPI()
    application.state.node = node
    dicomweb.install(application)
    with TestClient(application, base_url="http://127.0.0.1:8080") as http:

        def status(path: str, scope: str, client: str = "another", patient: str | None = None) -> int:
            token = node.tokens.issue(client=client, scope=scope, patient=patient)
            return http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code

        def begun(patient: str, **more: object) -> str:
            token = node.tokens.issue(client="viewer", scope="system/*.c")
            body = {"community": "county", "patient": patient, "study": "2.25.1", **more}
            return str(
                http.post("/dicomweb/fetches", json=body, headers={"Authorization": f"Bearer {token}"}).headers["location"]
            )

        stranger = begun(cx(foreign.archive))  # nobody whom this server knows yet
        assert status(stranger, "system/ImagingStudy.c", "viewer") == 200
        assert [status(stranger, f"system/ImagingStudy.{each}") for each in ("c", "rs")] == [404, 200]
        imageshare.publish_all(node)
        with node.database.read() as connection:
            patient = patients.find(connection, PatientIdentifier.from_cx(cx(foreign.archive)))
        assert patient is not None
        consumer.archive.send(instance(patient="P2", study="2.25.3", series="2.25.3.1"))
        with node.database.read() as connection:
            other = patients.find(connection, PatientIdentifier.from_cx(cx(consumer.archive, "P2")))
        assert other is not None
        assert status(stranger, "patient/ImagingStudy.rs", patient=patient.id) == 200
        assert status(stranger, "patient/ImagingStudy.rs", patient=other.id) == 404
        assert status(stranger, "system/ImagingStudy.c") == 404
        assert status(stranger, "system/ImagingStudy.rs", "viewer") == 200
        assert consumer.archive.trail("read")[-1].patient == patient.id
        documents = begun(cx(foreign.archive), documents=True)
        assert status(documents, "system/ImagingStudy.rs") == 404
        assert status(documents, "system/ImagingStudy.rs system/DocumentReference.rs") == 200
        for scope in ("system/Patient.rs", "patient/*.cruds"):
            assert status(stranger, scope) == 403
