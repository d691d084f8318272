"""Each rule has a submission that breaks it alone (ITI TF-3 sections 4.1 to 4.3); the submission that they are made from breaks none."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from peers.registry_objects import (
    REGISTERED,
    association,
    author,
    code,
    entry,
    folder,
    submission,
    submission_set,
    submissions,
)

from ihe.ebxml import Fault, Reading
from ihe.metadata import By
from ihe.metadata_rules import check, resolved
from profiles.document import (
    APND,
    APPROVED,
    DEPRECATED,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RELATIONSHIPS,
    RPLC,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
    Code,
    DocumentEntry,
    Submission,
    is_uuid,
)

METADATA, DUPLICATE, PATIENTS = "XDSRegistryMetadataError", "XDSRegistryDuplicateUniqueIdInMessage", "XDSPatientIdDoesNotMatch"
OTHER = "urn:uuid:0a0a0a0a-0000-4000-8000-00000000000b"

Change = Callable[[Submission], Submission]


def in_entry(**changed: object) -> Change:
    return lambda whole: replace(whole, documents=(replace(whole.documents[0], **changed), *whole.documents[1:]))  # type: ignore[arg-type]


def in_set(**changed: object) -> Change:
    return lambda whole: replace(whole, submission_set=replace(whole.submission_set, **changed))  # type: ignore[type-var]


def in_folder(**changed: object) -> Change:
    return lambda whole: replace(whole, folders=(replace(whole.folders[0], **changed),))  # type: ignore[arg-type]


def in_association(id_: str, **changed: object) -> Change:
    def change(whole: Submission) -> Submission:
        changed_one = (replace(one, **changed) if one.entry_uuid == id_ else one for one in whole.associations)  # type: ignore[arg-type]
        return replace(whole, associations=tuple(changed_one))

    return change


def without(*ids: str) -> Change:
    return lambda whole: replace(whole, associations=tuple(one for one in whole.associations if one.entry_uuid not in ids))


def also(*added: object) -> Change:
    return lambda whole: replace(whole, associations=whole.associations + added)  # type: ignore[operator]


def author_with(**changed: object) -> Change:
    return in_entry(authors=(author(**changed),))


REQUIRED_OF_ENTRY = [
    ("mime_type", "mimeType", ""), ("creation_time", "creationTime", ""), ("language", "languageCode", ""), ("hash", "hash", ""),
    ("size", "size", None), ("repository_unique_id", "repositoryUniqueId", ""), ("source_patient_id", "sourcePatientId", ""),
    ("class_code", "classCode", None), ("type_code", "typeCode", None), ("format_code", "formatCode", None),
    ("confidentiality", "confidentialityCode", ()), ("facility_type", "healthcareFacilityTypeCode", None),
    ("practice_setting", "practiceSettingCode", None), ("patient_id", "patientId", ""), ("unique_id", "uniqueId", ""),
]  # fmt: skip
REQUIRED_OF_SET = [
    ("submission_time", "submissionTime", ""), ("content_type", "contentTypeCode", None), ("patient_id", "patientId", ""),
    ("unique_id", "uniqueId", ""), ("source_id", "sourceId", ""),
]  # fmt: skip
REQUIRED_OF_FOLDER = [
    ("codes", "codeList", ()),
    ("title", "title", ""),
    ("patient_id", "patientId", ""),
    ("unique_id", "uniqueId", ""),
]

WRONG_IN_ENTRY: list[tuple[str, object, str]] = [
    ("mime_type", "dicom", "mimeType has to be"),
    ("home_community_id", "1.2.3", "homeCommunityId has to be"),
    ("creation_time", "2004122", "creationTime has to be"),
    ("creation_time", "20040230", "creationTime has to be"),
    ("language", "en_US", "languageCode has to be"),
    ("service_start", "2004-12-25", "serviceStartTime has to be"),
    ("service_stop", "20041225212010.5", "serviceStopTime has to be"),
    ("hash", "e543", "hash has to be"),
    ("repository_unique_id", "1.02", "repositoryUniqueId has to be"),
    ("repository_unique_id", "1." + "2" * 63, "repositoryUniqueId has to be"),
    ("source_patient_id", "89765a87b", "sourcePatientId has to be"),
    ("source_patient_info", ("Doe^John",), "sourcePatientInfo has to be"),
    ("source_patient_info", ("PID-19|123",), "sourcePatientInfo has to be"),
    ("source_patient_info", ("PID-7|1965", "PID-7|1966"), "sourcePatientInfo has PID-7 more than once"),
    ("legal_authenticator", "^^^^^Dr", "legalAuthenticator has to be"),
    ("uri", "two words", "URI has to be"),
    ("reference_ids", ("2013001",), "referenceIdList has to be"),
    ("reference_ids", ("1^^^^urn:ihe:iti:xds:2013:order",), "referenceIdList has to be"),
    ("availability", "Online", "documentAvailability has to be"),
    ("title", "t" * 129, "title is longer than 128 characters"),
    ("unique_id", "1" * 257, "uniqueId has to be"),
    ("source_patient_info", ("PID-5|" + "D" * 256,), "sourcePatientInfo has a value of more than 256 characters"),
    ("class_code", Code("", "1.2.3", "Display"), "classCode has no code"),
    ("class_code", Code("c", "", "Display"), "classCode has no codingScheme"),
    ("event_codes", (code(), Code("c", "1.2.3")), "eventCodeList has no display name"),
    ("object_type", "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b518fff", "objectType has to be the UUID of stable Document Entries"),
    ("object_type", "", "objectType is missing"),
    ("object_type", "stable", "objectType has to be"),
    ("size", 0, "hash and DocumentEntry.size contradict each other"),
    ("hash", "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709", "hash and DocumentEntry.size contradict each other"),
    ("is_limited", True, "limitedMetadata is not allowed"),
    ("extra", (("localinfo", ("x",)),), "has the Slot localinfo, which is no attribute of it"),
    ("extra", (("urn:example:x", ("x" * 257,)),), "has the Slot urn:example:x with a value of more than 256 characters"),
    ("logical_id", "x" * 257, "logicalID has to be"),
]

WHOLE: list[tuple[Change, str, str, str]] = [
    *((in_entry(**{name: empty}), METADATA, "Document01", f"DocumentEntry.{told} is missing") for name, told, empty in REQUIRED_OF_ENTRY),
    *((in_set(**{name: empty}), METADATA, "SubmissionSet01", f"SubmissionSet.{told} is missing") for name, told, empty in REQUIRED_OF_SET),
    *((in_folder(**{name: empty}), METADATA, "Folder01", f"Folder.{told} is missing") for name, told, empty in REQUIRED_OF_FOLDER),
    (author_with(person="", institutions=(), telecoms=()), METADATA, "Document01", "author has to have an authorPerson"),
    (author_with(person="1^A^^^^^^^ISO"), METADATA, "Document01", "author has an authorPerson that has to be"),
    (author_with(institutions=("",)), METADATA, "Document01", "author has an authorInstitution that has to be"),
    (author_with(institutions=("H^^^^^^^^^45",)), METADATA, "Document01", "author has an authorInstitution that has to be"),
    (author_with(telecoms=("welby@example.org",)), METADATA, "Document01", "author has an authorTelecommunication that has to be"),
    (in_set(unique_id="SubmissionSet01_uniqueid"), METADATA, "SubmissionSet01", "SubmissionSet.uniqueId has to be"),
    (in_set(source_id="source"), METADATA, "SubmissionSet01", "SubmissionSet.sourceId has to be"),
    (in_set(submission_time="yesterday"), METADATA, "SubmissionSet01", "SubmissionSet.submissionTime has to be"),
    (in_set(intended_recipients=("|",)), METADATA, "SubmissionSet01", "SubmissionSet.intendedRecipient has to be"),
    (in_set(authors=(author(person="^"),)), METADATA, "SubmissionSet01", "SubmissionSet.author has an authorPerson"),
    (in_set(title="t" * 257), METADATA, "SubmissionSet01", "SubmissionSet.title is longer than 256"),
    (in_set(is_limited=True), METADATA, "SubmissionSet01", "SubmissionSet.limitedMetadata is not allowed"),
    (in_folder(unique_id="Folder"), METADATA, "Folder01", "Folder.uniqueId has to be"),
    (in_folder(title="t" * 257), METADATA, "Folder01", "Folder.title is longer than 256"),
    (in_folder(is_limited=True), METADATA, "Folder01", "Folder.limitedMetadata is not allowed"),
    (in_association("replaces", documentation=Code("c", "", "d")), METADATA, "replaces", "Association.documentation has no codingScheme"),
    (in_association("replaces", entry_uuid=""), METADATA, "", "Association has no id"),
    (in_association("replaces", entry_uuid=OTHER.upper().replace("URN:UUID", "urn:uuid")), METADATA, "urn:uuid:0A", "lower case"),
    (in_association("has3", entry_uuid="has1"), METADATA, "has1", "2 objects have this id"),
    (in_folder(unique_id="1.2.3.4"), DUPLICATE, "Folder01", "the uniqueId 1.2.3.4 is that of Document01 too"),
    (lambda whole: replace(whole, references=("Document09",)), METADATA, "Document09", "an ObjectRef names what is not in the message"),
    (in_association("replaces", target="Document09"), METADATA, "replaces", "Association.targetObject is a symbolic id that no object"),
    (in_association("replaces", source=""), METADATA, "replaces", "Association.sourceObject is missing"),
    (in_association("replaces", type="RPLC"), METADATA, "replaces", "Association.associationType is none"),
    (in_association("replaces", type=UPDATE_AVAILABILITY_STATUS), METADATA, "replaces", "Association.associationType is none"),
    (in_association("replaces", target="Document02"), METADATA, "replaces", "are the same object"),
    (in_association("replaces", target="Folder01"), METADATA, "replaces", "of type RPLC cannot connect a DocumentEntry to a Folder"),
    (also(association("x", "Document01", "Document02")), METADATA, "x", "of type HasMember cannot connect a DocumentEntry to a DocumentEntry"),
    (also(association("x", "SubmissionSet01", "Document01", RPLC)), METADATA, "x", "of type RPLC cannot connect a SubmissionSet to a"),
    (also(association("x", REGISTERED, "Folder01")), METADATA, "x", "of type HasMember cannot connect a registered object to a Folder"),
    (in_association("replaces", source=OTHER), METADATA, "replaces", "has to be a DocumentEntry of this submission"),
    (in_association("replaces", type=IS_SNAPSHOT_OF, target="Document01"), METADATA, "replaces", "from a stable to an on-demand"),
    (in_association("has1", documentation=code()), METADATA, "has1", "Association.documentation is not allowed with the type HasMember"),
    (in_association("has1", submission_set_status=""), METADATA, "has1", "SubmissionSetStatus has to be Original"),
    (in_association("has1", submission_set_status="Reference"), METADATA, "has1", "SubmissionSetStatus has to be Original"),
    (in_association("has3", submission_set_status="Reference"), METADATA, "has3", "SubmissionSetStatus has to be Original"),
    (in_association("has6", submission_set_status="Original"), METADATA, "has6", "SubmissionSetStatus has to be Reference"),
    (in_association("has6", submission_set_status=""), METADATA, "has6", "SubmissionSetStatus has to be Reference"),
    (without("has2"), METADATA, "Document02", "this DocumentEntry needs a HasMember Association from the SubmissionSet"),
    (without("has3"), METADATA, "Folder01", "this Folder needs a HasMember Association from the SubmissionSet"),
    (without("has5"), METADATA, "filed2", "this membership of a Folder needs a HasMember Association from the SubmissionSet"),
    (in_entry(patient_id="other^^^&1.2&ISO"), PATIENTS, "Document01", "the patientId of this DocumentEntry has to be that of the SubmissionSet"),
    (in_folder(patient_id="other^^^&1.2&ISO"), PATIENTS, "Folder01", "the patientId of this Folder has to be that of the SubmissionSet"),
]  # fmt: skip


def test_a_good_submission_passes() -> None:
    assert check(submission(), By.REGISTER, Reading()) == ()


@pytest.mark.parametrize(("change", "expected", "id_", "words"), WHOLE, ids=[f"{case[2]} {case[3]}" for case in WHOLE])
def test_each_rule_has_a_submission_that_breaks_it_alone(change: Change, expected: str, id_: str, words: str) -> None:
    errors = check(change(submission()), By.REGISTER, Reading())
    assert len(errors) == 1, errors
    assert errors[0].code == expected
    assert errors[0].location.startswith(id_)
    assert words in errors[0].context
    assert errors[0].location in errors[0].context


@pytest.mark.parametrize(("name", "value", "words"), WRONG_IN_ENTRY, ids=[f"{case[0]} {case[2]}" for case in WRONG_IN_ENTRY])
def test_each_value_of_an_entry_is_held_against_its_data_type(name: str, value: object, words: str) -> None:
    errors = check(in_entry(**{name: value})(submission()), By.REGISTER, Reading())
    assert [(error.code, error.location) for error in errors] == [(METADATA, "Document01")]
    assert words in errors[0].context


def test_a_patients_id_that_is_none_is_told_of_all_that_have_it_and_never_shown() -> None:
    wrong = "SECRET^^^1.2.3"
    changed = in_set(patient_id=wrong)(in_folder(patient_id=wrong)(in_entry(patient_id=wrong)(submission())))
    errors = check(changed, By.REGISTER, Reading())
    told = [error.context for error in errors if "patientId has to be an identifier" in error.context]
    assert len(told) == 3
    assert "SECRET" not in repr(errors)


def test_there_is_one_submission_set() -> None:
    errors = check(replace(submission(), submission_set=None), By.REGISTER, Reading())
    assert errors[0].context == "there is no SubmissionSet: submit exactly one"
    assert {error.code for error in errors} == {METADATA}


def test_what_reading_found_is_told_too() -> None:
    errors = check(submission(), By.REGISTER, Reading([Fault("Document01", "DocumentEntry: a Slot has no name")]))
    assert [(error.code, error.context, error.location) for error in errors] == [
        (METADATA, "Document01: DocumentEntry: a Slot has no name", "Document01")
    ]


def test_a_repository_tells_its_own_codes() -> None:
    changed = in_folder(unique_id="1.2.3.4")(in_entry(language="", patient_id="other^^^&1.2&ISO")(submission()))
    assert {error.code for error in check(changed, By.PROVIDE, Reading(), "Repository")} == {
        "XDSRepositoryMetadataError",
        "XDSRepositoryDuplicateUniqueIdInMessage",
        PATIENTS,
    }


def test_a_source_need_not_know_what_the_repository_adds() -> None:
    sent = in_entry(hash="", size=None, repository_unique_id="")(submission())
    assert check(sent, By.PROVIDE, Reading()) == ()
    assert len(check(sent, By.REGISTER, Reading())) == 3


def on_demand(**changed: object) -> Submission:
    """ITI-61: creationTime, hash and size are not known yet."""
    made = replace(entry(object_type=ON_DEMAND, creation_time="", hash="", size=None), **changed)  # type: ignore[arg-type]
    return Submission(
        submission_set(),
        (made,),
        associations=(association("has1", "SubmissionSet01", "Document01", status="Original"),),
    )


def test_an_on_demand_entry_is_registered_by_its_own_transaction() -> None:
    assert check(on_demand(), By.ON_DEMAND, Reading()) == ()
    for name, value, told in (("creation_time", "2020", "creationTime"), ("hash", "0" * 40, "hash"), ("size", 1, "size")):
        errors = check(on_demand(**{name: value}), By.ON_DEMAND, Reading())
        assert [error.context for error in errors] == [
            f"Document01: DocumentEntry.{told} is not allowed in this transaction: leave it out"
        ]
    assert any("the UUID of stable Document Entries" in error.context for error in check(on_demand(), By.REGISTER, Reading()))
    assert any(
        "the UUID of on-demand Document Entries" in error.context for error in check(submission(), By.ON_DEMAND, Reading())
    )


def test_an_update_is_of_either_type_of_entry() -> None:
    assert check(on_demand(), By.UPDATE, Reading()) == ()
    assert check(submission(), By.UPDATE, Reading()) == ()
    assert len(check(on_demand(hash="0" * 40), By.UPDATE, Reading())) == 1
    assert len(check(in_entry(hash="")(submission()), By.UPDATE, Reading())) == 1


def test_an_update_changes_the_status_of_what_is_registered_and_relates_it() -> None:
    changes = Submission(
        submission_set(),
        associations=(
            association("s1", "SubmissionSet01", REGISTERED, UPDATE_AVAILABILITY_STATUS, original_status=APPROVED, new_status=DEPRECATED),
            association("s2", "SubmissionSet01", "relates", SUBMIT_ASSOCIATION),
            association("relates", REGISTERED, OTHER, APND),
        ),
    )  # fmt: skip
    assert check(changes, By.UPDATE, Reading()) == ()
    assert len(check(changes, By.REGISTER, Reading())) == 3
    wrong = replace(changes, associations=(replace(changes.associations[0], new_status="Gone"), *changes.associations[1:]))
    assert [error.context for error in check(wrong, By.UPDATE, Reading())] == [
        "s1: Association.NewStatus has to be Approved or Deprecated as a URN of ebRIM"
    ]


def limited(**changed: object) -> Submission:
    """ITI-41 of a Metadata-Limited Document Source, with what such has to give alone."""
    return Submission(
        submission_set(content_type=None, patient_id="", is_limited=True, authors=()),
        (DocumentEntry("Document01", "1.2.3.4", mime_type="text/xml", is_limited=True),),
        (folder(codes=(), title="", patient_id="", is_limited=True),),
        (
            association("has1", "SubmissionSet01", "Document01", status="Original"),
            association("has2", "SubmissionSet01", "Folder01", status="Original"),
        ),
    )


def test_limited_metadata_says_so() -> None:
    assert check(limited(), By.LIMITED, Reading()) == ()
    full = replace(limited(), documents=(entry(),))
    assert [error.context for error in check(full, By.LIMITED, Reading())] == [
        "Document01: DocumentEntry.limitedMetadata is missing: classify the object by its node, or send full metadata"
    ]


@pytest.mark.parametrize("type_", sorted(RELATIONSHIPS - {IS_SNAPSHOT_OF}))
def test_every_relationship_is_known(type_: str) -> None:
    assert check(in_association("replaces", type=type_)(submission()), By.REGISTER, Reading()) == ()
    assert check(in_association("replaces", type=type_, target="Document01")(submission()), By.REGISTER, Reading()) == ()


def test_a_snapshot_is_of_what_is_registered() -> None:
    assert check(in_association("replaces", type=IS_SNAPSHOT_OF)(submission()), By.REGISTER, Reading()) == ()


def test_a_registered_folder_gets_an_entry() -> None:
    """ITI TF-3 section 4.2.2.1.5, scenarios 2 and 4."""
    whole = Submission(
        submission_set(),
        (entry(),),
        associations=(
            association("has1", "SubmissionSet01", "Document01", status="Original"),
            association("has2", "SubmissionSet01", "filed1", status="Original"),
            association("has3", "SubmissionSet01", "filed2"),
            association("filed1", REGISTERED, "Document01"),
            association("filed2", REGISTERED, OTHER),
        ),
    )
    assert check(whole, By.REGISTER, Reading()) == ()


def test_errors_without_end_are_cut_short() -> None:
    many = replace(submission(), references=tuple(f"symbolic{number}" for number in range(5000)))
    errors = check(many, By.REGISTER, Reading())
    assert len(errors) == 101
    assert errors[-1].context == "there are more errors than the 100 that are listed"


def test_an_id_is_not_given_back_at_any_length() -> None:
    errors = check(replace(submission(), references=("x" * 10_000,)), By.REGISTER, Reading())
    assert len(errors[0].context) < 250
    assert len(errors[0].location) == 100


@given(submissions)
def test_nothing_that_can_be_read_is_too_wrong_to_be_checked(whole: Submission) -> None:
    for by in By:
        assert isinstance(check(whole, by, Reading()), tuple)


# --- resolved


def new_uuids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"urn:uuid:00000000-0000-4000-8000-{next(numbers):012d}"


def test_symbolic_ids_are_replaced_everywhere() -> None:
    known = in_folder(entry_uuid=OTHER, logical_id=OTHER)(in_entry(logical_id="Document01")(submission()))
    known = in_association("has3", target=OTHER)(known)
    known = in_association("filed1", source=OTHER)(in_association("filed2", source=OTHER)(known))
    whole = replace(known, references=("Document02", REGISTERED))
    assert check(whole, By.REGISTER, Reading()) == ()
    real = resolved(whole, new_uuids())
    assert not re.search("SubmissionSet01|Document0|has[0-9]|filed|replaces", repr(real))
    assert all(is_uuid(value.entry_uuid) for value in real.objects())
    assert len({value.entry_uuid for value in real.objects()}) == len(list(whole.objects()))
    assert (real.folders[0].entry_uuid, real.folders[0].logical_id) == (OTHER, OTHER)
    assert real.documents[0].logical_id == real.documents[0].entry_uuid
    assert real.documents[1].logical_id == ""
    replaces = real.associations[-1]
    assert (replaces.source, replaces.target) == (real.documents[1].entry_uuid, REGISTERED)
    assert real.references == (real.documents[1].entry_uuid, REGISTERED)
    assert check(real, By.REGISTER, Reading()) == ()


def test_what_has_uuids_stays_as_it_is() -> None:
    real = resolved(submission(), new_uuids())
    assert resolved(real, new_uuids()) == real
    assert resolved(Submission(), new_uuids()) == Submission()
