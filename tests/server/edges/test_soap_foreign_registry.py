"""ITI-41 to a repository whose registry is a partner's: kept here, registered there, or neither."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peers import imageshare
from peers import registry_objects as objects
from peers.document_source import Message, codes, document, submitted
from peers.partner import LOST, RECEIVER, SENDER, Partner, partner
from peers.shows import shows
from peers.xds import Archive, get
from sqlalchemy import func, select, update

from ihe.ebrs import FAILURE, SUCCESS
from ihe.ebrs import RegistryResponse as Response
from profiles.document import APPROVED, RPLC
from server.records.catalogue import BLOB, PATIENT
from server.records.registry import DOCUMENT, OBJECT
from server.records.repository import FOREIGN
from server.store import jobs
from server.store.tables import Job
from server.work.foreign_registry import SETTLE

both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
JOB = Job.__table__  # type: ignore[attr-defined]
TEXT = b"kept here"
CX = "P1^^^&1.2.3.9&ISO"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partner]:
    with partner(tmp_path_factory.mktemp("partner") / "data") as made:
        made.knows(CX)
        yield made


@pytest.fixture
def archive(tmp_path: Path, other: Partner) -> Iterator[Archive]:
    other.faults.clear()
    with imageshare.node(tmp_path / "data", foreign_registry=other.registry) as node:
        yield Archive(node)


@pytest.fixture
def number(request: pytest.FixtureRequest) -> int:
    """Of the test: its ids are unlike those of others."""
    return abs(hash(request.node.name)) % 10**8


def message(number: int, content: bytes = TEXT, patient: str = CX, **changed: object) -> Message:
    return Message.of(
        submitted(patient, replace(document(number, **changed), entry_uuid="Document01"), number=number), {"Document01": content}
    )


def kept(archive: Archive) -> tuple[int, ...]:
    """How many documents, blobs, patients and objects there are; files are there for blobs alone."""
    imageshare.publish_all(archive.node)
    with archive.node.database.read() as connection:
        found = tuple(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (DOCUMENT, BLOB, PATIENT, OBJECT)
        )
        named = set(connection.execute(select(BLOB.c.id)).scalars())
    assert {blob_id for blob_id, _ in archive.node.blobs.list()} == named
    return found


def confirmed(archive: Archive) -> list[bool]:
    with archive.node.database.read() as connection:
        return [each > 0 for each in connection.execute(select(FOREIGN.c.registered)).scalars()]


@both_engines
@shows("transaction", "ITI-42 Document Repository")
def test_a_document_is_kept_here_and_registered_there(archive: Archive, other: Partner, number: int) -> None:
    assert message(number).answer(archive) == Response(SUCCESS)
    (entry,) = [each for each in other.archive.find(CX, APPROVED) if each.unique_id == f"2.999.1.{number}"]
    assert entry.repository_unique_id == archive.node.installation.repository
    assert entry.size == len(TEXT)
    answer, documents = get(archive, entry.unique_id)
    assert (answer.status, documents) == (SUCCESS, {entry.unique_id: TEXT})
    assert kept(archive) == (1, 1, 1, 0)
    assert confirmed(archive) == [True]
    assert [event.outcome for event in archive.trail("ITI-41")] == ["0"]
    (told,) = archive.trail("ITI-42")
    assert (told.outcome, told.body["type"]["code"]) == ("0", "110106")
    assert told.patient == archive.trail("ITI-41")[0].patient


@both_engines
@shows("transaction", "ITI-42 Document Repository")
def test_what_the_registry_refuses_is_not_kept_and_its_errors_come_back(archive: Archive, other: Partner, number: int) -> None:
    stranger = message(number, patient="nobody^^^&1.2.3.9&ISO")
    expected = stranger.answer(other.archive)
    answer = stranger.answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSUnknownPatientId"])
    assert [(e.code, e.location) for e in answer.errors] == [(e.code, e.location) for e in expected.errors]
    assert kept(archive) == (0, 0, 0, 0)
    assert answer.errors[0].context == f"the registry says: {expected.errors[0].context}"
    assert "nobody" in expected.errors[0].context
    for transaction in ("ITI-41", "ITI-42"):
        (event,) = archive.trail(transaction)
        assert (event.outcome, "nobody" in str(event.body)) == ("4", False)


def test_locations_and_several_errors_come_back_as_they_came(archive: Archive, number: int) -> None:
    sent = message(number)
    target = "urn:uuid:5d5e29a1-0a5a-4d6c-9b2e-0a4c1f3a9a11"
    wrong = replace(
        sent.submission, associations=(*sent.submission.associations, objects.association("rplc", "Document01", target, RPLC))
    )
    answer = Message.of(wrong, {"Document01": TEXT}).answer(archive)
    assert [code for code, _ in codes(answer)] == ["UnresolvedReferenceException"]
    assert kept(archive) == (0, 0, 0, 0)


def test_a_registry_whose_answer_is_lost_is_asked_again_by_a_repeat(archive: Archive, other: Partner, number: int) -> None:
    other.faults.append(LOST)
    answer = message(number).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSRegistryNotAvailable"])
    assert kept(archive) == (1, 1, 1, 0)
    assert confirmed(archive) == [False]
    assert get(archive, f"2.999.1.{number}")[1] == {f"2.999.1.{number}": TEXT}  # the registry may have told of it
    answer = message(number).answer(archive)  # the same Submission Set
    assert [error.code for error in answer.errors] == ["XDSDuplicateUniqueIdInRegistry"]
    assert get(archive, f"2.999.1.{number}")[1] == {f"2.999.1.{number}": TEXT}


def test_a_registry_that_is_busy_or_away(archive: Archive, other: Partner, number: int, tmp_path: Path) -> None:
    other.faults.append(("XDSRegistryBusy",))
    answer = message(number).answer(archive)
    assert [error.code for error in answer.errors] == ["XDSRegistryBusy"]
    assert kept(archive) == (0, 0, 0, 0)
    with imageshare.node(tmp_path / "away", foreign_registry="http://127.0.0.1:9/xds") as node:
        answer = message(number).answer(Archive(node))
        assert [error.code for error in answer.errors] == ["XDSRegistryNotAvailable"]
        assert "127.0.0.1" not in answer.errors[0].context
        assert kept(Archive(node)) == (1, 1, 1, 0)


@both_engines
def test_the_registry_is_asked_later_of_what_it_did_not_confirm(archive: Archive, other: Partner, number: int) -> None:
    other.faults += [LOST, RECEIVER]
    message(number).answer(archive)
    message(number + 1).answer(archive)
    message(number + 2).answer(archive)
    assert kept(archive)[0] == 3
    assert sorted(confirmed(archive)) == [False, False, True]
    settle(archive)
    assert sorted(confirmed(archive)) == [False, False, True]  # nothing is an hour old
    with archive.node.database.write() as connection:
        connection.execute(update(DOCUMENT).values(created=1))
    settle(archive)
    assert kept(archive)[:2] == (2, 2)
    assert confirmed(archive) == [True, True]
    assert get(archive, f"2.999.1.{number}")[1] == {f"2.999.1.{number}": TEXT}
    with archive.node.database.read() as connection:
        assert not jobs.is_known(connection, SETTLE, "documents")


def settle(archive: Archive) -> None:
    with archive.node.database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.kind == SETTLE).values(due=0))
    imageshare.publish_all(archive.node)


@pytest.mark.parametrize(("fault", "left"), [(SENDER, 0), (RECEIVER, 1)])
def test_a_fault_of_the_registry_leaves_nothing_where_it_did_nothing(
    archive: Archive, other: Partner, number: int, fault: str, left: int
) -> None:
    other.faults.append(fault)
    answer = message(number).answer(archive)
    assert [error.code for error in answer.errors] == ["XDSRegistryNotAvailable"]
    assert kept(archive) == (left, left, left, 0)


def test_another_document_of_the_same_unique_id_is_refused_here(archive: Archive, other: Partner, number: int) -> None:
    assert message(number).answer(archive).status == SUCCESS
    heard = len(other.heard)
    answer = message(number, b"another").answer(archive)
    assert {error.code for error in answer.errors} == {"XDSNonIdenticalHash", "XDSNonIdenticalSize"}
    assert len(other.heard) == heard


def test_who_may_not_submit_for_the_patient_leaves_nobody(archive: Archive, other: Partner, number: int) -> None:
    heard = len(other.heard)
    sent = message(number, patient="P7^^^&1.2.3.9&ISO")
    token = archive.node.tokens.issue(client="reader", scope="system/*.rs")
    sent.headers["Authorization"] = f"Bearer {token}"
    assert sent.answer(archive).status == FAILURE
    assert kept(archive) == (0, 0, 0, 0)
    assert len(other.heard) == heard
