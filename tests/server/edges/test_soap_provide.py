"""ITI-41 over HTTP: documents are kept as they came and registered, or nothing of the message is."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from peers import imageshare
from peers import registry_objects as objects
from peers.document_source import BOUNDARY, Message, answered, codes, document, submitted
from peers.shows import shows
from peers.xds import REPOSITORY, SHARED, Archive, cx, fault, get, instance, needs_shared, uids
from pydicom.uid import UID, ExplicitVRLittleEndian
from sqlalchemy import func, select
from starlette.requests import Request

from ihe import iti41, mtom, soap
from ihe.ebrs import FAILURE, SUCCESS
from ihe.iti41 import Provided
from profiles.document import RPLC, Submission
from profiles.vocabulary import DICOM, KEY_OBJECT_SELECTION
from server import upkeep
from server.access.decisions import Decision, parse_scopes
from server.edges.soap import endpoint
from server.records.catalogue import BLOB
from server.records.registry import DOCUMENT, OBJECT
from server.store import blobs
from server.worker import Worker

ON_BOTH_ENGINES = True
NIST = SHARED / "nist" / "testkit" / "tests"
TEXT = b"This is my document.\r\n\r\n--b0undary\r\nIt is great!"


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    """With a patient P1, whom an image told of."""
    with imageshare.node(tmp_path / "data", database_url) as node:
        made = Archive(node)
        made.send(instance())
        yield made


def one(archive: Archive) -> Submission:
    return submitted(cx(archive), document())


def kept(archive: Archive) -> tuple[int, int, int]:
    """How many objects of submissions, documents and blobs there are; no file is without a row, nor a row without a file."""
    with archive.node.database.read() as connection:
        counts = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (OBJECT, DOCUMENT, BLOB)]
        named = set(connection.execute(select(BLOB.c.id)).scalars())
    assert {blob_id for blob_id, _ in archive.node.blobs.list()} == named
    return counts[0], counts[1], counts[2]


@pytest.fixture
def nothing_is_kept(archive: Archive) -> Iterator[None]:
    before = kept(archive)
    yield
    assert kept(archive) == before


@shows("transaction", "ITI-41 Document Repository", "ITI-43 Document Repository")
def test_a_document_is_kept_registered_and_given_back(archive: Archive) -> None:
    assert Message.of(one(archive), {"Document01": TEXT}).answer(archive).status == SUCCESS
    (entry,) = [each for each in archive.find(cx(archive)) if each.unique_id == "2.999.1.1"]
    assert (entry.size, entry.hash) == (len(TEXT), hashlib.sha1(TEXT).hexdigest())
    assert entry.repository_unique_id == archive.node.installation.repository
    assert entry.mime_type == "text/plain"
    answer, documents = get(archive, "2.999.1.1")
    assert (answer.status, documents) == (SUCCESS, {"2.999.1.1": TEXT})
    assert [document.mime_type for document in answer.documents] == ["text/plain"]
    (event,) = archive.trail("ITI-41")
    assert event.outcome == "0"
    assert event.patient
    assert "urn:oid:1.2.3.4.5.1" in str(event.body["entity"])
    kept(archive)


def test_a_document_that_changed_on_the_disk_is_found(archive: Archive) -> None:
    """By its SHA-1 at first, which is all that was made of it when it arrived, then by the SHA-256 that `verify` makes."""
    assert (
        Message.of(submitted(cx(archive), document(1), document(2)), {"Document01": TEXT, "Document02": b"ab"})
        .answer(archive)
        .status
        == SUCCESS
    )
    with archive.node.database.read() as connection:
        blob_ids = {row.unique_id: row.blob_id for row in connection.execute(select(DOCUMENT))}
    first, second = (archive.node.settings.blob_folder / blob_ids[f"2.999.1.{number}"] for number in (1, 2))
    second.write_bytes(b"aB")
    assert upkeep.verify(archive.node.settings) == [blob_ids["2.999.1.2"]]
    first.write_bytes(TEXT[:-1] + b"?")
    assert set(upkeep.verify(archive.node.settings)) == {blob_ids["2.999.1.1"], blob_ids["2.999.1.2"]}


def test_several_documents_of_every_size_are_kept(archive: Archive) -> None:
    """More than are closed together; sizes around those of the pieces that they arrive in."""
    contents = {f"Document{number:02}": (b"%d " % number) * (1 + number * 977) + b"\r\n--b0undar" for number in range(1, 41)}
    contents["Document40"] = b"\r\n" * (3 << 20)
    submission = submitted(cx(archive), *(document(number) for number in range(1, 41)))
    assert Message.of(submission, contents).answer(archive).status == SUCCESS
    answer, documents = get(archive, *(f"2.999.1.{number}" for number in range(1, 41)))
    assert answer.status == SUCCESS
    assert documents == {f"2.999.1.{number}": contents[f"Document{number:02}"] for number in range(1, 41)}


def test_parts_may_come_in_any_order_and_documents_stand_in_the_envelope(archive: Archive) -> None:
    submission = submitted(cx(archive), document(1), document(2), document(3))
    documents = [Provided(f"Document0{number}", content_id=f"{number}@source") for number in (1, 2, 3)]
    message = Message(submission, {"3@source": b"third", "1@source": b"first"}, documents)
    inline = re.sub(rb'<xdsb:Document id="Document02">.*?</xdsb:Document>',
                    b'<xdsb:Document id="Document02">c2Vj\n b25k</xdsb:Document>', message.root)  # fmt: skip
    assert inline != message.root
    assert answered(message.sent(archive, b"".join(message.pieces(inline)))).status == SUCCESS
    _, found = get(archive, "2.999.1.1", "2.999.1.2", "2.999.1.3")
    assert found == {"2.999.1.1": b"first", "2.999.1.2": b"second", "2.999.1.3": b"third"}


Broken = Callable[[Message], Message]


def _entry(message: Message, **changed: object) -> Message:
    (first, *rest) = message.submission.documents
    return replace(message, submission=replace(message.submission, documents=(replace(first, **changed), *rest)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: replace(m, parts={}), [("XDSMissingDocument", "Document01")]),
        (lambda m: replace(m, documents=[], parts={}), [("XDSMissingDocument", "Document01")]),
        (lambda m: replace(m, documents=[]), [("XDSMissingDocument", "Document01")]),
        (lambda m: replace(m, parts={**m.parts, "stray@source": b"?"}), [("XDSMissingDocumentMetadata", "stray@source")]),
        (
            lambda m: replace(m, parts={"stray@source": b"?"}),
            [("XDSMissingDocumentMetadata", "stray@source"), ("XDSMissingDocument", "Document01")],
        ),
        (
            lambda m: replace(m, documents=[*m.documents, Provided("Document02", content_id="two@source")]),
            [("XDSMissingDocumentMetadata", "Document02")],
        ),
        (lambda m: replace(m, documents=[*m.documents, *m.documents]), [("XDSRepositoryMetadataError", "Document01")]),
        (lambda m: replace(m, parts=dict.fromkeys(m.parts, b"")), [("XDSRepositoryMetadataError", "Document01")]),
        (lambda m: _entry(m, size=len(TEXT) + 1), [("XDSRepositoryMetadataError", "Document01")]),
        (lambda m: _entry(m, hash="0" * 40), [("XDSRepositoryMetadataError", "Document01")]),
        (lambda m: _entry(m, class_code=None), [("XDSRepositoryMetadataError", "Document01")]),
        (lambda m: _entry(m, patient_id="other^^^&1.2.3&ISO"), [("XDSPatientIdDoesNotMatch", "Document01")]),
    ],
)
@pytest.mark.usefixtures("nothing_is_kept")
def test_messages_whose_parts_and_entries_do_not_match(archive: Archive, change: Broken, found: list[tuple[str, str]]) -> None:
    answer = change(Message.of(one(archive), {"Document01": TEXT})).answer(archive)
    assert (answer.status, codes(answer)) == (FAILURE, found)
    (event,) = archive.trail("ITI-41")
    assert event.outcome == "4"
    assert event.why.startswith(found[0][0])


@pytest.mark.usefixtures("nothing_is_kept")
def test_hash_and_size_that_are_right_are_taken(archive: Archive) -> None:
    """In whatever case the hash is; and what is refused for its other entry is not kept at all."""
    good = document(1, size=len(TEXT), hash=hashlib.sha1(TEXT).hexdigest().upper())
    submission = submitted(cx(archive), good, document(2, size=1))
    answer = Message.of(submission, {"Document01": TEXT, "Document02": TEXT}).answer(archive)
    assert codes(answer) == [("XDSRepositoryMetadataError", "Document02")]


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_unique_id_twice_in_a_message_is_the_repositorys_to_refuse(archive: Archive) -> None:
    submission = submitted(cx(archive), document(1), replace(document(2), unique_id="2.999.1.1"))
    answer = Message.of(submission, {"Document01": TEXT, "Document02": TEXT}).answer(archive)
    assert [error.code for error in answer.errors] == ["XDSRepositoryDuplicateUniqueIdInMessage"]


@pytest.mark.usefixtures("nothing_is_kept")
def test_what_the_registry_refuses_is_not_kept(archive: Archive) -> None:
    answer = Message.of(submitted("stranger^^^&1.2.3&ISO", document()), {"Document01": TEXT}).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSUnknownPatientId"])
    replacing = one(archive)
    unknown = objects.association("rplc", "Document01", "urn:uuid:5d5e29a1-0a5a-4d6c-9b2e-0a4c1f3a9a11", RPLC)
    answer = Message.of(replace(replacing, associations=(*replacing.associations, unknown)), {"Document01": TEXT}).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["UnresolvedReferenceException"])


def test_the_same_document_again_is_kept_once(archive: Archive) -> None:
    """ITI TF-3 section 4.1.4.1: two entries of one uniqueId are of one document."""
    Message.of(one(archive), {"Document01": TEXT}).answer(archive)
    before = kept(archive)
    again = submitted(cx(archive), document(), number=2)
    assert Message.of(again, {"Document01": TEXT}).answer(archive).status == SUCCESS
    objects_, documents, blobs_ = kept(archive)
    assert (objects_, documents, blobs_) == (before[0] + 2, before[1], before[2])
    assert get(archive, "2.999.1.1")[1] == {"2.999.1.1": TEXT}


def test_another_document_of_the_same_unique_id_is_refused(archive: Archive) -> None:
    Message.of(one(archive), {"Document01": TEXT}).answer(archive)
    before = kept(archive)
    for number, content, found in (
        (2, TEXT + b".", {"XDSNonIdenticalHash", "XDSNonIdenticalSize"}),
        (3, TEXT.swapcase(), {"XDSNonIdenticalHash"}),
    ):
        answer = Message.of(submitted(cx(archive), document(), number=number), {"Document01": content}).answer(archive)
        assert answer.status == FAILURE
        assert {error.code for error in answer.errors} == found
        assert all("2.999.1.1" in error.context for error in answer.errors)
    assert kept(archive) == before


# --- the message


def whole(archive: Archive) -> bytes:
    return b"".join(Message.of(one(archive), {"Document01": TEXT * 50_000}).pieces())


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("left", [2_000, 1_000_000, -3, -12])
def test_a_message_that_was_cut_off_leaves_nothing(archive: Archive, left: int) -> None:
    refused = fault(Message.of(one(archive), {}).sent(archive, whole(archive)[:left]), 400)
    assert refused.code == "Sender"
    (event,) = archive.trail("ITI-41") if left != 2_000 else archive.trail("ITI-43")
    assert event.outcome == "4"


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'href="cid:', b'href="http://evil.example/'),
        (b"Content-Transfer-Encoding: binary\r\nContent-ID: <Document01", b"Content-Transfer-Encoding: base64\r\nContent-ID: <Document01"),
        (b"Content-ID: <Document01@source>", b"X-Content-ID: <Document01@source>"),
        (b"Content-ID: <Document01@source>", b"Content-ID: <root@imageshare>"),
    ],
)  # fmt: skip
def test_messages_that_are_no_mtom_are_faults(archive: Archive, old: bytes, new: bytes) -> None:
    content = whole(archive)
    assert old in content
    assert fault(Message.of(one(archive), {}).sent(archive, content.replace(old, new, 1)), 400).code == "Sender"


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_source_without_mtom_is_told_so(archive: Archive) -> None:
    message = Message.of(one(archive), {"Document01": TEXT})
    message.headers["Content-Type"] = soap.content_type(iti41.REQUEST_ACTION)
    refused = fault(message.sent(archive, message.root), 400)
    assert refused.code == "Sender"
    assert "MTOM" in refused.reason
    (event,) = archive.trail("ITI-41")
    assert event.outcome == "4"


def test_only_the_envelope_is_held_to_the_limit_of_messages(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data", max_message_bytes=20_000, max_submission_bytes=50_000) as node:
        archive = Archive(node)
        archive.send(instance())
        message = Message.of(one(archive), {"Document01": TEXT * 10_000})

        def padded(spaces: int) -> bytes:
            return message.root.replace(b"<env:Body>", b"<env:Body>" + b" " * spaces)

        assert 20_000 < len(padded(20_000)) < 50_000
        assert answered(message.sent(archive, b"".join(message.pieces(padded(20_000))))).status == SUCCESS
        refused = fault(message.sent(archive, b"".join(message.pieces(padded(50_000)))), 413)
        assert refused.code == "Sender"
        assert (
            refused.reason
            == "a SOAP envelope may have at most 50000 bytes here: ask for less, or submit fewer documents, at once"
        )
        # Nor is anybody else's message larger for it.
        for envelope, parts in ((message.root, message.parts), (padded(20_000), {})):
            other = replace(message, parts=parts)
            content = envelope.replace(iti41.REQUEST_ACTION.encode(), b"urn:ihe:iti:2007:RetrieveDocumentSet")
            refused = fault(other.sent(archive, b"".join(other.pieces(content))), 413)
            assert "20000 bytes" in refused.reason


def test_a_large_envelope_is_taken_and_the_trail_names_it_though_it_is_emptied(archive: Archive) -> None:
    message = Message.of(one(archive), {"Document01": TEXT})
    root = message.root.replace(b"<env:Body>", b"<env:Body>" + b" " * (5 << 20))
    content = b"".join(message.pieces(root))
    assert fault(message.sent(archive, content[:-100]), 400).code == "Sender"
    assert answered(message.sent(archive, content)).status == SUCCESS
    assert fault(message.sent(archive, content[:-100]), 400).code == "Sender"
    events = archive.trail("ITI-41")
    assert [event.outcome for event in events] == ["4", "0", "4"]
    assert all("urn:oid:1.2.3.4.5.1" in str(event.body["entity"]) for event in events)


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_document_beyond_the_limit_is_refused(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(archive.node.blobs, blobs.FolderBlobs)
    monkeypatch.setattr(archive.node.blobs, "limit", 100_000)
    submission = submitted(cx(archive), document(1), document(2))
    answer = Message.of(submission, {"Document01": TEXT * 3_000, "Document02": TEXT}).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSRepositoryError"])
    assert "100000" in answer.errors[0].context


@pytest.mark.usefixtures("nothing_is_kept")
def test_no_room_is_out_of_resources(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(archive.node.blobs, blobs.FolderBlobs)
    monkeypatch.setattr(archive.node.blobs, "reserve", 1 << 60)
    answer = Message.of(one(archive), {"Document01": TEXT}).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSRepositoryOutOfResources"])


# --- who may


@pytest.mark.parametrize("scopes", ["system/*.rs", "system/ImagingStudy.cruds", "patient/*.cruds"])
def test_who_may_not_create_documents_of_the_patient_leaves_none(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, scopes: str
) -> None:
    archive.send(instance("P2", "2.25.2", "2.25.2.1"))
    archive.find(cx(archive, "P2"))
    other = archive.trail("ITI-18")[-1].patient
    before = kept(archive)

    def narrow(request: Request) -> Decision:
        return Decision("partner", parse_scopes(scopes), other if "patient" in scopes else None)

    monkeypatch.setattr(endpoint, "admit", narrow)
    answer = Message.of(one(archive), {"Document01": TEXT}).answer(archive)
    assert (answer.status, [error.code for error in answer.errors]) == (FAILURE, ["XDSRepositoryError"])
    (event,) = archive.trail("ITI-41")
    assert event.outcome == "4"
    assert kept(archive) == before


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_stranger_is_refused_before_the_message_is_read(archive: Archive) -> None:
    client = archive.client(("203.0.113.9", 1234))
    content = iter([whole(archive)])
    headers = {"Content-Type": mtom.content_type(BOUNDARY, iti41.REQUEST_ACTION)}
    fault(client.post(REPOSITORY, content=content, headers=headers), 403)


# --- images


def test_images_that_are_sent_as_documents_are_images_too(archive: Archive) -> None:
    """As Image Share's edge servers send them: instances without a manifest."""
    image, text = instance("P1", "2.25.7", "2.25.7.1"), b"DICM is no image"
    study, series, uid = uids(image)
    entries = (replace(document(1, mime_type=DICOM), unique_id=uid), document(2, mime_type=DICOM), document(3))
    submission = submitted(cx(archive), *entries)
    message = Message.of(submission, {"Document01": image, "Document02": text, "Document03": image})
    assert message.answer(archive).status == SUCCESS
    Worker(archive.node).once()
    imageshare.publish_all(archive.node)
    assert archive.images((study, series, uid))[1] == {uid: image}
    assert get(archive, uid, "2.999.1.2")[1] == {uid: image, "2.999.1.2": text}


def test_a_manifest_stays_a_document(archive: Archive) -> None:
    """RAD-68."""
    (entry,) = archive.find(cx(archive))
    _, documents = get(archive, entry.unique_id)
    manifest = pydicom.dcmread(io.BytesIO(documents[entry.unique_id]))
    manifest.SOPInstanceUID = manifest.file_meta.MediaStorageSOPInstanceUID = UID("2.999.8")
    written = io.BytesIO()
    manifest.save_as(written)
    for number, format_code in ((1, objects.code(KEY_OBJECT_SELECTION)), (2, objects.code())):
        sent = replace(document(1, mime_type=DICOM, format_code=format_code), unique_id=f"2.999.8.{number}")
        assert (
            Message.of(submitted(cx(archive), sent, number=number), {"Document01": written.getvalue()}).answer(archive).status
            == SUCCESS
        )
    Worker(archive.node).once()
    answer, _ = archive.images(
        (manifest.StudyInstanceUID, manifest.SeriesInstanceUID, "2.999.8"), syntaxes=[ExplicitVRLittleEndian]
    )
    assert [error.code for error in answer.errors] == ["XDSDocumentUniqueIdError"]
    assert get(archive, "2.999.8.1")[1] == {"2.999.8.1": written.getvalue()}


# --- the toolkit's messages


@needs_shared
@pytest.mark.parametrize("test", ["PnrXop/NoXop", "PnrXop/Xop", "PnrXop/encodedURL", "PnrXop/dicom", "PnrNoXop/submit"])
@shows("transaction", "ITI-41 Document Recipient")
def test_the_toolkits_messages_as_they_stand_on_the_wire(archive: Archive, test: str) -> None:
    """Whatever the toolkit's Content-IDs look like, with or without XOP."""
    plan, body = (NIST / test / "testplan.xml").read_text(), (NIST / test / "body.txt").read_bytes()
    found = re.search(r"Content-Type: ([^\n]+)", plan)
    assert found
    body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    patient = re.search(rb'value="([^"]*&amp;ISO)"', body)
    assert patient
    body = body.replace(patient[1], cx(archive).replace("&", "&amp;").encode())
    response = archive.client().post(REPOSITORY, content=body, headers={"Content-Type": found[1].strip()})
    reader = mtom.Reader(response.headers["content-type"])
    envelope = soap.parse(next(event.data for event in reader.feed(response.content) if isinstance(event, mtom.Root)))
    assert envelope.body.get("status") == SUCCESS, [dict(each.attrib) for each in envelope.body.iter("{*}RegistryError")]
