"""Sharing metadata as FHIR and back: nothing is lost that the FHIR rendering has a place for."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles import received_people as people
from profiles.document import Author, Code, DocumentEntry, Folder, SubmissionSet
from profiles.document_list import folder_list, submission_set_list
from profiles.document_reference import document_reference, scheme, system
from profiles.received_document import Unreadable, document_entry, folder, list_kind, relations, submission_set, unique_id

words = (
    st.text(st.characters(categories=["L", "N"], include_characters="&^|~\\ "), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
names = st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True, alphabet=st.characters(codec="ascii"))
oids = st.from_regex(r"2\.(0|[1-9][0-9]{0,5})\.[1-9][0-9]{0,5}", fullmatch=True, alphabet=st.characters(codec="ascii"))
codes = st.builds(Code, words, st.one_of(oids, st.just("http://example.org/codes"), st.just("2.16.840.1.113883.6.1")), words)
code_lists = st.lists(codes, max_size=3).map(tuple)
times = st.one_of(
    st.just(""),
    st.dates().map(lambda day: f"{day.year:04}{day:%m%d}"),
    st.datetimes().map(lambda at: f"{at.year:04}{at:%m%d%H%M%S}"),
)
people_named = st.builds(lambda id_, family, given_, oid: f"{id_}^{family}^{given_}^^^^^^&{oid}&ISO", names, names, names, oids)
institutions = st.builds(lambda name, oid, id_: f"{name}^^^^^&{oid}&ISO^^^^{id_}", names, oids, names)
authors = st.lists(
    st.one_of(st.builds(Author, people_named), st.builds(lambda each: Author(institutions=(each,)), institutions)), max_size=2
).map(tuple)
CX = "7^^^&1.2.3&ISO"
UUID = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518600"
ID = UUID.removeprefix("urn:uuid:")

entries = st.builds(
    DocumentEntry, entry_uuid=st.just(UUID), unique_id=oids, patient_id=st.just(CX), class_code=codes, type_code=codes, format_code=codes,
    confidentiality=code_lists, facility_type=codes, practice_setting=codes, mime_type=st.just("application/dicom"),
    language=st.just("de-CH"), creation_time=times, hash=st.binary(min_size=20, max_size=20).map(bytes.hex), size=st.integers(0, 1 << 40),
    title=st.just("a title"), comments=words, service_start=times, service_stop=times, event_codes=code_lists, authors=authors,
    legal_authenticator=people_named, source_patient_id=st.just(CX),
    reference_ids=st.lists(st.builds(lambda id_, oid: f"{id_}^^^&{oid}&ISO^urn:ihe:iti:xds:2013:order", names, oids), max_size=2).map(tuple),
)  # fmt: skip


def nothing(_: str) -> None:
    return None


@settings(max_examples=50)
@given(entries)
def test_an_entry_comes_back_as_it_was(entry: DocumentEntry) -> None:
    made = document_reference(entry, id=ID, subject_id="p", content_url="Binary/1")
    found = document_entry(made, id=UUID, patient_id=CX, find=nothing)
    assert found.source_patient_info == ("PID-3|" + CX,)
    assert {**_fields(found), "source_patient_info": ()} == _fields(entry)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


@settings(max_examples=30)
@given(
    st.builds(
        SubmissionSet, st.just(UUID), oids, st.just(CX), oids, times.filter(bool), codes, words, authors.map(lambda found: found[:1]),
        comments=words, intended_recipients=st.lists(institutions.map(lambda each: f"{each}|1^Doe"), max_size=2).map(tuple),
    )
)  # fmt: skip
def test_a_submission_set_comes_back_as_it_was(value: SubmissionSet) -> None:
    made = submission_set_list(value, id=ID, subject_id="p", entries=["DocumentReference/1"])
    assert list_kind(made) == "submissionset"
    assert submission_set(made, id=UUID, patient_id=CX, find=nothing) == value


@settings(max_examples=30)
@given(st.builds(Folder, st.just(UUID), oids, st.just(CX), code_lists, words, words))
def test_a_folder_comes_back_as_it_was(value: Folder) -> None:
    made = folder_list(value, id=ID, subject_id="p", entries=[])
    assert list_kind(made) == "folder"
    assert folder(made, id=UUID, patient_id=CX) == value


@pytest.mark.parametrize("name", ["2.16.840.1.113883.6.1", "1.2.840.10008.2.16.4", "1.2.3", "http://example.org/codes"])
def test_a_coding_scheme_comes_back(name: str) -> None:
    assert scheme(system(name)) == name


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}, "1.2.3"),
        ({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3^4"}, "1.2.3^4"),
        ({"value": "urn:uuid:00000000-0000-0000-0000-000000000007"}, "2.25.7"),
        ({"system": "urn:oid:1.2.3", "value": "A7"}, "1.2.3^A7"),
        ({"value": "urn:uuid:none"}, "urn:uuid:none"),
        ({}, ""),
    ],
)
def test_a_unique_id_is_an_oid(identifier: dict[str, str], expected: str) -> None:
    assert unique_id(identifier) == expected


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"content": [{}, {}]}, "content"),
        ({"content": [{"attachment": {"hash": "AAAA"}}]}, "content[0].attachment.hash"),
        ({"content": [{"attachment": {"creation": "2026-02-30"}}]}, "content[0].attachment.creation"),
        ({"context": {"period": {"start": "2026-01-01T10:00:00"}}}, "context.period.start"),
    ],
)
def test_what_has_no_place_is_told(changed: dict[str, Any], path: str) -> None:
    with pytest.raises(Unreadable) as raised:
        document_entry({"content": [{}], **changed}, id=UUID, patient_id=CX, find=nothing)
    assert raised.value.path == path


def test_a_hash_in_hex_is_read_too() -> None:
    hexed = {"content": [{"attachment": {"hash": base64.b64encode(b"AB" * 20).decode()}}]}
    assert document_entry(hexed, id=UUID, patient_id=CX, find=nothing).hash == "ab" * 20


def test_a_relation_needs_a_reference() -> None:
    with pytest.raises(Unreadable):
        relations({"relatesTo": [{"code": "replaces", "target": {"display": "the other"}}]})


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Device", "deviceName": [{"name": "CT 7"}]}, Author("^7^CT")),
        ({"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2", "value": "7"}]}, Author("7^^^^^^^^&1.2&ISO")),
        ({"resourceType": "Organization", "name": "Nord^1"}, Author(institutions=("Nord\\S\\1",))),
        (
            {"resourceType": "Practitioner", "name": [{"text": "Marcus Welby"}], "telecom": [{"system": "phone", "value": "117", "use": "work"}]},
            Author("^Welby^Marcus", telecoms=("^WPN^PH^^^^^^^^^117",)),
        ),
    ],
)  # fmt: skip
def test_an_author_is_whoever_wrote_it(resource: dict[str, Any], expected: Author) -> None:
    assert people.author({"reference": "Any/1"}, lambda _: resource) == expected


def test_a_recipient_is_an_organization_a_person_or_both() -> None:
    role = {"resourceType": "PractitionerRole", "practitioner": {"display": "Marcus Welby"}, "organization": {"display": "Nord"}}
    assert people.recipient({"reference": "PractitionerRole/1"}, {"PractitionerRole/1": role}.get) == "Nord|^Welby^Marcus"
    assert people.recipient({"display": "Marcus Welby"}, nothing) == "|^Welby^Marcus"
