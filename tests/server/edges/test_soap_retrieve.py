"""ITI-43 and RAD-69 over HTTP: documents and images are what was stored, and what is missing is named."""

import email
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from lxml import etree
from peers import imageshare
from peers.shows import shows
from peers.xds import SHARED, SOURCE, Archive, cx, get, instance, needs_shared, retrieved, uids
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from ihe import rad69, xml
from ihe.ebrs import FAILURE, PARTIAL_SUCCESS, SUCCESS
from server.records import catalogue

NIST_CASES = SHARED / "nist" / "testkit" / "tests" / "ids_4812"


def without_preamble(file: bytes) -> bytes:
    """What is sent of a file: its preamble may be a program (PS3.10 section 7.5)."""
    return bytes(128) + file[128:]


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        yield Archive(node)


@pytest.mark.parametrize("in_mtom", [True, False])
@shows("transaction", "ITI-43 Document Repository")
def test_the_manifest_is_what_its_entry_says(archive: Archive, in_mtom: bool) -> None:
    file = instance()
    archive.send(file)
    (entry,) = archive.find(cx(archive))
    answer, documents = get(archive, entry.unique_id, in_mtom=in_mtom)
    assert (answer.status, [document.mime_type for document in answer.documents]) == (SUCCESS, ["application/dicom"])
    manifest = documents[entry.unique_id]
    assert (len(manifest), hashlib.sha1(manifest).hexdigest()) == (entry.size, entry.hash)
    read = pydicom.dcmread(io.BytesIO(manifest))
    assert read.SOPInstanceUID == entry.unique_id
    # What the manifest says is what RAD-69 is asked for.
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    assert series.RetrieveLocationUID == archive.node.installation.imaging_source
    _, images = archive.images((study.StudyInstanceUID, series.SeriesInstanceUID, reference.ReferencedSOPInstanceUID))
    assert images == {reference.ReferencedSOPInstanceUID: file}


def test_documents_that_cannot_be_had_are_named(archive: Archive) -> None:
    archive.send(instance())
    (entry,) = archive.find(cx(archive))
    answer, documents = get(archive, entry.unique_id, "2.25.404", entry.unique_id)
    assert (answer.status, documents.keys()) == (PARTIAL_SUCCESS, {entry.unique_id})
    assert [(error.code, error.location) for error in answer.errors] == [("XDSDocumentUniqueIdError", "2.25.404")]
    disclosed, refused = archive.trail("ITI-43")
    assert (disclosed.outcome, refused.outcome) == ("0", "4")
    assert disclosed.patient
    assert entry.unique_id in str(disclosed.body["entity"])
    assert "2.25.404" in str(refused.body["entity"])
    answer, documents = get(archive, entry.unique_id, repository="1.2.3")
    assert (answer.status, documents) == (FAILURE, {})
    assert [(error.code, error.location) for error in answer.errors] == [("XDSUnknownRepositoryId", entry.unique_id)]


@shows("transaction", "RAD-69 Imaging Document Source")
def test_every_image_is_what_was_sent(archive: Archive) -> None:
    files = [
        Path(str(get_testdata_file(name))).read_bytes()
        for name in ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "693_J2KI.dcm")
    ]
    archive.send(*files)
    syntaxes = {str(pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID) for file in files}
    answer, documents = archive.images(*map(uids, files), syntaxes=sorted(syntaxes))
    assert (answer.status, documents) == (SUCCESS, {uid: without_preamble(file) for uid, file in archive.sent.items()})
    told = archive.trail("RAD-69")
    assert len({event.patient for event in told}) == len(told) == len({uids(file)[0] for file in files})
    for event in told:
        # Each patient's event tells of that patient's studies only.
        assert sum("urn:dicom:uid" in str(entity) for entity in event.body["entity"]) == 1
        assert event.body["agent"][0]["network"]["address"] == "127.0.0.1"


@needs_shared
def test_the_toolkits_images_come_back_as_they_are(archive: Archive) -> None:
    files = {}
    for path in sorted((SHARED / "nist" / "ImageCache" / "std").glob("IDS-DEPT0[0-4]*/images/*")):
        file = path.read_bytes()
        files.setdefault(uids(file)[2], file)
    archive.send(*files.values())
    syntaxes = {
        str(pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).file_meta.TransferSyntaxUID) for file in files.values()
    }
    assert len(syntaxes) > 1
    answer, documents = archive.images(*map(uids, files.values()), syntaxes=sorted(syntaxes))
    assert answer.status == SUCCESS
    assert documents == {uid: without_preamble(file) for uid, file in files.items()}


@needs_shared
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("case-0_Comparison_Transaction", ""),
        ("case-1_Invalid_RepositoryUID", "XDSUnknownRepositoryId"),
        ("case-2_Unknown_SOP_Instance_UID", "XDSDocumentUniqueIdError"),
        ("case-3_SOP_Instance_UID_not_in_requested_series", "XDSDocumentUniqueIdError"),
        ("case-4_SOP_Instance_UID_not_in_requested_study", "XDSDocumentUniqueIdError"),
        ("case-5_Empty_Study_Instance_UID", "XDSIRequestError"),
        ("case-6_Empty_Series_Instance_UID", "XDSIRequestError"),
        ("case-7_Empty_Study_and_Series_Instance_UIDs", "XDSIRequestError"),
        ("case-8_Empty_Transfer_Syntax_UID", "XDSRepositoryError"),
        ("case-9_Invalid_Transfer_Syntax_UID", "XDSRepositoryError"),
    ],
)
def test_the_toolkits_error_cases(archive: Archive, case: str, code: str) -> None:
    images = [path.read_bytes() for path in (SHARED / "nist" / "ImageCache" / "std" / "IDS-DEPT002-a" / "images").iterdir()]
    # One image of each of the study's two series is enough.
    archive.send(*(file for file in images if uids(file)[2].endswith((".201604020954059.1", ".201604020954059.22"))))
    assert len(archive.sent) == 2
    request = (NIST_CASES / case / "RAD-69Request.xml").read_bytes()
    ours = archive.node.installation.imaging_source.encode()
    body = etree.fromstring(request.replace(b"1.3.6.1.4.1.21367.13.80.110<", ours + b"<"))
    (wanted,) = [found.text for found in body.iter(f"{{{xml.XDS_B}}}DocumentUniqueId")]
    assert wanted
    answer, documents = retrieved(archive.post(SOURCE, rad69.REQUEST_ACTION, body, in_mtom=True))
    (event,) = archive.trail("RAD-69")
    if not code:
        assert (answer.status, documents) == (SUCCESS, {wanted: archive.sent[wanted]})
        return
    assert (answer.status, documents) == (FAILURE, {})
    assert [(error.code, error.location) for error in answer.errors] == [(code, wanted)]
    assert event.outcome == "4"
    assert event.why.startswith(code)
    assert wanted in str(event.body["entity"])


def test_part_of_the_images(archive: Archive) -> None:
    """Nothing is compressed with loss for anybody."""
    stored, other = instance(syntax=ExplicitVRLittleEndian), Path(str(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"))).read_bytes()
    archive.send(stored, other)
    here, elsewhere = uids(other), uids(stored)
    answer, documents = archive.images(here, here, elsewhere, syntaxes=[JPEGBaseline8Bit])
    assert (answer.status, documents) == (PARTIAL_SUCCESS, {here[2]: without_preamble(other)})
    assert [(error.code, error.location) for error in answer.errors] == [("XDSRepositoryError", elsewhere[2])]
    assert [event.outcome for event in archive.trail("RAD-69")] == ["0", "4"]


FILES = ("MR_small_bigendian.dcm", "693_J2KI.dcm", "SC_rgb_rle_2frame.dcm", "image_dfl.dcm", "reportsi.dcm")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
@shows("transaction", "RAD-69 Imaging Document Source")
def test_images_are_transcoded_where_the_list_does_not_have_their_transfer_syntax(archive: Archive, syntax: str) -> None:
    """RAD TF-2 section 4.69.4.2.3: in one of the list, without loss."""
    files = [Path(str(get_testdata_file(name))).read_bytes() for name in FILES]
    archive.send(*files)
    answer, documents = archive.images(*map(uids, files), syntaxes=[JPEGBaseline8Bit, syntax])
    named = {error.location for error in answer.errors}
    for file in files:
        stored, uid = pydicom.dcmread(io.BytesIO(file)), uids(file)[2]
        if uid in named:
            # A report has no pixels that could be compressed.
            assert "PixelData" not in stored
            assert syntax in (JPEG2000Lossless, RLELossless)
            continue
        sent = pydicom.dcmread(io.BytesIO(documents[uid]))
        assert sent.file_meta.TransferSyntaxUID == syntax
        assert sent.SOPInstanceUID == uid
        if "PixelData" in stored:
            assert (sent.pixel_array == stored.pixel_array).all()
    assert answer.status == (PARTIAL_SUCCESS if named else SUCCESS)
    assert not list(archive.node.settings.blob_folder.rglob("*.part"))


def test_what_cannot_be_decoded_is_an_error_of_its_own(archive: Archive) -> None:
    """Found before the first byte: the others are sent."""
    image = pydicom.dcmread(str(get_testdata_file("693_J2KI.dcm")))
    image.PixelData = encapsulate([b"\xff\x4f\xff\x51 no codestream "])
    written = io.BytesIO()
    image.save_as(written)
    good = instance()
    archive.send(written.getvalue(), good)
    answer, documents = archive.images(uids(written.getvalue()), uids(good), syntaxes=[ExplicitVRLittleEndian])
    assert (answer.status, documents) == (PARTIAL_SUCCESS, {uids(good)[2]: good})
    assert [(error.code, error.location) for error in answer.errors] == [("XDSRepositoryError", image.SOPInstanceUID)]
    assert not list(archive.node.settings.blob_folder.rglob("*.part"))


def test_bytes_that_are_lost_are_found_out_before_the_first_byte(archive: Archive) -> None:
    kept, cut, lost = instance(), instance(), instance()
    archive.send(kept, cut, lost)
    with archive.node.database.read() as connection:
        stored = catalogue.by_sop_uid(connection, list(archive.sent))
    folder = archive.node.settings.blob_folder
    (folder / stored[uids(lost)[2]].blob_id).unlink()
    (folder / stored[uids(cut)[2]].blob_id).write_bytes(b"short")
    answer, documents = archive.images(*map(uids, (kept, cut, lost)))
    assert (answer.status, documents) == (PARTIAL_SUCCESS, {uids(kept)[2]: kept})
    assert {(error.code, error.location) for error in answer.errors} == {
        ("XDSRepositoryError", uids(cut)[2]),
        ("XDSRepositoryError", uids(lost)[2]),
    }


def test_the_answer_is_multipart_to_others_too(archive: Archive) -> None:
    """Read by the standard library's parser of MIME, which knows nothing of ours."""
    file = instance()
    archive.send(file)
    response = archive.post(SOURCE, rad69.REQUEST_ACTION, archive.images_request([uids(file)], [ExplicitVRLittleEndian]))
    message = email.message_from_bytes(f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode() + response.content)
    root, attachment = message.get_payload()
    assert isinstance(root, email.message.Message)
    assert isinstance(attachment, email.message.Message)
    assert message.get_param("start") == root["Content-ID"]
    assert message.get_param("action") == rad69.RESPONSE_ACTION
    assert attachment["Content-ID"].strip("<>") in str(root.get_payload(decode=True))
    assert attachment.get_payload(decode=True) == file
