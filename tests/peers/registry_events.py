"""What a Document Registry, a Repository and an Imaging Document Source put into the trail, each transaction once: over HTTP, as a partner on this machine."""

from collections.abc import Iterator
from dataclasses import replace

from httpx2 import Response
from peers.document_source import Message
from peers.document_source import document as provided
from peers.document_source import submitted as providing
from peers.registering import PATIENT, Registry, document, new_status, new_version, submitted
from peers.xds import REGISTRY, REPOSITORY, Archive

from ihe import iti18, iti42, iti43, iti51, iti57, iti61, iti62, iti86, iti92
from ihe.find_documents import FindDocuments, GetDocuments
from ihe.iti43 import DocumentRequest
from ihe.stored_queries import FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS
from profiles.document import APPROVED, DEPRECATED, ON_DEMAND
from server.edges.context import Node


def happened(node: Node) -> Iterator[Response]:
    """The answers, all of what succeeded."""
    archive, here = Archive(node), node.installation.repository
    Registry(node)
    first = Message.of(providing(PATIENT, provided(1), provided(2)), {"Document01": b"first", "Document02": b"second"})
    yield first.sent(archive)
    yield archive.post(REGISTRY, iti42.REQUEST_ACTION, iti42.request(submitted(document())))
    yield archive.post(REGISTRY, iti61.REQUEST_ACTION, iti61.request(submitted(document(object_type=ON_DEMAND))))
    query = FindDocuments(PATIENT, (APPROVED,)).query()
    yield archive.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(query))
    yield archive.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(GetDocuments(unique_ids=("2.999.1.1",)).query()))
    many = replace(query, query_id=FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS)
    yield archive.post(REGISTRY, iti51.REQUEST_ACTION, iti18.request(many))
    asked = [DocumentRequest(here, f"2.999.1.{number}") for number in (1, 2)]
    yield archive.post(REPOSITORY, iti43.REQUEST_ACTION, iti43.request(asked), in_mtom=True)
    old = next(each for each in archive.find(PATIENT) if each.unique_id == "2.999.1.1")
    better = replace(old, entry_uuid="Document01", logical_id=old.entry_uuid, title="better")
    yield archive.post(REGISTRY, iti57.REQUEST_ACTION, iti57.request(new_version(better, 1)))
    yield archive.post(REGISTRY, iti92.REQUEST_ACTION, iti92.request(new_version(replace(better, title="best"), 2)))
    now = next(each for each in archive.find(PATIENT) if each.unique_id == "2.999.1.2")
    yield archive.post(REGISTRY, iti57.REQUEST_ACTION, iti57.request(new_status(now.entry_uuid, DEPRECATED)))
    lone = document()
    yield archive.post(REGISTRY, iti42.REQUEST_ACTION, iti42.request(submitted(lone)))
    (registered,) = (each for each in archive.find(PATIENT) if each.unique_id == lone.unique_id)
    around = [each.entry_uuid for each in Registry(node).around(registered.entry_uuid)]
    submission = [each.source for each in Registry(node).around(registered.entry_uuid)]
    yield archive.post(REGISTRY, iti62.REQUEST_ACTION, iti62.request([registered.entry_uuid, *around, *submission]))
    yield archive.post(REPOSITORY, iti86.REQUEST_ACTION, iti86.request(asked[1:]))
