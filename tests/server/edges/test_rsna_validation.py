"""Tests of the RSNA Image Share Validation list that the toolkit's given material lacks, by their numbers: what each asks, asked here over HTTP.

`docs/rsna-validation.md` names them; tests/test_rsna_validation_list.py holds the two together.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from lxml.etree import _Element
from peers import document_source, imageshare
from peers.document_source import Message
from peers.registering import OTHER, PATIENT, Registry, document, stroke, submitted
from peers.registry_objects import association, code
from peers.xds import REGISTRY, REPOSITORY, Archive, retrieved

from ihe import ebrs, iti42, iti43, soap
from ihe.ebrs import RegistryResponse
from ihe.iti18 import QueryResponse, ReturnType, StoredQuery
from ihe.iti43 import DocumentRequest
from ihe.stored_queries import (
    FIND_FOLDERS,
    GET_DOCUMENTS,
    GET_DOCUMENTS_AND_ASSOCIATIONS,
    GET_FOLDERS,
    GET_FOLDERS_FOR_DOCUMENT,
    GET_SUBMISSION_SET_AND_CONTENTS,
    GET_SUBMISSION_SETS,
)
from profiles.document import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    RPLC,
    XFRM,
    XFRM_RPLC,
    DocumentEntry,
    Folder,
    RegistryObject,
    Submission,
)

ON_BOTH_ENGINES = True


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data") as node:
        Registry(node)
        yield Archive(node)


def answered(archive: Archive, action: str, body: _Element) -> RegistryResponse:
    response = archive.post(REGISTRY, action, body)
    assert response.status_code == 200
    return ebrs.read(soap.response_of(soap.parse(response.content)))


def register(archive: Archive, submission: Submission) -> list[str]:
    return [error.code for error in answered(archive, iti42.REQUEST_ACTION, iti42.request(submission)).errors]


Given = Mapping[str, str | tuple[str, ...]]


def asked(archive: Archive, query_id: str, parameters: Given, *, refs: bool = False) -> QueryResponse:
    """Parameters are named without their $."""
    given = {f"${name}": ((value,) if isinstance(value, str) else value,) for name, value in parameters.items()}
    return archive.query(StoredQuery(query_id, ReturnType.OBJECT_REF if refs else ReturnType.LEAF_CLASS, given))


def filed() -> Submission:
    """A document in a Folder."""
    return submitted(document(), stroke(), association("filed", "Folder01", "Document01"))


def folders(archive: Archive, patient: str = PATIENT) -> tuple[Folder, ...]:
    return asked(archive, FIND_FOLDERS, {"XDSFolderPatientId": patient, "XDSFolderStatus": (APPROVED,)}).folders


def one(archive: Archive, unique_id: str) -> DocumentEntry:
    (found,) = asked(archive, GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": unique_id}).entries
    return found


# --- Document Registry: stored queries


def test_11899_FindFolders(archive: Archive) -> None:
    register(archive, submitted(stroke(codes=(code("A"),))))
    register(archive, submitted(stroke(codes=(code("B"),))))
    assert len(folders(archive)) == 2
    assert folders(archive, OTHER) == ()
    given: Given = {"XDSFolderPatientId": PATIENT, "XDSFolderStatus": (APPROVED,)}
    (found,) = asked(archive, FIND_FOLDERS, {**given, "XDSFolderCodeList": ("A^^1.2.3",)}).folders
    assert [each.code for each in found.codes] == ["A"]
    assert len(asked(archive, FIND_FOLDERS, given, refs=True).object_refs) == 2
    missing = asked(archive, FIND_FOLDERS, {"XDSFolderPatientId": PATIENT})
    assert [error.code for error in missing.errors] == ["XDSStoredQueryMissingParam"]


def test_11902_GetFolders(archive: Archive) -> None:
    register(archive, submitted(stroke()))
    register(archive, submitted(stroke()))
    first, second = folders(archive)
    assert asked(archive, GET_FOLDERS, {"XDSFolderEntryUUID": first.entry_uuid}).folders == (first,)
    both = asked(archive, GET_FOLDERS, {"XDSFolderUniqueId": (first.unique_id, second.unique_id)})
    assert {each.entry_uuid for each in both.folders} == {first.entry_uuid, second.entry_uuid}
    neither = asked(archive, GET_FOLDERS, {})
    assert [error.code for error in neither.errors] == ["XDSStoredQueryMissingParam"]


def test_11904_GetDocumentsAndAssociations(archive: Archive) -> None:
    alone, member = document(), document()
    register(archive, submitted(alone))
    register(archive, submitted(member, stroke(), association("filed", "Folder01", "Document01")))
    for key, first, second in (
        ("XDSDocumentEntryUniqueId", alone.unique_id, member.unique_id),
        ("XDSDocumentEntryEntryUUID", one(archive, alone.unique_id).entry_uuid, one(archive, member.unique_id).entry_uuid),
    ):
        found = asked(archive, GET_DOCUMENTS_AND_ASSOCIATIONS, {key: first})
        assert (len(found.entries), len(found.associations)) == (1, 1)
        found = asked(archive, GET_DOCUMENTS_AND_ASSOCIATIONS, {key: (first, second)})
        assert (len(found.entries), len(found.associations), len(found.submission_sets)) == (2, 3, 0)


def test_11906_GetSubmissionSetAndContents(archive: Archive) -> None:
    public, secret = document("Document01"), document("Document02", format_code=code("F2"), confidentiality=(code("V"),))
    made = submitted(
        public, secret, stroke(), association("f1", "Folder01", "Document01"), association("f2", "Folder01", "Document02")
    )
    register(archive, made)
    assert made.submission_set is not None
    unique: Given = {"XDSSubmissionSetUniqueId": made.submission_set.unique_id}
    whole = asked(archive, GET_SUBMISSION_SET_AND_CONTENTS, unique)
    assert (len(whole.submission_sets), len(whole.entries), len(whole.folders)) == (1, 2, 1)
    by_id = {"XDSSubmissionSetEntryUUID": whole.submission_sets[0].entry_uuid}
    assert asked(archive, GET_SUBMISSION_SET_AND_CONTENTS, by_id) == whole
    for name, value in (("XDSDocumentEntryFormatCode", "F2^^1.2.3"), ("XDSDocumentEntryConfidentialityCode", "V^^1.2.3")):
        some = asked(archive, GET_SUBMISSION_SET_AND_CONTENTS, {**unique, name: (value,)})
        assert [each.unique_id for each in some.entries] == [secret.unique_id]
        every: tuple[RegistryObject, ...] = (*some.submission_sets, *some.entries, *some.folders)
        shown = {each.entry_uuid for each in every}
        ends = {(each.source in shown, each.target in shown) for each in some.associations if each.target in shown}
        assert ends == {(True, True)}
        assert sum(each.target in shown for each in some.associations) == 3
    assert len(asked(archive, GET_SUBMISSION_SET_AND_CONTENTS, unique, refs=True).object_refs) >= 4


def test_11908_GetFoldersForDocument(archive: Archive) -> None:
    member, alone = document(), document()
    register(archive, submitted(member, stroke(), association("filed", "Folder01", "Document01")))
    register(archive, submitted(alone))
    (folder,) = folders(archive)
    assert asked(archive, GET_FOLDERS_FOR_DOCUMENT, {"XDSDocumentEntryUniqueId": member.unique_id}).folders == (folder,)
    id_ = one(archive, member.unique_id).entry_uuid
    assert asked(archive, GET_FOLDERS_FOR_DOCUMENT, {"XDSDocumentEntryEntryUUID": id_}).folders == (folder,)
    assert asked(archive, GET_FOLDERS_FOR_DOCUMENT, {"XDSDocumentEntryUniqueId": alone.unique_id}).folders == ()


def test_12368_XDSResultNotSinglePatient(archive: Archive) -> None:
    mine, hers = filed(), submitted(document(patient_id=OTHER), stroke(patient_id=OTHER), patient=OTHER)
    assert (register(archive, mine), register(archive, hers)) == ([], [])
    documents = tuple(each.documents[0].unique_id for each in (mine, hers))
    in_folders = tuple(each.folders[0].unique_id for each in (mine, hers))
    ids = tuple(one(archive, each).entry_uuid for each in documents)
    for query, name, values in (
        (GET_DOCUMENTS, "XDSDocumentEntryUniqueId", documents),
        (GET_FOLDERS, "XDSFolderUniqueId", in_folders),
        (GET_SUBMISSION_SETS, "uuid", ids),
    ):
        assert [error.code for error in asked(archive, query, {name: values}).errors] == ["XDSResultNotSinglePatient"]
        found = asked(archive, query, {name: values}, refs=True)
        assert (found.errors, len(found.object_refs) >= 2) == ((), True)


# --- Document Registry: submissions


@pytest.mark.parametrize(("type_", "number"), [(APND, "11993"), (XFRM, "11994")])
def test_11993_a_document_is_about_another_that_is_not_replaced(archive: Archive, type_: str, number: str) -> None:
    original, copy = document(), document()
    register(archive, submitted(original))
    register(archive, submitted(copy))
    ids = [one(archive, each.unique_id).entry_uuid for each in (original, copy)]
    assert register(archive, submitted(document(), association("r", "Document01", ids[1], RPLC))) == []
    added, refused = document(), document()
    assert register(archive, submitted(added, association("a", "Document01", ids[0], type_))) == []
    late = submitted(refused, association("a", "Document01", ids[1], type_))
    assert register(archive, late) == ["XDSRegistryDeprecatedDocumentError"], number
    assert [one(archive, each.unique_id).status for each in (original, added)] == [APPROVED, APPROVED]
    assert asked(archive, GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": refused.unique_id}).entries == ()


def test_11995_a_replacement_that_is_a_transformation(archive: Archive) -> None:
    original, made = document(), document()
    register(archive, submitted(original))
    old = one(archive, original.unique_id)
    assert register(archive, submitted(made, association("r", "Document01", old.entry_uuid, XFRM_RPLC))) == []
    assert [one(archive, each.unique_id).status for each in (original, made)] == [DEPRECATED, APPROVED]
    links = asked(archive, GET_DOCUMENTS_AND_ASSOCIATIONS, {"XDSDocumentEntryUniqueId": made.unique_id}).associations
    assert old.entry_uuid in {each.target for each in links if each.type == XFRM_RPLC}


def test_11997_the_patient_of_a_submission_set_is_not_that_of_its_document(archive: Archive) -> None:
    sent = document(patient_id=OTHER)
    assert set(register(archive, submitted(sent))) == {"XDSPatientIdDoesNotMatch"}
    assert asked(archive, GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": sent.unique_id}).entries == ()


def test_11999_an_empty_folder(archive: Archive) -> None:
    made = submitted(stroke())
    assert register(archive, made) == []
    assert made.submission_set is not None
    found = asked(archive, GET_SUBMISSION_SET_AND_CONTENTS, {"XDSSubmissionSetUniqueId": made.submission_set.unique_id})
    assert (len(found.folders), len(found.entries), len(found.associations)) == (1, 0, 1)


def test_12001_a_new_document_in_a_folder_that_is_there(archive: Archive) -> None:
    register(archive, submitted(stroke()))
    (folder,) = folders(archive)
    added = document()
    assert register(archive, submitted(added, association("filed", folder.entry_uuid, "Document01"))) == []
    (found,) = asked(archive, GET_FOLDERS_FOR_DOCUMENT, {"XDSDocumentEntryUniqueId": added.unique_id}).folders
    assert found.entry_uuid == folder.entry_uuid


def test_12004_a_document_comes_again(archive: Archive) -> None:
    sent = document()
    assert register(archive, submitted(sent)) == []
    assert register(archive, submitted(sent)) == []
    assert len(asked(archive, GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": sent.unique_id}).entries) == 2
    assert set(register(archive, submitted(replace(sent, hash="0" * 40)))) == {"XDSNonIdenticalHash"}
    assert len(asked(archive, GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": sent.unique_id}).entries) == 2


def test_12323_when_a_folder_was_changed(archive: Archive) -> None:
    register(archive, submitted(stroke()))
    register(archive, submitted(stroke(last_update="20010203040506")))
    before = folders(archive)
    assert all(each.last_update > "2026" for each in before)
    (folder, _) = before
    old = document()
    with archive.node.database.write() as connection:
        connection.exec_driver_sql("UPDATE registry_object SET time = '20010203040506' WHERE kind = 'folder'")
    assert register(archive, submitted(old, association("filed", folder.entry_uuid, "Document01"))) == []
    assert asked(archive, GET_FOLDERS, {"XDSFolderEntryUUID": folder.entry_uuid}).folders[0].last_update > "2026"
    with archive.node.database.write() as connection:
        connection.exec_driver_sql("UPDATE registry_object SET time = '20010203040506' WHERE kind = 'folder'")
    replaced = one(archive, old.unique_id).entry_uuid
    assert register(archive, submitted(document(), association("r", "Document01", replaced, RPLC))) == []
    assert asked(archive, GET_FOLDERS, {"XDSFolderEntryUUID": folder.entry_uuid}).folders[0].last_update > "2026"


def test_12327_what_replaces_a_document_of_a_folder_is_in_it_too(archive: Archive) -> None:
    original, new = document(), document()
    register(archive, submitted(original, stroke(), association("filed", "Folder01", "Document01")))
    (folder,) = folders(archive)
    old = one(archive, original.unique_id).entry_uuid
    register(archive, submitted(new, association("r", "Document01", old, RPLC)))
    for each in (original, new):
        links = asked(archive, GET_DOCUMENTS_AND_ASSOCIATIONS, {"XDSDocumentEntryUniqueId": each.unique_id}).associations
        assert folder.entry_uuid in {link.source for link in links if link.type == HAS_MEMBER}


def test_12379_extra_metadata_are_kept(archive: Archive) -> None:
    sent = document(extra=(("urn:example:colour", ("green", "blue")),))
    assert register(archive, submitted(sent)) == []
    assert one(archive, sent.unique_id).extra == sent.extra


# --- Document Repository


def test_11983_documents_and_their_metadata_have_to_be_there_both(archive: Archive) -> None:
    two = [document_source.document(number) for number in (1, 2)]
    no_metadata = Message.of(document_source.submitted(PATIENT, two[0]), {each.entry_uuid: b"text" for each in two})
    no_document = Message.of(document_source.submitted(PATIENT, *two), {two[0].entry_uuid: b"text"})
    for message, wanted in ((no_metadata, "XDSMissingDocumentMetadata"), (no_document, "XDSMissingDocument")):
        assert {error.code for error in message.answer(archive).errors} == {wanted}
    assert archive.find(PATIENT) == ()


def test_11986_the_registrys_errors_come_back_through_the_repository(archive: Archive) -> None:
    stranger = "9^^^&1.3.6.1.4.1.21367.13.20&ISO"
    sent = document_source.document()
    answer = Message.of(document_source.submitted(stranger, sent), {sent.entry_uuid: b"text"}).answer(archive)
    assert [error.code for error in answer.errors] == ["XDSUnknownPatientId"]


def test_12029_a_document_is_retrieved(archive: Archive) -> None:
    sent, content = document_source.document(), b"what the document says"
    assert Message.of(document_source.submitted(PATIENT, sent), {sent.entry_uuid: content}).answer(archive).errors == ()
    (entry,) = archive.find(PATIENT)
    assert (entry.hash, entry.size) == (hashlib.sha1(content, usedforsecurity=False).hexdigest(), len(content))
    wanted = iti43.request([DocumentRequest(entry.repository_unique_id, entry.unique_id)])
    told, parts = retrieved(archive.post(REPOSITORY, iti43.REQUEST_ACTION, wanted, in_mtom=True))
    (document_,) = told.documents
    assert (document_.request.document_unique_id, document_.request.repository_unique_id, document_.mime_type) == (
        entry.unique_id, entry.repository_unique_id, "text/plain",
    )  # fmt: skip
    assert list(parts.values()) == [content]
