"""ITI-42 and ITI-61 against the registry: what is refused with which code, and what a submission changes."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from peers.registering import OTHER, PATIENT, Registry, document, stroke, submitted, unique_id
from peers.registry_objects import association

from ihe.metadata import By
from profiles.document import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RPLC,
    SIGNS,
    XFRM,
    XFRM_RPLC,
    Submission,
)
from server.access.decisions import Decision, parse_scopes
from server.edges.context import Node
from server.errors import Forbidden, Gone, NotFound

ON_BOTH_ENGINES = True
NOWHERE = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"


@pytest.fixture
def registry(opened: Node) -> Registry:
    return Registry(opened)


def registered(registry: Registry, **changed: Any) -> str:
    done = registry.submit(submitted(document(**changed), patient=changed.get("patient_id", PATIENT)))
    return done.submission.documents[0].entry_uuid


def filed(registry: Registry) -> tuple[str, str]:
    """A document in a Folder: the entryUUIDs of both."""
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    return done.submission.documents[0].entry_uuid, done.submission.folders[0].entry_uuid


def test_what_is_registered_is_there_and_has_its_faces(registry: Registry) -> None:
    sent = submitted(document(), stroke(), association("filed", "Folder01", "Document01"))
    done = registry.submit(sent)
    (entry,), (folder,) = done.submission.documents, done.submission.folders
    assert done.submission.submission_set is not None
    stored = registry.one(entry.entry_uuid)
    assert (stored.status, stored.version, stored.logical_id) == (APPROVED, 1, entry.entry_uuid)
    assert (stored.title, stored.authors, stored.extra) == (entry.title, entry.authors, entry.extra)
    reference = registry.shown("DocumentReference", entry.entry_uuid)
    assert (reference["status"], reference["subject"]["reference"]) == ("current", f"Patient/{done.patient}")
    listed = registry.shown("List", folder.entry_uuid)
    assert [each["item"]["reference"] for each in listed["entry"]] == [f"DocumentReference/{reference['id']}"]
    assert registry.one(folder.entry_uuid).last_update
    submission = registry.shown("List", done.submission.submission_set.entry_uuid)
    assert {each["item"]["reference"] for each in submission["entry"]} == {
        f"DocumentReference/{reference['id']}", f"List/{listed['id']}",
    }  # fmt: skip


@pytest.mark.parametrize("type_", [RPLC, XFRM_RPLC])
def test_what_is_replaced_is_deprecated_with_what_is_about_it(registry: Registry, type_: str) -> None:
    first, folder = filed(registry)
    about: list[str] = []
    for kind, target in ((APND, 0), (XFRM, 0), (SIGNS, 1)):
        target_id = first if target == 0 else about[0]
        done = registry.submit(submitted(document(), association("about", "Document01", target_id, kind)))
        about.append(done.submission.documents[0].entry_uuid)
    done = registry.submit(submitted(document(), association("replaces", "Document01", first, type_)))
    (replacement,) = done.submission.documents
    assert [registry.one(each).status for each in (first, *about)] == [DEPRECATED] * 4
    assert registry.one(replacement.entry_uuid).status == APPROVED
    for each in (first, *about):
        assert registry.shown("DocumentReference", each)["status"] == "superseded"
    reference = registry.shown("DocumentReference", replacement.entry_uuid)
    assert reference["relatesTo"] == [
        {"code": "replaces", "target": {"reference": f"DocumentReference/{first.removeprefix('urn:uuid:')}"}}
    ]
    # ITI TF-3 section 4.2.2.2.3: the replacement is in the Folder, and the membership is of its Submission Set
    (joined,) = [each for each in registry.around(folder) if (each.source, each.target) == (folder, replacement.entry_uuid)]
    assert done.submission.submission_set is not None
    assert [each.source for each in registry.around(joined.entry_uuid) if each.target == joined.entry_uuid] == [
        done.submission.submission_set.entry_uuid
    ]
    shown = {each["item"]["reference"] for each in registry.shown("List", folder)["entry"]}
    assert f"DocumentReference/{reference['id']}" in shown


def test_what_was_replaced_is_not_replaced_again(registry: Registry) -> None:
    first = registered(registry)
    assert registry.errors(submitted(document(), association("replaces", "Document01", first, RPLC))) == []
    for kind in (RPLC, XFRM, APND, SIGNS, XFRM_RPLC):
        again = submitted(document(), association("replaces", "Document01", first, kind))
        assert registry.errors(again) == ["XDSRegistryDeprecatedDocumentError"]


def test_a_second_entry_of_the_same_document_is_taken(registry: Registry) -> None:
    one = document()
    registry.submit(submitted(one))
    assert registry.errors(submitted(document(unique_id=one.unique_id))) == []
    assert registry.errors(submitted(document(unique_id=one.unique_id, hash=one.hash.upper()))) == []
    assert registry.errors(submitted(document(unique_id=one.unique_id, hash="0" * 40))) == ["XDSNonIdenticalHash"] * 3
    assert set(registry.errors(submitted(document(unique_id=one.unique_id, size=1)))) == {"XDSNonIdenticalSize"}


CASES: dict[str, tuple[Callable[[str, str, str], Submission], list[str]]] = {
    "a patient whom nobody knows": (
        lambda *_: submitted(document(patient_id="9^^^&1.2.9&ISO"), patient="9^^^&1.2.9&ISO"), ["XDSUnknownPatientId"],
    ),
    "the uniqueId of a registered Submission Set": (
        lambda entry, folder, unique: submitted(document(), unique=unique), ["XDSDuplicateUniqueIdInRegistry"],
    ),
    "a Folder with the uniqueId of a registered Submission Set": (
        lambda entry, folder, unique: submitted(stroke(unique_id=unique)), ["XDSDuplicateUniqueIdInRegistry"],
    ),
    "a document with the uniqueId of a registered Submission Set": (
        lambda entry, folder, unique: submitted(document(unique_id=unique)), ["XDSDuplicateUniqueIdInRegistry"],
    ),
    "an entryUUID that is taken": (lambda entry, folder, unique: submitted(document(entry)), ["XDSRegistryMetadataError"]),
    "a relationship to nothing": (
        lambda *_: submitted(document(), association("a", "Document01", NOWHERE, RPLC)), ["UnresolvedReferenceException"],
    ),
    "a membership of nothing": (
        lambda *_: submitted(document(), association("a", NOWHERE, "Document01")), ["UnresolvedReferenceException"],
    ),
    "a replacement of a Folder": (
        lambda entry, folder, unique: submitted(document(), association("a", "Document01", folder, RPLC)), ["XDSRegistryMetadataError"],
    ),
    "a document filed in a document": (
        lambda entry, folder, unique: submitted(document(), association("a", entry, "Document01")), ["XDSRegistryMetadataError"],
    ),
    "a replacement of another patient's": (
        lambda entry, folder, unique: submitted(
            document(patient_id=OTHER), association("a", "Document01", entry, RPLC), patient=OTHER
        ),
        ["XDSPatientIdDoesNotMatch"],
    ),
    "a Folder of another patient": (
        lambda entry, folder, unique: submitted(document(patient_id=OTHER), association("a", folder, "Document01"), patient=OTHER),
        ["XDSPatientIdDoesNotMatch"],
    ),
    "by Reference another patient's document": (
        lambda entry, folder, unique: submitted(
            document(patient_id=OTHER), association("a", "SubmissionSet01", entry, status="Reference"), patient=OTHER
        ),
        [],
    ),
    "a snapshot of a stable document": (
        lambda entry, folder, unique: submitted(document(), association("a", "Document01", entry, IS_SNAPSHOT_OF)),
        ["XDSRegistryMetadataError"],
    ),
    "a logicalID that is not the entryUUID": (
        lambda *_: submitted(document(logical_id=NOWHERE)), ["XDSRegistryMetadataError"],
    ),
    "two things at once": (
        lambda entry, folder, unique: submitted(document(), association("a", "Document01", NOWHERE, RPLC), unique=unique),
        ["XDSDuplicateUniqueIdInRegistry", "UnresolvedReferenceException"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_refused_submission_leaves_nothing(registry: Registry, case: str) -> None:
    made, codes = CASES[case]
    unique = unique_id()
    registry.submit(submitted(unique=unique))
    entry, folder = filed(registry)
    before = registry.count()
    assert registry.errors(made(entry, folder, unique)) == codes
    assert (registry.count() == before) is bool(codes)


def test_on_demand_entries_and_their_snapshots(registry: Registry) -> None:
    made = document(object_type=ON_DEMAND, creation_time="", hash="", size=None)
    done = registry.submit(submitted(made), By.ON_DEMAND)
    (entry,) = done.submission.documents
    assert registry.one(entry.entry_uuid).object_type == ON_DEMAND
    assert registry.errors(submitted(document(), association("a", "Document01", entry.entry_uuid, IS_SNAPSHOT_OF))) == []
    assert registry.one(entry.entry_uuid).status == APPROVED
    assert registry.errors(submitted(document(unique_id=made.unique_id))) == ["XDSDuplicateUniqueIdInRegistry"]
    assert registry.errors(submitted(made)) != []


def test_a_membership_that_is_submitted_is_not_made_twice(registry: Registry) -> None:
    first, folder = filed(registry)
    done = registry.submit(
        submitted(document(), association("r", "Document01", first, RPLC), association("filed", folder, "Document01"))
    )
    (entry,) = done.submission.documents
    assert len([each for each in registry.around(folder) if each.target == entry.entry_uuid]) == 1


def test_who_may_not_register_for_the_patient_registers_nothing(registry: Registry) -> None:
    for scope in ("system/DocumentReference.rs", "system/DocumentReference.cruds"):
        confined = Registry(registry.node, Decision("app", parse_scopes(scope)))
        with pytest.raises(Forbidden):
            confined.submit(submitted(document()))
    assert registry.count() == 0


def test_two_at_once_replace_one_document(registry: Registry) -> None:
    first = registered(registry)
    outcomes = together(registry, *(submitted(document(), association("r", "Document01", first, RPLC)) for _ in range(4)))
    assert sorted(outcomes) == [[], *[["XDSRegistryDeprecatedDocumentError"]] * 3]


def test_two_at_once_have_the_same_unique_id(registry: Registry) -> None:
    unique = unique_id()
    outcomes = together(
        registry, *(submitted(document(patient_id=patient), patient=patient, unique=unique) for patient in (PATIENT, OTHER) * 2)
    )
    assert sorted(outcomes) == [[], *[["XDSDuplicateUniqueIdInRegistry"]] * 3]


def test_two_at_once_have_the_same_entry_uuid(registry: Registry) -> None:
    id_ = uuid.uuid4().urn
    outcomes = together(
        registry, *(submitted(document(id_, patient_id=patient), patient=patient) for patient in (PATIENT, OTHER) * 2)
    )
    assert sorted(outcomes) == [[], *[["XDSRegistryMetadataError"]] * 3]


def together(registry: Registry, *submissions: Submission) -> list[list[str]]:
    """What comes of these, each sent by a thread of its own at the same moment."""
    outcomes: list[list[str]] = []
    start = threading.Barrier(len(submissions))

    def send(submission: Submission) -> None:
        start.wait()
        outcomes.append(registry.errors(submission))

    threads = [threading.Thread(target=send, args=(each,)) for each in submissions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return outcomes


def test_removed_metadata_is_gone_everywhere(registry: Registry) -> None:
    done = registry.submit(submitted(document()))
    (entry,), (has,), set_ = done.submission.documents, done.submission.associations, done.submission.submission_set
    assert set_ is not None
    assert registry.removing(NOWHERE) == ["UnresolvedReferenceException"]
    assert registry.removing(set_.entry_uuid) == ["ReferencesExistException"]
    assert registry.removing(entry.entry_uuid) == ["ReferencesExistException"]
    assert registry.removing(has.entry_uuid) == ["XDSUnreferencedObjectException"]
    assert registry.removing(entry.entry_uuid, has.entry_uuid) == ["XDSUnreferencedObjectException"]
    assert registry.has(entry.entry_uuid, has.entry_uuid, set_.entry_uuid)
    assert registry.removing(entry.entry_uuid, has.entry_uuid, set_.entry_uuid) == []
    assert not registry.has(entry.entry_uuid, has.entry_uuid, set_.entry_uuid)
    for type_, id_ in (("DocumentReference", entry.entry_uuid), ("List", set_.entry_uuid)):
        with pytest.raises(Gone):
            registry.shown(type_, id_)
    # ITI TF-2 section 3.62: what was removed may come again
    assert registry.errors(submitted(document(entry.entry_uuid))) == []
    assert registry.shown("DocumentReference", entry.entry_uuid)["status"] == "current"


def test_a_membership_alone_can_be_removed(registry: Registry) -> None:
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (folder,) = done.submission.folders
    membership = next(each for each in done.submission.associations if each.source == folder.entry_uuid)
    of_set = next(each for each in done.submission.associations if each.target == membership.entry_uuid)
    assert registry.removing(membership.entry_uuid) == ["ReferencesExistException"]
    assert registry.removing(membership.entry_uuid, of_set.entry_uuid) == []
    assert "entry" not in registry.shown("List", folder.entry_uuid)
    with pytest.raises(NotFound):
        registry.shown("List", membership.entry_uuid)


def test_HasMember_is_what_files(registry: Registry) -> None:
    entry, folder = filed(registry)
    assert [each.type for each in registry.around(folder) if each.source == folder] == [HAS_MEMBER]
    assert entry
