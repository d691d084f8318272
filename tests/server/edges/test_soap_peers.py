"""The SOAP addresses in a process of their own: other people's clients, memory, and a client that goes away."""

import io
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pydicom
import pytest
from peers import imageshare
from peers.soap_server import peak, served
from peers.xds import REGISTRY, SHARED, SOURCE, Archive, cx, instance, uids
from pydicom.uid import ExplicitVRLittleEndian

from ihe import iti18, mtom, rad69, soap
from ihe.find_documents import FindDocuments
from profiles.document import APPROVED

WSDL = SHARED / "ipf" / "xds-main-wsdl" / "wsdl"


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        yield Archive(node)


@pytest.mark.skipif(not WSDL.exists(), reason="../shared/testdata is not here")
def test_zeep_finds_documents(archive: Archive) -> None:
    """zeep builds the request from another project's WSDL and schemas, with WS-Addressing because the WSDL names the actions.

    It is not strict with the answer, as it knows no substitution groups (ExtrinsicObject for Identifiable).
    """
    zeep = pytest.importorskip("zeep")
    archive.send(instance())
    (entry,) = archive.find(cx(archive))
    client = zeep.Client(str(WSDL / "iti18.wsdl"), settings=zeep.Settings(strict=False))
    with served(archive.node.settings) as (url, _):
        service = client.create_service("{urn:ihe:iti:xds-b:2007}DocumentRegistry_Binding_Soap12", url + REGISTRY)
        asked = {"$XDSDocumentEntryPatientId": f"'{cx(archive)}'", "$XDSDocumentEntryStatus": f"('{APPROVED}')"}
        answer = service.DocumentRegistry_RegistryStoredQuery(
            ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
            AdhocQuery={
                "id": "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
                "Slot": [{"name": name, "ValueList": {"_value_1": [{"Value": value}]}} for name, value in asked.items()],
            },
        )
        assert answer.status.endswith(":Success")
        (found,) = answer.RegistryObjectList["_raw_elements"]
        assert (found.get("id"), found.get("mimeType"), found.get("status")) == (entry.entry_uuid, "application/dicom", APPROVED)
        assert entry.repository_unique_id in found.xpath(".//*[@name='repositoryUniqueId']//text()")
        assert entry.unique_id in found.xpath("*[local-name()='ExternalIdentifier']/@value")


def test_memory_is_flat_while_a_large_study_is_sent(archive: Archive) -> None:
    one = pydicom.dcmread(io.BytesIO(instance(pixels=2048)))
    files = []
    for number in range(16):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.1.1.9{number:03}"
        files.append(_written(one))
    archive.send(*files)
    wanted = [uids(file) for file in files]
    with served(archive.node.settings) as (url, process):
        assert _retrieved(url, archive, wanted[:1]) > len(files[0])
        before = peak(process)
        total = _retrieved(url, archive, wanted)
        assert total > sum(map(len, files)) > 128_000_000
        # The whole answer is 134 MB, one image 8 MB.
        assert peak(process) - before < 16_000_000


def test_a_client_that_goes_away_in_the_middle_harms_nobody(archive: Archive) -> None:
    file = instance(pixels=2048)
    archive.send(file)
    with served(archive.node.settings) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        head = (
            f"POST {SOURCE} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/soap+xml\r\nContent-Length: %d\r\n\r\n"
        )
        message = _request(archive, [uids(file)])
        with closing(socket.create_connection((host, int(port)), 20)) as cut_off:
            cut_off.sendall((head % len(message)).encode() + message[:100])
        with closing(socket.create_connection((host, int(port)), 20)) as leaves:
            leaves.sendall((head % len(message)).encode() + message)
            assert leaves.recv(12) == b"HTTP/1.1 200"
        assert _retrieved(url, archive, [uids(file)]) > len(file)
        query = soap.render_request(iti18.REQUEST_ACTION, iti18.request(FindDocuments(cx(archive)).query()), "urn:uuid:1", url)
        answer = httpx2.post(url + REGISTRY, content=query, headers={"Content-Type": "application/soap+xml"}, timeout=60)
        assert answer.status_code == 200
    # What was cut off was never asked; what was begun to be sent was told.
    assert [event.outcome for event in archive.trail("RAD-69")] == ["0", "0"]


def _request(archive: Archive, wanted: list[tuple[str, str, str]]) -> bytes:
    body = archive.images_request(wanted, [ExplicitVRLittleEndian])
    return soap.render_request(rad69.REQUEST_ACTION, body, "urn:uuid:1", "")


def _retrieved(url: str, archive: Archive, wanted: list[tuple[str, str, str]]) -> int:
    """How many bytes came; the answer is read as it comes, and must be whole."""
    with httpx2.stream(
        "POST", url + SOURCE, content=_request(archive, wanted), headers={"Content-Type": "application/soap+xml"}, timeout=60
    ) as response:
        assert response.status_code == 200
        reader = mtom.Reader(response.headers["content-type"])
        total = 0
        for piece in response.iter_bytes():
            reader.feed(piece)
            total += len(piece)
        reader.close()
        assert total == int(response.headers["content-length"])
    return total


def _written(image: pydicom.Dataset) -> bytes:
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()
