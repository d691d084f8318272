"""ITI-43 and RAD-69: two requests, one response."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element

from ihe import iti43, mtom, rad69, soap, xml
from ihe.ebrs import FAILURE, PARTIAL_SUCCESS, SUCCESS, RegistryError, RegistryRefusal
from ihe.iti43 import DocumentRequest, DocumentResponse
from ihe.multipart import PartData, PartStart
from ihe.rad69 import SeriesRequest, StudyRequest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
TESTS = SHARED / "nist" / "testkit" / "tests"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")

uids = st.from_regex(r"[1-9]{1,3}(\.[1-9]{1,3}){1,3}", fullmatch=True)
document_requests = st.builds(DocumentRequest, uids, uids, st.sampled_from(["", "urn:oid:1.2.3"]))
some_documents = st.lists(document_requests, min_size=1, max_size=3).map(tuple)
some_series = st.lists(st.builds(SeriesRequest, uids, some_documents), min_size=1, max_size=2).map(tuple)
some_studies = st.lists(st.builds(StudyRequest, uids, some_series), min_size=1, max_size=2).map(tuple)


def wire(element: _Element) -> _Element:
    return xml.parse(etree.tostring(element), 1_000_000)


@given(some_documents)
def test_iti43_request_round_trip(validate: Callable[[_Element], None], documents: tuple[DocumentRequest, ...]) -> None:
    written = iti43.request(documents)
    validate(written)
    assert iti43.parse_request(wire(written)) == documents


@given(some_studies, st.lists(uids, min_size=1, max_size=3).map(tuple))
def test_rad69_request_round_trip(
    validate: Callable[[_Element], None], studies: tuple[StudyRequest, ...], syntaxes: tuple[str, ...]
) -> None:
    written = rad69.request(studies, syntaxes)
    validate(written)
    read = rad69.parse_request(wire(written))
    assert (read.studies, read.transfer_syntaxes) == (studies, syntaxes)
    documents = [wanted for study in studies for series in study.series for wanted in series.documents]
    assert [wanted for _, _, wanted in read.documents()] == documents


@given(some_documents, st.booleans())
def test_response_round_trip(validate: Callable[[_Element], None], documents: tuple[DocumentRequest, ...], failed: bool) -> None:
    answers = [DocumentResponse(wanted, "application/dicom", f"{number}@x", 5) for number, wanted in enumerate(documents)]
    errors = (RegistryError("XDSDocumentUniqueIdError", "the document is not here", "1.2.3"),) if failed else ()
    written = etree.fromstring(rad69.response(answers, errors))
    validate(written)
    read = rad69.parse_response(wire(written))
    assert (read.status, read.errors) == (PARTIAL_SUCCESS if failed else SUCCESS, errors)
    assert [(document.request, document.content_id) for document in read.documents] == [
        (answer.request, answer.content_id) for answer in answers
    ]


def test_a_failure_has_no_document(validate: Callable[[_Element], None]) -> None:
    written = etree.fromstring(iti43.response((), [RegistryError("XDSUnknownRepositoryId", "no such repository", "1.2.3")]))
    validate(written)
    assert iti43.parse_response(written).status == FAILURE


def test_a_whole_answer_over_the_wire() -> None:
    """What RAD-69 sends, and what a client makes of it: envelope, Include, attachment."""
    images = {"1@x": b"first image", "2@x": b"second"}
    answers = [DocumentResponse(DocumentRequest("1.2", uid), "application/dicom", uid, len(data)) for uid, data in images.items()]
    root = soap.render(rad69.RESPONSE_ACTION, "urn:uuid:1", rad69.response(answers), "urn:uuid:2")
    attachments = [answer.attachment for answer in answers]
    message = b"".join(mtom.chunks(root, attachments, lambda attachment: (images[attachment.content_id],), "b0und"))
    assert len(message) == mtom.content_length(root, attachments, "b0und")
    first, *rest = mtom.Reader(mtom.content_type("b0und", rad69.RESPONSE_ACTION)).feed(message)
    assert isinstance(first, mtom.Root)
    read = rad69.parse_response(soap.response_of(soap.parse(first.data)))
    assert [document.content_id for document in read.documents] == list(images)
    assert [event.content_id for event in rest if isinstance(event, PartStart)] == list(images)
    assert [bytes(event.data) for event in rest if isinstance(event, PartData)] == list(images.values())


def test_inline_documents_are_read() -> None:
    written = etree.fromstring(iti43.response([DocumentResponse(DocumentRequest("1.2", "1.3"), "text/plain", "1@x", 5)]))
    document = written.find(f".//{{{xml.XDS_B}}}Document")
    assert document is not None
    document.remove(document[0])
    document.text = " aGVs\n bG8= "
    assert iti43.parse_response(written).documents[0].content == b"hello"
    document.text = "not base64!"
    with pytest.raises(RegistryError):
        iti43.parse_response(written)


def test_an_include_of_something_else_is_refused() -> None:
    written = etree.fromstring(iti43.response([DocumentResponse(DocumentRequest("1.2", "1.3"), "text/plain", "1@x", 5)]))
    next(written.iter(f"{{{xml.XOP}}}Include")).set("href", "file:///etc/passwd")
    with pytest.raises(mtom.MtomError):
        iti43.parse_response(written)


@pytest.mark.parametrize(
    ("documents", "code"),
    [
        ([], "XDSRepositoryError"),
        ([DocumentRequest("", "1.2")], "XDSUnknownRepositoryId"),
        ([DocumentRequest("1.2", "")], "XDSDocumentUniqueIdError"),
    ],
)
def test_incomplete_requests_are_refused(documents: list[DocumentRequest], code: str) -> None:
    with pytest.raises(RegistryError) as raised:
        iti43.parse_request(iti43.request(documents))
    assert raised.value.code == code


def test_other_messages_are_refused() -> None:
    for parse in (iti43.parse_request, rad69.parse_request, iti43.parse_response):
        with pytest.raises(RegistryError):
            parse(etree.Element("x"))


@needs_shared
def test_the_toolkits_retrieve_requests_are_read() -> None:
    # One of the toolkit's placeholders is an empty file.
    messages = [data for path in sorted(TESTS.rglob("retrieve.xml")) if (data := path.read_bytes())]
    found = [wanted for data in messages for wanted in iti43.parse_request(xml.parse(data, 100_000))]
    assert "1.3.6.1.4.1.21367.13.71.101.1" in {wanted.repository_unique_id for wanted in found}


@needs_shared
def test_the_toolkits_imaging_requests_are_read_and_written_again(validate: Callable[[_Element], None]) -> None:
    paths = [path for path in sorted(TESTS.rglob("RAD-*Request.xml")) if "Empty" not in str(path) and "rig_" not in str(path)]
    assert len(paths) > 8
    for path in paths:
        asked = rad69.parse_request(xml.parse(path.read_bytes(), 1_000_000))
        assert list(asked.documents())
        again = rad69.request(asked.studies, asked.transfer_syntaxes)
        validate(again)
        assert rad69.parse_request(wire(again)) == asked


@needs_shared
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("case-5_Empty_Study_Instance_UID", "XDSIRequestError"),
        ("case-6_Empty_Series_Instance_UID", "XDSIRequestError"),
        ("case-7_Empty_Study_and_Series_Instance_UIDs", "XDSIRequestError"),
        ("case-8_Empty_Transfer_Syntax_UID", "XDSRepositoryError"),
    ],
)
def test_the_toolkits_empty_uids_are_refused_per_document(case: str, code: str) -> None:
    body = xml.parse((TESTS / "ids_4812" / case / "RAD-69Request.xml").read_bytes(), 100_000)
    with pytest.raises(RegistryRefusal) as raised:
        rad69.parse_request(body)
    assert [(error.code, error.location) for error in raised.value.errors] == [
        (code, (found.text or "").strip()) for found in body.iter(f"{{{xml.XDS_B}}}DocumentUniqueId")
    ]
