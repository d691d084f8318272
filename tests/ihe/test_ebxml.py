import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element
from peers import registry_objects
from peers.registry_objects import associations, entries, filled, folders, submission_sets, submissions, text, token

from ihe import ebrim, ebrs, ebxml, metadata_rules, xml
from ihe.ebrs import RegistryError, RegistryRefusal, RegistryResponse
from ihe.ebxml import Fault, Reading
from ihe.metadata import By
from profiles.document import Association, Code, DocumentEntry, Folder, Submission, SubmissionSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"


def wire(element: _Element) -> _Element:
    """As the other side sees it."""
    return xml.parse(etree.tostring(element, encoding="UTF-8"), 1_000_000)


@given(entries)
def test_document_entry_round_trip(entry: DocumentEntry) -> None:
    assert ebxml.document_entry(wire(ebxml.element_of(entry))) == entry


@given(submission_sets)
def test_submission_set_round_trip(submission: SubmissionSet) -> None:
    assert ebxml.submission_set(wire(ebxml.element_of(submission))) == submission


@given(associations)
def test_association_round_trip(association: Association) -> None:
    assert ebxml.association(wire(ebxml.element_of(association))) == association


@given(folders)
def test_folder_round_trip(folder: Folder) -> None:
    assert ebxml.folder(wire(ebxml.element_of(folder))) == folder


def listed(submission: Submission) -> _Element:
    made = xml.element(xml.RIM, "RegistryObjectList")
    for reference in submission.references:
        xml.child(made, xml.RIM, "ObjectRef", id=reference)
    made.extend(ebxml.submission_elements(submission))
    return made


@given(submissions)
def test_submission_round_trip(submission: Submission) -> None:
    reading = Reading()
    assert ebxml.submission(wire(listed(submission)), reading) == submission
    assert reading.faults == []


@given(submissions)
def test_everything_written_is_valid(validate: Callable[[_Element], None], submission: Submission) -> None:
    validate(listed(submission))


@given(entries)
def test_the_same_entry_gives_the_same_bytes(entry: DocumentEntry) -> None:
    assert etree.tostring(ebxml.element_of(entry)) == etree.tostring(ebxml.element_of(entry))


def test_no_empty_slot_is_written() -> None:
    code = Code("c", "")
    entry = DocumentEntry("u", "1.2", "p", "", code, code, code, (), code, code, "application/dicom", "", "2020", "", 0, "")
    written = ebxml.element_of(entry)
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
        assert entry.format_code is not None
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
        assert ebxml.document_entry(wire(ebxml.element_of(entry))) == entry


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_a_peers_broken_scheme_is_named() -> None:
    root = xml.parse((SHARED / "ipf/xds-test/SubmitObjectsRequest_ebrs30.xml").read_bytes(), 1_000_000)
    reading = Reading()
    submission = ebxml.submission(next(root.iter(f"{{{xml.RIM}}}RegistryObjectList")), reading)
    errors = metadata_rules.check(submission, By.PROVIDE, reading)
    assert "Document01: DocumentEntry.patientId is missing: this transaction requires it" in [error.context for error in errors]
    assert {error.code for error in errors} == {"XDSRegistryMetadataError"}


def test_what_a_registry_knows_may_be_missing_from_what_a_source_sends() -> None:
    element = xml.element(xml.RIM, "ExtrinsicObject", id="Document01")
    reading = Reading()
    read = ebxml.document_entry(element, reading)
    assert (read.entry_uuid, read.size, read.hash, read.class_code, read.confidentiality) == ("Document01", None, "", None, ())
    assert reading.faults == [Fault("Document01", "DocumentEntry: objectType is missing")]


def slot(parent: _Element, name: str, *values: str) -> None:
    made = xml.child(xml.child(parent, xml.RIM, "Slot", name=name), xml.RIM, "ValueList")
    for value in values:
        xml.child(made, xml.RIM, "Value", value)


def part(text: str) -> _Element:
    return ebxml.listed((text,))[0]


def changed(change: Callable[[_Element], object]) -> tuple[DocumentEntry, list[str]]:
    """What is read of an entry whose XML was changed, and what reading says of it."""
    element = ebxml.element_of(registry_objects.entry())
    change(element)
    reading = Reading()
    read = ebxml.document_entry(wire(element), reading)
    assert {fault.id for fault in reading.faults} <= {"Document01"}
    return read, [fault.words for fault in reading.faults]


FORMAT = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: slot(made, "hash", "00"), "the Slot hash is there more than once"),
        (lambda made: slot(made, "", "00"), "a Slot has no name"),
        (lambda made: made.find("{*}Slot[@name='size']/{*}ValueList/{*}Value").__setattr__("text", "-1"), "size has to be a number"),
        (lambda made: xml.child(made.find("{*}Slot[@name='URI']/../{*}Slot/{*}ValueList"), xml.RIM, "Value", "2"), "has more than one value"),
        (lambda made: made.append(part(ebrim.classification("Document01", FORMAT, 1, "c", ""))), "formatCode is there more than once"),
        (lambda made: made.append(part(ebrim.identifier("Document01", UNIQUE_ID, "1.2", "n"))), f"the ExternalIdentifier {UNIQUE_ID} is there more than once"),
        (lambda made: made.find("{*}Classification").set("classifiedObject", "other"), "a Classification classifies another object"),
        (lambda made: made.find("{*}ExternalIdentifier").set("registryObject", "x"), "an ExternalIdentifier identifies another object"),
        (lambda made: made.find("{*}Classification").attrib.pop("classificationScheme"), "neither classificationScheme nor"),
        (lambda made: slot(made.find("{*}Classification"), "authorPerson", "^A"), "the Slot authorPerson is there more than once"),
    ],
)  # fmt: skip
def test_what_the_schema_allows_and_the_framework_does_not_is_told(change: Callable[[_Element], object], words: str) -> None:
    assert changed(lambda _: None) == (registry_objects.entry(), [])
    _, told = changed(change)
    assert len(told) == 1
    assert words in told[0]


def test_an_author_is_one_person() -> None:
    def second_person(made: _Element) -> None:
        persons = made.find("{*}Classification/{*}Slot[@name='authorPerson']/{*}ValueList")
        assert persons is not None
        xml.child(persons, xml.RIM, "Value", "^Other")

    read, told = changed(second_person)
    assert told == ["DocumentEntry: an author has more than one authorPerson: each author is a Classification of its own"]
    assert read == registry_objects.entry()


def test_empty_values_are_not_there() -> None:
    read, told = changed(lambda made: slot(made, "urn:example:empty", "", " "))
    assert (read, told) == (registry_objects.entry(), [])


def test_a_long_uri_is_put_together() -> None:
    def in_pieces(made: _Element) -> None:
        found = made.find("{*}Slot[@name='URI']")
        assert found is not None
        made.remove(found)
        slot(made, "URI", "2|e.org/", "10|c", "1|http://exampl")

    assert changed(in_pieces)[0].uri == "http://example.org/c"


def test_packages_are_told_apart_by_their_node_inside_or_beside() -> None:
    made = listed(Submission(registry_objects.submission_set(), folders=(registry_objects.folder(),)))
    for package in made.findall("{*}RegistryPackage"):
        node = package.find("{*}Classification[@classificationNode]")
        assert node is not None
        made.append(node)
    reading = Reading()
    read = ebxml.submission(wire(made), reading)
    assert (read.submission_set, read.folders) == (registry_objects.submission_set(), (registry_objects.folder(),))
    for node in made.findall("{*}Classification"):
        made.remove(node)
    assert ebxml.submission(wire(made), reading) == Submission()
    assert [fault.id for fault in reading.faults] == ["SubmissionSet01", "Folder01"]


def test_a_second_submission_set_is_told() -> None:
    made = listed(Submission(registry_objects.submission_set()))
    made.append(ebxml.element_of(registry_objects.submission_set(entry_uuid="SubmissionSet02")))
    reading = Reading()
    assert ebxml.submission(wire(made), reading).submission_set == registry_objects.submission_set()
    assert [fault.id for fault in reading.faults] == ["SubmissionSet02"]


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


@given(token, st.integers(0, 99))
def test_ids_of_parts_are_name_based_uuids(owner: str, number: int) -> None:
    assert ebrim.part_id(owner, FORMAT, number) == uuid.uuid5(uuid.NAMESPACE_URL, f"{owner} {FORMAT} {number}").urn


@given(text)
def test_what_is_escaped_is_read_as_it_was(said: str) -> None:
    """In an attribute and in an element, where parsers make blanks of what ends lines."""
    read = etree.fromstring(f'<a b="{xml.escaped(said)}">{xml.escaped(said)}</a>')
    assert (read.get("b"), read.text or "") == (xml.clean(said), xml.clean(said))
