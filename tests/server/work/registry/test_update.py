"""ITI-57 against the registry: new versions, other statuses, further Associations, and what is refused with which code."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
from peers.registering import (
    OTHER,
    PATIENT,
    Registry,
    document,
    new_association,
    new_status,
    new_version,
    stroke,
    submitted,
)
from peers.registry_objects import association

from ihe.metadata import By
from profiles.document import APND, APPROVED, DEPRECATED, HAS_MEMBER, RPLC, Association, DocumentEntry, Folder, Submission
from server.access.decisions import Decision, parse_scopes
from server.edges.context import Node
from server.errors import Forbidden
from server.records import patients, repository
from server.work import documents

ON_BOTH_ENGINES = True


@pytest.fixture
def registry(opened: Node) -> Registry:
    return Registry(opened)


def first(registry: Registry) -> DocumentEntry:
    return registry.submit(submitted(document())).submission.documents[0]


def second(entry: DocumentEntry, **changed: object) -> DocumentEntry:
    return replace(entry, entry_uuid="Document01", logical_id=entry.entry_uuid, **changed)  # type: ignore[arg-type]


def test_a_new_version_takes_the_place_of_the_one_before(registry: Registry) -> None:
    entry = first(registry)
    done = registry.update(new_version(second(entry, title="better", hash="0" * 40), 1))
    (made,) = done.submission.documents
    new, old = registry.one(made.entry_uuid), registry.one(entry.entry_uuid)
    assert (new.version, new.logical_id, new.status, new.title) == (2, entry.entry_uuid, APPROVED, "better")
    assert (old.version, old.status, old.title) == (1, DEPRECATED, entry.title)
    assert registry.shown("DocumentReference", old.entry_uuid)["status"] == "superseded"
    shown = registry.shown("DocumentReference", new.entry_uuid)
    assert shown["status"] == "current"
    assert {each["value"] for each in shown["identifier"]} == {new.entry_uuid, entry.entry_uuid}
    (has,) = [each for each in registry.around(made.entry_uuid) if each.target == made.entry_uuid]
    assert (has.previous_version, has.submission_set_status) == ("1", "Original")


def test_associations_are_propagated(registry: Registry) -> None:
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (entry,), (folder,) = done.submission.documents, done.submission.folders
    registry.submit(submitted(document(), association("about", "Document01", entry.entry_uuid, APND)))
    (made,) = registry.update(new_version(second(entry), 1)).submission.documents
    assert {(each.type, each.source == folder.entry_uuid) for each in registry.around(made.entry_uuid) if each.type != "x"} >= {
        (APND, False)
    }
    assert any(each.source == folder.entry_uuid for each in registry.around(made.entry_uuid))
    again = registry.update(new_version(second(entry), 2, propagates=False)).submission.documents[0]
    assert len(registry.around(again.entry_uuid)) == 1


def test_a_folder_gets_a_new_version_with_its_members(registry: Registry) -> None:
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (folder,) = done.submission.folders
    changed = replace(folder, entry_uuid="Folder01", logical_id=folder.entry_uuid, title="renamed")
    update = new_version(changed, 1)
    update = replace(update, associations=tuple(replace(each, submission_set_status="") for each in update.associations))
    (made,) = registry.update(update).submission.folders
    stored = registry.one(made.entry_uuid)
    assert isinstance(stored, Folder)
    assert (stored.version, stored.title, bool(stored.last_update)) == (2, "renamed", True)
    assert [each["item"]["reference"] for each in registry.shown("List", made.entry_uuid)["entry"]] == [
        f"DocumentReference/{done.submission.documents[0].entry_uuid.removeprefix('urn:uuid:')}"
    ]
    assert registry.shown("List", folder.entry_uuid)["status"] == "retired"


def test_a_status_changes_there_and_back(registry: Registry) -> None:
    entry = first(registry)
    registry.update(new_status(entry.entry_uuid, DEPRECATED))
    assert registry.one(entry.entry_uuid).status == DEPRECATED
    assert registry.shown("DocumentReference", entry.entry_uuid)["status"] == "superseded"
    (made,) = registry.update(new_version(second(entry), 1)).submission.documents
    assert registry.one(made.entry_uuid).status == DEPRECATED  # a new version has the status of the one before
    registry.update(new_status(made.entry_uuid, APPROVED))
    assert registry.shown("DocumentReference", made.entry_uuid)["status"] == "current"
    assert registry.errors(new_status(entry.entry_uuid, APPROVED), By.UPDATE) == ["XDSMetadataVersionError"]


def test_an_association_is_submitted_deprecated_and_approved_again(registry: Registry) -> None:
    one, other = first(registry), first(registry)
    done = registry.update(new_association(association("a", one.entry_uuid, other.entry_uuid, APND)))
    made = next(each for each in done.submission.associations if each.type == APND)
    id_ = one.entry_uuid
    assert registry.shown("DocumentReference", id_)["relatesTo"][0]["code"] == "appends"
    registry.update(new_status(made.entry_uuid, DEPRECATED))
    assert "relatesTo" not in registry.shown("DocumentReference", id_)
    registry.update(new_status(made.entry_uuid, APPROVED))
    assert registry.shown("DocumentReference", id_)["relatesTo"][0]["code"] == "appends"
    again = new_association(association("a", one.entry_uuid, other.entry_uuid, APND))
    assert registry.errors(again, By.UPDATE) == ["XDSMetadataUpdateError"]


def _cases(entry: DocumentEntry, other: DocumentEntry, of_set: str, set_: str) -> dict[str, tuple[Submission, list[str]]]:
    no_previous = new_version(second(entry), 1)
    no_previous = replace(
        no_previous, associations=tuple(replace(each, previous_version="") for each in no_previous.associations)
    )
    nowhere = uuid.uuid4().urn
    both = new_version(second(entry), 1)
    submits = new_association(association("a", "Document01", other.entry_uuid, APND))
    both = replace(both, associations=(*both.associations, *submits.associations))
    return {
        "not the current version": (new_version(second(entry), 7), ["XDSMetadataVersionError"]),
        "no PreviousVersion": (no_previous, ["XDSMetadataUpdateError"]),
        "a first version": (new_version(document(), 1), ["XDSMetadataUpdateError"]),
        "of nothing": (new_version(replace(document(), logical_id=nowhere), 1), ["XDSMetadataUpdateError"]),
        "another uniqueId": (new_version(second(entry, unique_id="1.2.3"), 1), ["XDSMetadataUpdateError"]),
        "the status of nothing": (new_status(nowhere, DEPRECATED), ["XDSMetadataUpdateError"]),
        "not the current status": (new_status(entry.entry_uuid, APPROVED), ["XDSMetadataUpdateError"]),
        "the status of a Submission Set": (new_status(set_, DEPRECATED), ["XDSMetadataUpdateError"]),
        "the status of a membership of a Submission Set": (new_status(of_set, DEPRECATED), ["XDSMetadataUpdateError"]),
        "another patient's": (new_status(entry.entry_uuid, DEPRECATED, patient=OTHER), ["XDSPatientIDReconciliationError"]),
        "an Association that nothing submits": (
            submitted(association("a", entry.entry_uuid, other.entry_uuid, RPLC), members=False), ["XDSMetadataUpdateOperationError"],
        ),
        "an Association to nothing": (
            new_association(association("a", entry.entry_uuid, nowhere, APND)), ["XDSMetadataUpdateError"],
        ),
        "propagation and an Association by hand": (both, ["XDSMetadataUpdateOperationError"]),
        "nothing": (submitted(members=False), ["XDSMetadataUpdateOperationError"]),
    }  # fmt: skip


def test_what_is_wrong_with_an_update(registry: Registry) -> None:
    entry, other = first(registry), first(registry)
    (of_set,) = [each for each in registry.around(entry.entry_uuid) if each.target == entry.entry_uuid]
    before = registry.count()
    for name, (update, codes) in _cases(entry, other, of_set.entry_uuid, of_set.source).items():
        assert (name, registry.errors(update, By.UPDATE)) == (name, codes)
        assert registry.count() == before


def test_a_document_gets_another_patient(registry: Registry) -> None:
    """It goes without what connects it with the former one's."""
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (entry,) = done.submission.documents
    moved = second(entry, patient_id=OTHER)
    assert registry.errors(new_version(moved, 1), By.UPDATE) == ["XDSPatientIDReconciliationError"]
    (made,) = registry.update(new_version(moved, 1, propagates=False)).submission.documents
    assert registry.one(made.entry_uuid).patient_id == OTHER


def test_the_bytes_of_a_document_are_the_newest_versions_patients(registry: Registry) -> None:
    node = registry.node
    entry = first(registry)
    with node.database.write() as connection:
        owner = patients.registered(connection, PATIENT, node.domain.authorities)
        assert owner is not None
        writer = node.blobs.create("b")
        writer.write(b"x")
        repository.keep(
            connection, [repository.New(entry.unique_id, writer.commit(), "text/plain", entry.hash)], patient_pk=owner.pk, now=1
        )
    for whose, moved in ((PATIENT, False), (OTHER, True)):
        if moved:
            registry.update(new_version(second(entry, patient_id=OTHER), 1, propagates=False))
        for cx in (PATIENT, OTHER):
            with node.database.read() as connection:
                told = documents.retrievable(connection, theirs(registry, cx), [entry.unique_id])
            assert bool(told) is (cx == whose), (cx, moved)


def theirs(registry: Registry, cx: str) -> Decision:
    """Of an app that somebody lets write what is of this patient, and nobody else's."""
    with registry.node.database.read() as connection:
        known = patients.registered(connection, cx, registry.node.domain.authorities)
    assert known is not None
    return Decision("app", parse_scopes("patient/*.cruds"), known.id)


def test_who_may_write_of_one_patient_changes_nothing_that_connects_anothers(registry: Registry) -> None:
    done = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01")))
    (entry,) = done.submission.documents
    registry.submit(submitted(document(), association("about", "Document01", entry.entry_uuid, APND)))
    kinds = (APND, HAS_MEMBER)
    connecting = [
        each for each in registry.around(entry.entry_uuid) if each.type in kinds and "Original" not in each.submission_set_status
    ]
    assert len(connecting) == 2
    other = Registry(registry.node, theirs(registry, OTHER))
    for each in connecting:
        change = new_status(each.entry_uuid, DEPRECATED, patient=OTHER)
        assert registry.errors(change, By.UPDATE) == ["XDSPatientIDReconciliationError"], "nor does who may write of both"
        assert other.errors(change, By.UPDATE) == ["XDSMetadataUpdateError"]
        assert {one.status for one in registry.around(each.entry_uuid)} == {APPROVED}
        registry.update(new_status(each.entry_uuid, DEPRECATED))


def test_who_may_write_of_one_patient_refers_to_nothing_of_another(registry: Registry) -> None:
    """ITI TF-3 section 4.1.4.1: by reference there may be another patient's, where the caller may read it."""
    entry = first(registry)
    member = association("has-it", "SubmissionSet01", entry.entry_uuid, status="Reference")
    made = submitted(member, patient=OTHER, members=False)
    assert Registry(registry.node, theirs(registry, OTHER)).errors(made) == ["UnresolvedReferenceException"]
    assert registry.errors(made) == []


@pytest.mark.parametrize(
    "changed", [{"hash": "0" * 40}, {"size": 99}, {"mime_type": "application/pdf"}, {"repository_unique_id": "1.2.3.4"}]
)
def test_what_our_repository_has_checked_does_not_change(registry: Registry, changed: dict[str, Any]) -> None:
    ours = document(repository_unique_id=registry.node.domain.repository, hash="1" * 40, size=1, mime_type="text/plain")
    (entry,) = registry.submit(submitted(ours)).submission.documents
    assert registry.errors(new_version(second(entry, **changed), 1), By.UPDATE) == ["XDSMetadataUpdateError"]
    registry.update(new_version(second(entry, title="better"), 1))


@pytest.mark.parametrize("type_", [APND, RPLC, HAS_MEMBER])
def test_who_may_write_of_one_patient_connects_nothing_with_anothers(registry: Registry, type_: str) -> None:
    theirs_of_1 = registry.submit(submitted(document(), stroke(), association("filed", "Folder01", "Document01"))).submission
    mine = registry.submit(submitted(document(patient_id=OTHER), stroke(patient_id=OTHER), patient=OTHER)).submission
    other = Registry(registry.node, theirs(registry, OTHER))
    there = theirs_of_1.folders[0] if type_ == HAS_MEMBER else theirs_of_1.documents[0]
    pairs = [(there, mine.documents[0])]
    pairs += [(mine.folders[0] if type_ == HAS_MEMBER else mine.documents[0], theirs_of_1.documents[0])]
    for source, target in pairs:
        made = association("a", source.entry_uuid, target.entry_uuid, type_)
        update = replace(new_association(made), submission_set=replace(new_association(made).submission_set, patient_id=OTHER))  # type: ignore[type-var]
        before = {(each.entry_uuid, each.status) for each in registry.around(source.entry_uuid, target.entry_uuid)}
        assert set(other.errors(update, By.UPDATE)) == {"XDSMetadataUpdateError"}
        assert set(registry.errors(update, By.UPDATE)) == {"XDSPatientIDReconciliationError"}
        assert {(each.entry_uuid, each.status) for each in registry.around(source.entry_uuid, target.entry_uuid)} == before
    member = association("has-it", "SubmissionSet01", theirs_of_1.documents[0].entry_uuid, status="Reference")
    named = submitted(member, new_status_of(mine.documents[0].entry_uuid), patient=OTHER, members=False)
    assert other.errors(named, By.UPDATE) == ["XDSMetadataUpdateError"]


def new_status_of(target: str) -> Association:
    return new_status(target, DEPRECATED, patient=OTHER).associations[0]


def test_who_writes_of_one_patient_is_not_told_which_others_are_known(registry: Registry) -> None:
    other = Registry(registry.node, theirs(registry, OTHER))
    for patient in (PATIENT, "nobody^^^&1.3.6.1.4.1.21367.13.20&ISO"):
        for by, made in (
            (By.REGISTER, submitted(document(patient_id=patient), patient=patient)),
            (By.UPDATE, new_status("urn:uuid:1", DEPRECATED, patient=patient)),
        ):
            with pytest.raises(Forbidden, match="the token is for another patient"):
                other.submit(made, by)
