"""ITI-86 over HTTP: documents that are gone for good, and those that stay."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import imageshare, registering
from peers.document_source import Message, document, submitted
from peers.shows import shows
from peers.xds import REPOSITORY, Archive, cx, get, instance, payload
from starlette.requests import Request

from ihe import ebrs, iti86
from ihe.ebrs import FAILURE, PARTIAL_SUCCESS, SUCCESS, RegistryResponse
from ihe.iti43 import DocumentRequest
from server.access.decisions import Decision, parse_scopes
from server.edges.soap import endpoint
from server.errors import Forbidden
from server.records import patients, registry
from server.work import documents

ON_BOTH_ENGINES = True


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    """With two documents of a patient, beside the manifest of her image."""
    with imageshare.node(tmp_path / "data", database_url) as node:
        made = Archive(node)
        made.send(instance())
        message = Message.of(submitted(cx(made), document(1), document(2)), {"Document01": b"first", "Document02": b"second"})
        assert message.answer(made).status == SUCCESS
        yield made


def removed(archive: Archive, *unique_ids: str, repository: str = "") -> RegistryResponse:
    asked = [DocumentRequest(repository or archive.node.installation.repository, uid) for uid in unique_ids]
    return ebrs.read(payload(archive.post(REPOSITORY, iti86.REQUEST_ACTION, iti86.request(asked))))


def told(answer: RegistryResponse) -> list[tuple[str, str]]:
    return [(error.code, error.location) for error in answer.errors]


def files(archive: Archive) -> int:
    return len(list(archive.node.blobs.list()))


@shows("transaction", "ITI-86 Document Repository")
def test_a_document_is_gone_with_its_file_and_may_come_again(archive: Archive) -> None:
    before = files(archive)
    answer = removed(archive, "2.999.1.1")
    assert (answer.status, answer.errors) == (SUCCESS, ())
    assert files(archive) == before - 1
    found, documents = get(archive, "2.999.1.1", "2.999.1.2")
    assert (found.status, documents) == (PARTIAL_SUCCESS, {"2.999.1.2": b"second"})
    assert [(error.code, error.location) for error in found.errors] == [("XDSDocumentUniqueIdError", "2.999.1.1")]
    # Its metadata are another transaction's to remove.
    assert "2.999.1.1" in {entry.unique_id for entry in archive.find(cx(archive))}
    (event,) = archive.trail("ITI-86")
    assert (event.outcome, bool(event.patient)) == ("0", True)
    assert event.body["action"] == "D"
    assert "urn:oid:2.999.1.1" in str(event.body["entity"])
    again = submitted(cx(archive), document(1), number=2)
    assert Message.of(again, {"Document01": b"first"}).answer(archive).status == SUCCESS
    assert get(archive, "2.999.1.1")[1] == {"2.999.1.1": b"first"}


def test_what_cannot_be_removed_is_named_and_the_rest_is_gone(archive: Archive) -> None:
    (manifest,) = [
        entry.unique_id for entry in archive.find(cx(archive)) if entry.format_code and entry.mime_type == "application/dicom"
    ]
    answer = removed(archive, "2.999.1.1", "2.999.404", manifest, "2.999.1.1")
    assert answer.status == PARTIAL_SUCCESS
    assert told(answer) == [("XDSDocumentUniqueIdError", "2.999.404"), ("XDSRemoveDocumentsError", manifest)]
    assert get(archive, "2.999.1.1", "2.999.1.2", manifest)[1].keys() == {"2.999.1.2", manifest}
    assert [event.outcome for event in archive.trail("ITI-86")] == ["0", "4"]


def test_another_repositorys_documents_are_not_ours_to_remove(archive: Archive) -> None:
    before = files(archive)
    answer = removed(archive, "2.999.1.1", repository="1.2.3")
    assert (answer.status, told(answer)) == (FAILURE, [("XDSUnknownRepositoryId", "2.999.1.1")])
    assert files(archive) == before


@pytest.mark.parametrize("scopes", ["system/*.crus", "system/ImagingStudy.cruds", "patient/*.cruds"])
def test_who_may_not_delete_it_is_told_that_it_is_not_there(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, scopes: str
) -> None:
    def narrow(request: Request) -> Decision:
        return Decision("partner", parse_scopes(scopes), "another" if "patient" in scopes else None)

    before = files(archive)
    monkeypatch.setattr(endpoint, "admit", narrow)
    answer = removed(archive, "2.999.1.1")
    assert (answer.status, told(answer)) == (FAILURE, [("XDSDocumentUniqueIdError", "2.999.1.1")])
    assert files(archive) == before
    assert [event.outcome for event in archive.trail("ITI-86")] == ["4"]


@pytest.mark.parametrize(("sha1", "is_told"), [("0" * 40, False), (hashlib.sha1(b"first").hexdigest(), True)])
def test_who_knows_a_uniqueid_alone_does_not_get_the_document(archive: Archive, sha1: str, is_told: bool) -> None:
    """Its entry was removed (ITI-62), and another patient's submission names it."""
    others, node = registering.Registry(archive.node), archive.node
    with node.database.write() as connection:
        (found,) = registry.by_unique_id(connection, ["2.999.1.1"])
        registry.remove(connection, [found.value.entry_uuid])
    named = registering.document(
        unique_id="2.999.1.1", repository_unique_id=node.installation.repository, hash=sha1.upper(), size=5
    )
    others.submit(registering.submitted(named))
    with node.database.read() as connection:
        known = patients.registered(connection, registering.PATIENT, node.domain.authorities)
        assert known is not None
        decision = Decision("app", parse_scopes("patient/*.rs"), known.id)
        assert bool(documents.retrievable(connection, decision, ["2.999.1.1"])) is is_told


def test_who_knows_hash_and_uniqueid_registers_nothing_that_is_held_for_another(archive: Archive) -> None:
    """They stand in metadata that somebody may have seen before a Consent closed the document."""
    others, node = registering.Registry(archive.node), archive.node
    with node.database.read() as connection:
        known = patients.registered(connection, registering.PATIENT, node.domain.authorities)
        assert known is not None
    confined = registering.Registry(node, Decision("app", parse_scopes("patient/*.cruds"), known.id))
    sha1 = hashlib.sha1(b"first").hexdigest()
    made = registering.document(unique_id="2.999.1.1", repository_unique_id=node.installation.repository, hash=sha1, size=5)
    before = others.count()
    with pytest.raises(Forbidden):
        confined.submit(registering.submitted(made))
    assert others.count() == before
    others.submit(registering.submitted(made))
