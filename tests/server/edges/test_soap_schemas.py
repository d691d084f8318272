"""Each kind of answer of the SOAP addresses against the standard's own schemas."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from lxml import etree
from lxml.etree import _Element
from peers import imageshare
from peers.xds import REGISTRY, REPOSITORY, SOURCE, Archive, check_schema, cx, instance, needs_shared, uids
from pydicom.uid import ExplicitVRLittleEndian

from ihe import iti18, iti43, mtom, rad69, soap
from ihe.find_documents import FindDocuments, GetDocuments
from ihe.iti18 import ReturnType
from ihe.iti43 import DocumentRequest

ON_BOTH_ENGINES = True

pytestmark = needs_shared


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """On SQLite alone: an answer's form does not depend on where its values come from."""
    with imageshare.node(tmp_path / "data") as node:
        archive = Archive(node)
        archive.send(instance())
        yield archive


def _body(response: httpx2.Response) -> _Element:
    content_type = response.headers["content-type"]
    content = response.content
    if content_type.startswith("multipart/"):
        root, *_ = mtom.Reader(content_type).feed(content)
        assert isinstance(root, mtom.Root)
        content = root.data
    return soap.parse(content).body


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("return_type", list(ReturnType))
def test_registry(archive: Archive, return_type: ReturnType, known: bool) -> None:
    patient = cx(archive) if known else "P404^^^&1.2.3&ISO"
    body = _body(archive.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(FindDocuments(patient).query(return_type))))
    check_schema(body)
    del body.attrib["status"]
    with pytest.raises(etree.DocumentInvalid):
        check_schema(body)


def test_registry_error(archive: Archive) -> None:
    both = GetDocuments(entry_uuids=("urn:uuid:1",), unique_ids=("1.2",)).query()
    answer = archive.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(both))
    assert b"RegistryError" in answer.content
    check_schema(_body(answer))


@pytest.mark.parametrize("unknown", [(), ("2.25.404",)])
def test_repository(archive: Archive, unknown: tuple[str, ...]) -> None:
    (entry,) = archive.find(cx(archive))
    asked = [DocumentRequest(archive.node.installation.repository, uid) for uid in (entry.unique_id, *unknown)]
    answer = archive.post(REPOSITORY, iti43.REQUEST_ACTION, iti43.request(asked), in_mtom=True)
    assert (b"RegistryError" in answer.content) == bool(unknown)
    check_schema(_body(answer))


@pytest.mark.parametrize("unknown", [(), (("2.25.1", "2.25.1.1", "2.25.404"),)])
def test_imaging_source(archive: Archive, unknown: tuple[tuple[str, str, str], ...]) -> None:
    wanted = [*map(uids, archive.sent.values()), *unknown]
    body = archive.images_request(wanted, [ExplicitVRLittleEndian])
    answer = archive.post(SOURCE, rad69.REQUEST_ACTION, body, in_mtom=True)
    assert (b"RegistryError" in answer.content) == bool(unknown)
    check_schema(_body(answer))
