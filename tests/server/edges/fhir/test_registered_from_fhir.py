"""A document that a client writes by FHIR, without MHD, is in the Document Registry too, and goes there as its resource goes."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from peers import imageshare
from peers import mhd_source as mhd
from peers.fhir_site import FhirSite, fhir_site
from peers.mhd_source import TEXT, document, oid
from peers.xds import REPOSITORY, Archive, cx, get, instance, payload

from ihe import ebrs, iti86
from ihe.ebrs import SUCCESS
from ihe.iti43 import DocumentRequest
from profiles.document import APND, APPROVED, DEPRECATED, RPLC, DocumentEntry
from server.records import registry

ON_BOTH_ENGINES = True
Json = dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("from-fhir"), module_database_url) as site:
        Archive(site.node).send(instance(), instance("P2", "2.25.2", "2.25.2.1"))
        yield site


@pytest.fixture(scope="module")
def archive(site: FhirSite) -> Archive:
    return Archive(site.node)


@pytest.fixture(scope="module")
def patients(site: FhirSite, archive: Archive) -> list[str]:
    oid_ = archive.node.installation.patients.oid
    return [f"Patient/{site.ids(f'Patient?identifier=urn:oid:{oid_}|{each}')[0]}" for each in ("P1", "P2")]


def attached(given: Json, **changed: Any) -> Json:
    attachment = {**given["content"][0]["attachment"], **changed}
    return {**given, "content": [{**given["content"][0], "attachment": {k: v for k, v in attachment.items() if v is not None}}]}


def written(site: FhirSite, resource: Json, path: str = "DocumentReference", method: str = "POST") -> Json:
    response = site.ask(method, path, body=resource)
    assert response.status_code in (200, 201), response.text
    imageshare.publish_all(site.node)
    return dict(response.json())


def inline(site: FhirSite, patient: str, unique_id: str, **changed: Any) -> Json:
    given = document(patient, unique_id, **changed)
    return written(site, attached(given, url=None, data=base64.b64encode(TEXT).decode()))


def entries(archive: Archive, unique_id: str, *statuses: str, patient: str = "P1") -> list[DocumentEntry]:
    return [each for each in archive.find(cx(archive, patient), *statuses) if each.unique_id == unique_id]


def posted(site: FhirSite, content: bytes, context: str) -> str:
    response = site.ask("POST", "Binary", body=content, Content_Type="text/plain", X_Security_Context=context)
    assert response.status_code == 201, response.text
    return "/".join(response.headers["location"].split("/fhir/")[1].split("/")[:2])


def test_a_document_in_the_resource(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique = oid()
    made = inline(site, patients[0], unique)
    (entry,) = entries(archive, unique)
    assert entry.entry_uuid == f"urn:uuid:{made['id']}"
    assert (entry.hash, entry.size, entry.is_limited) == (hashlib.sha1(TEXT).hexdigest(), len(TEXT), False)
    answer, documents = get(archive, unique)
    assert (answer.status, documents) == (SUCCESS, {unique: TEXT})
    with site.node.database.read() as connection:
        (has,) = registry.associations(connection, [entry.entry_uuid])
        (submitted,) = registry.by_uuid(connection, [has.source])
    assert (submitted.origin, submitted.value.patient_id) == ("fhir", cx(archive))


def test_a_document_that_is_a_binary_with_a_file(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique, content = oid(), b"a file of its own"
    binary = posted(site, content, patients[0])
    written(site, attached(document(patients[0], unique), url=binary, hash=None, size=None))
    assert [each.size for each in entries(archive, unique)] == [len(content)]
    assert get(archive, unique)[1] == {unique: content}


def test_a_document_that_comes_after_its_resource(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique = oid()
    made = written(site, attached(document(patients[0], unique), url=f"Binary/of-{unique}"))
    assert entries(archive, unique) == []
    binary = {**mhd.binary(b"later"), "id": f"of-{unique}", "securityContext": {"reference": f"DocumentReference/{made['id']}"}}
    written(site, binary, f"Binary/of-{unique}", "PUT")
    assert get(archive, unique)[1] == {unique: b"later"}


def test_somebody_elses_binary_is_none_of_it(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique = oid()
    binary = posted(site, b"of P2", patients[1])
    written(site, attached(document(patients[0], unique), url=binary))
    assert entries(archive, unique) == []


def test_few_metadata_are_limited(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    given = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": patients[0]},
        "content": [{"attachment": {"contentType": "text/plain", "data": base64.b64encode(b"few").decode()}}],
    }  # fmt: skip
    made = written(site, given)
    (entry,) = [each for each in archive.find(cx(archive)) if each.entry_uuid == f"urn:uuid:{made['id']}"]
    assert entry.is_limited
    assert get(archive, entry.unique_id)[1] == {entry.unique_id: b"few"}


@pytest.mark.parametrize(
    "lacks", [{"subject": {"display": "nobody"}}, {"content": [{"attachment": {"contentType": "text/plain", "url": "http://elsewhere.example/1"}}]}]
)  # fmt: skip
def test_what_lacks_a_patient_or_a_document_is_fhir_only(
    site: FhirSite, archive: Archive, patients: list[str], lacks: Json
) -> None:
    unique = oid()
    given = attached(document(patients[0], unique), url=None, data=base64.b64encode(TEXT).decode())
    written(site, {**given, **lacks})
    assert entries(archive, unique) == []


def test_it_changes_with_its_resource(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique = oid()
    made = inline(site, patients[0], unique)
    path = f"DocumentReference/{made['id']}"
    written(site, {**made, "status": "superseded", "description": "another"}, path, "PUT")
    assert entries(archive, unique, APPROVED) == []
    (entry,) = entries(archive, unique, DEPRECATED)
    assert entry.comments == "another"
    with site.node.database.read() as connection:
        assert len(registry.associations(connection, [entry.entry_uuid])) == 1
    written(site, {**made, "status": "entered-in-error"}, path, "PUT")
    assert entries(archive, unique, APPROVED, DEPRECATED) == []


def test_what_is_deleted_is_not_given_back(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    unique = oid()
    made = inline(site, patients[0], unique)
    assert site.ask("DELETE", f"DocumentReference/{made['id']}").status_code == 204
    imageshare.publish_all(site.node)
    assert entries(archive, unique, APPROVED, DEPRECATED) == []
    answer, documents = get(archive, unique)
    assert (documents, [each.code for each in answer.errors]) == ({}, ["XDSDocumentUniqueIdError"])


def test_the_uniqueid_of_what_is_deleted_is_free_once_its_document_is_removed(
    site: FhirSite, archive: Archive, patients: list[str]
) -> None:
    """ITI-86 takes the document and leaves the Binary whose bytes it has, which is a resource of its own."""
    unique, content = oid(), b"a file of a Binary that stays"
    binary = posted(site, content, patients[0])
    made = written(site, attached(document(patients[0], unique), url=binary, hash=None, size=None))
    assert site.ask("DELETE", f"DocumentReference/{made['id']}").status_code == 204
    asked = [DocumentRequest(archive.node.installation.repository, unique)]
    answer = ebrs.read(payload(archive.post(REPOSITORY, iti86.REQUEST_ACTION, iti86.request(asked))))
    assert (answer.status, answer.errors) == (SUCCESS, ())
    assert site.ask("GET", binary, Accept="text/plain").content == content
    inline(site, patients[0], unique)
    assert get(archive, unique)[1] == {unique: TEXT}


def test_relations_are_associations(site: FhirSite, archive: Archive, patients: list[str]) -> None:
    first = inline(site, patients[0], oid())
    target = {"reference": f"DocumentReference/{first['id']}"}
    written(site, {**first, "status": "superseded"}, f"DocumentReference/{first['id']}", "PUT")
    both = [{"code": "appends", "target": target}, {"code": "replaces", "target": target}]
    second = inline(site, patients[0], oid(), relatesTo=both)
    with site.node.database.read() as connection:
        found = registry.associations(connection, [f"urn:uuid:{second['id']}"])
    about = {each.type for each in found if each.target == f"urn:uuid:{first['id']}"}
    assert about == {APND, RPLC}
