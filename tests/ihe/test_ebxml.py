from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element

from ihe import ebrs, ebxml, xml
from ihe.ebrs import RegistryError, RegistryRefusal, RegistryResponse
from profiles.document import APPROVED, DEPRECATED, Association, Author, Code, DocumentEntry, SubmissionSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=20)
token = text.map(str.strip)
filled = token.filter(bool)
words = st.lists(filled, max_size=2).map(tuple)
uuids = st.uuids().map(lambda value: value.urn)
times = st.from_regex(r"20[0-9]{12}", fullmatch=True, alphabet="0123456789")
codes = st.builds(Code, filled, token, text)
code_lists = st.lists(codes, max_size=3).map(tuple)
authors = st.lists(st.builds(Author, token, words, words, words), max_size=2).map(tuple)
statuses = st.sampled_from([APPROVED, DEPRECATED])
entries = st.builds(
    DocumentEntry,
    entry_uuid=uuids,
    unique_id=filled,
    patient_id=filled,
    source_patient_id=token,
    class_code=codes,
    type_code=codes,
    format_code=codes,
    confidentiality=code_lists,
    facility_type=codes,
    practice_setting=codes,
    mime_type=st.just("application/dicom"),
    language=token,
    creation_time=times,
    hash=st.binary(min_size=20, max_size=20).map(bytes.hex),
    size=st.integers(0, 2**63),
    repository_unique_id=token,
    home_community_id=st.sampled_from(["", "urn:oid:1.2.3"]),
    title=text,
    service_start=st.one_of(st.just(""), times),
    service_stop=st.one_of(st.just(""), times),
    event_codes=code_lists,
    reference_ids=words,
    source_patient_info=words,
    authors=authors,
    status=statuses,
)
submission_sets = st.builds(SubmissionSet, uuids, filled, filled, filled, times, codes, text, authors, statuses)
associations = st.builds(Association, uuids, uuids, uuids, uuids, st.sampled_from(["", "Original", "Reference"]), statuses)


def wire(element: _Element) -> _Element:
    """As the other side sees it."""
    return xml.parse(etree.tostring(element, encoding="UTF-8"), 1_000_000)


@given(entries)
def test_document_entry_round_trip(entry: DocumentEntry) -> None:
    assert ebxml.document_entry(wire(ebxml.document_entry_element(entry))) == entry


@given(submission_sets)
def test_submission_set_round_trip(submission: SubmissionSet) -> None:
    assert ebxml.submission_set(wire(ebxml.submission_set_element(submission))) == submission


@given(associations)
def test_association_round_trip(association: Association) -> None:
    assert ebxml.association(wire(ebxml.association_element(association))) == association


@given(entries, submission_sets, associations)
def test_everything_written_is_valid(
    validate: Callable[[_Element], None], entry: DocumentEntry, submission: SubmissionSet, association: Association
) -> None:
    validate(ebxml.document_entry_element(entry))
    validate(ebxml.submission_set_element(submission))
    validate(ebxml.association_element(association))


@given(entries)
def test_the_same_entry_gives_the_same_bytes(entry: DocumentEntry) -> None:
    assert etree.tostring(ebxml.document_entry_element(entry)) == etree.tostring(ebxml.document_entry_element(entry))


def test_no_empty_slot_is_written() -> None:
    code = Code("c", "")
    entry = DocumentEntry("u", "1.2", "p", "", code, code, code, (), code, code, "application/dicom", "", "2020", "", 0, "")
    written = ebxml.document_entry_element(entry)
    assert [slot.get("name") for slot in written.iterfind(f"{{{xml.RIM}}}Slot")] == ["creationTime", "size"]
    assert all(len(values) for values in written.iter(f"{{{xml.RIM}}}ValueList"))


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_real_imaging_submissions_are_read() -> None:
    paths = sorted((SHARED / "nist/testkit/tests/idc_init/XDS-I-idc-a").glob("metadata-*.xml"))
    assert len(paths) > 10
    for path in paths:
        root = xml.parse(path.read_bytes(), 1_000_000)
        entry = ebxml.document_entry(next(root.iter(f"{{{xml.RIM}}}ExtrinsicObject")))
        assert entry.mime_type == "application/dicom"
        assert (entry.format_code.code, entry.format_code.scheme) == ("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")
        assert entry.authors[0].institutions == ("Cleveland Clinic", "Parma Community")
        assert entry.source_patient_info[0].startswith("PID-3|")
        submission = ebxml.submission_set(next(root.iter(f"{{{xml.RIM}}}RegistryPackage")))
        assert submission.patient_id == entry.patient_id
        member = ebxml.association(next(root.iter(f"{{{xml.RIM}}}Association")))
        assert (member.source, member.target, member.submission_set_status) == (
            submission.entry_uuid,
            entry.entry_uuid,
            "Original",
        )


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_a_peers_submission_is_read() -> None:
    root = xml.parse((SHARED / "ipf/xds-test/SubmitObjectsRequest_ebrs30_update.xml").read_bytes(), 1_000_000)
    found = [ebxml.document_entry(element) for element in root.iter(f"{{{xml.RIM}}}ExtrinsicObject")]
    assert found
    for entry in found:
        assert entry.patient_id.endswith("&ISO")
        assert ebxml.document_entry(wire(ebxml.document_entry_element(entry))) == entry


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_a_peers_broken_scheme_is_named() -> None:
    root = xml.parse((SHARED / "ipf/xds-test/SubmitObjectsRequest_ebrs30.xml").read_bytes(), 1_000_000)
    with pytest.raises(RegistryError, match=r"DocumentEntry\.patientId is missing"):
        ebxml.document_entry(next(root.iter(f"{{{xml.RIM}}}ExtrinsicObject")))


@pytest.mark.parametrize("lost", ["ExternalIdentifier", "Classification"])
def test_missing_mandatory_metadata_is_an_error(lost: str) -> None:
    code = Code("c", "s")
    entry = DocumentEntry("u", "1.2", "p", "p", code, code, code, (), code, code, "application/dicom", "en", "2020", "", 0, "")
    written = ebxml.document_entry_element(entry)
    for found in written.findall(f"{{{xml.RIM}}}{lost}"):
        written.remove(found)
    with pytest.raises(RegistryError) as raised:
        ebxml.document_entry(written)
    assert raised.value.code == "XDSRegistryMetadataError"


errors = st.builds(RegistryError, filled, text, token, st.sampled_from([ebrs.ERROR, ebrs.WARNING]))


@given(st.lists(errors, max_size=3), st.booleans())
def test_registry_response_round_trip(
    validate: Callable[[_Element], None], given_errors: list[RegistryError], results: bool
) -> None:
    response = ebrs.response_to(given_errors, results)
    written = ebrs.to_element(response)
    validate(written)
    assert ebrs.read(wire(written)) == response


def test_status_follows_from_errors_and_results() -> None:
    error, warning = RegistryError("XDSRegistryError", "x"), RegistryError("XDSExtraMetadataNotSaved", "y", severity=ebrs.WARNING)
    assert ebrs.response_to([], False) == RegistryResponse("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success")
    assert ebrs.response_to([warning], True).status == "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
    assert ebrs.response_to([error, warning], True).status == "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
    assert ebrs.response_to([error], False).status == "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
    written = ebrs.to_element(ebrs.response_to([warning, error], False))
    assert written[0].get("highestSeverity") == ebrs.ERROR


def test_a_refusal_has_all_its_errors() -> None:
    one, two = RegistryError("A", "a", "1.2"), RegistryError("B", "b")
    assert one.errors == (one,)
    assert str(one) == "A: a"
    assert RegistryRefusal([one, two]).errors == (one, two)
    assert isinstance(one, RegistryRefusal)
    assert {one, RegistryError("A", "a", "1.2")} == {one}
