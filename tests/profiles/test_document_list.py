"""Submission Sets and Folders as Lists, and entries as DocumentReferences: valid FHIR, with what MHD says where it stands."""

from dataclasses import replace
from typing import Any

import pytest
from peers.registry_objects import entry, folder, submission_set

from profiles.document import APND, DEPRECATED, IS_SNAPSHOT_OF, RPLC, SIGNS, XFRM, XFRM_RPLC
from profiles.document_list import DESIGNATION_TYPE, INTENDED_RECIPIENT, SOURCE_ID, folder_list, submission_set_list
from profiles.document_reference import document_reference
from profiles.fhir import validation

ID = "7edca82f-054d-47f2-a032-9b2a5b518600"
UUID = f"urn:uuid:{ID}"


def test_a_submission_set_is_a_list() -> None:
    value = submission_set(entry_uuid=UUID, comments="why")
    made: dict[str, Any] = submission_set_list(value, id=ID, subject_id="p", entries=["DocumentReference/1", "List/2"])
    assert not validation.check(made, type_="List")
    assert [each["url"] for each in made["extension"]] == [DESIGNATION_TYPE, SOURCE_ID, INTENDED_RECIPIENT, INTENDED_RECIPIENT]
    assert made["extension"][1]["valueIdentifier"]["value"] == "urn:oid:1.3.6.1.4.1.21367"
    assert made["identifier"] == [
        {"use": "usual", "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4.5"},
        {"use": "official", "system": "urn:ietf:rfc:3986", "value": UUID},
    ]
    assert (made["status"], made["mode"], made["date"], made["title"]) == (
        "current", "working", "2004-12-25T21:20:10Z", "A submission",
    )  # fmt: skip
    assert made["code"]["coding"][0]["code"] == "submissionset"
    assert made["source"] == {
        "type": "Practitioner", "identifier": {"system": "urn:oid:2.999.6.197", "value": "11375"}, "display": "Marcus Welby",
    }  # fmt: skip
    assert made["note"] == [{"text": "why"}]
    assert [each["item"]["reference"] for each in made["entry"]] == ["DocumentReference/1", "List/2"]


def test_a_folder_is_a_list() -> None:
    value = folder(entry_uuid=UUID, last_update="20260102030405", status=DEPRECATED, logical_id="urn:uuid:1")
    made: dict[str, Any] = folder_list(value, id=ID, subject_id="p", entries=[])
    assert not validation.check(made, type_="List")
    assert (made["status"], made["code"]["coding"][0]["code"], made["date"]) == ("retired", "folder", "2026-01-02T03:04:05Z")
    assert made["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == "folder"
    assert [each["use"] for each in made["identifier"]] == ["usual", "official", "secondary"]
    assert "entry" not in made


def test_a_submitted_entry_is_a_DocumentReference() -> None:
    value = entry(
        UUID, reference_ids=("1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID", "o1^^^&1.2.9&ISO^urn:ihe:iti:xds:2013:order")
    )
    made: dict[str, Any] = document_reference(value, id=ID, subject_id="p", content_url="")
    assert not validation.check(made, type_="DocumentReference")
    assert made["description"] == "a comment"
    assert made["authenticator"] == {"display": "Marcus Welby"}
    assert made["content"][0]["attachment"]["title"] == "Example"
    assert "url" not in made["content"][0]["attachment"]
    study, order = made["context"]["related"]
    assert (study["type"], study["identifier"]["value"]) == ("ImagingStudy", "urn:oid:1.2.3")
    assert order["identifier"]["system"] == "urn:oid:1.2.9"
    assert order["identifier"]["value"] == "o1"


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        (RPLC, "replaces"), (XFRM_RPLC, "replaces"), (XFRM, "transforms"), (IS_SNAPSHOT_OF, "transforms"), (APND, "appends"), (SIGNS, "signs"),
    ],
)  # fmt: skip
def test_relationships_are_what_MHD_maps_them_to(type_: str, code: str) -> None:
    value = replace(entry(UUID), logical_id="urn:uuid:0", version=2)
    made: dict[str, Any] = document_reference(value, id=ID, subject_id="p", content_url="Binary/1", relations=[(type_, "d1")])
    assert made["relatesTo"] == [{"code": code, "target": {"reference": "DocumentReference/d1"}}]
    assert made["identifier"][1] == {"use": "secondary", "system": "urn:ietf:rfc:3986", "value": "urn:uuid:0"}
