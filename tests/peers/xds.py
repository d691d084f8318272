"""An XDS-I.b installation as tests meet it: parts in this process, and a client made of our codecs that checks every answer."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import httpx2
import orjson
import pydicom
import pytest
from fastapi import FastAPI
from lxml import etree
from lxml.etree import _Element
from peers import imageshare
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from starlette.testclient import TestClient

from ihe import iti18, iti43, mtom, rad69, soap, xml
from ihe.ebrs import SUCCESS
from ihe.find_documents import FindDocuments
from ihe.iti18 import QueryResponse, StoredQuery
from ihe.iti43 import DocumentRequest, RetrieveResponse
from ihe.multipart import PartData, PartStart
from ihe.rad69 import SeriesRequest, StudyRequest
from profiles.audit_event import INSTANCES_TRANSFERRED
from profiles.document import APPROVED, DocumentEntry
from server.edges import soap as edge
from server.edges.context import Node
from server.records.trail import events
from server.work.ingest import Sender

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
LOOPBACK = ("127.0.0.1", 50000)
REGISTRY, REPOSITORY, SOURCE = "/xds/registry", "/xds/repository", "/xds/imaging-source"
_numbers = count(1)


@dataclass
class Archive:
    """A server in this process, with what was sent to it: SOP Instance UID to the bytes of the file."""

    node: Node
    sent: dict[str, bytes] = field(default_factory=dict)

    @property
    def app(self) -> FastAPI:
        app = FastAPI()
        app.state.node = self.node
        edge.install(app)
        return app

    def client(self, address: tuple[str, int] = LOOPBACK, base_url: str = "http://127.0.0.1:8080") -> TestClient:
        return TestClient(self.app, base_url=base_url, client=address)

    def send(self, *files: bytes) -> None:
        """Stores files as one association does, and publishes."""
        batch = self.node.ingest.batch(Sender(INSTANCES_TRANSFERRED, "SCANNER", "127.0.0.1"))
        for file in files:
            writer = batch.receive()
            writer.write(file)
            self.sent[batch.store(writer).sop_instance_uid] = file
        imageshare.publish_all(self.node)

    def post(self, path: str, action: str, body: _Element, *, in_mtom: bool = False) -> httpx2.Response:
        message = soap.render_request(
            action, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", f"http://127.0.0.1:8080{path}"
        )
        content_type = soap.content_type(action)
        if in_mtom:
            content_type = mtom.content_type("b0undary", action)
            message = b"".join(mtom.chunks(message, (), lambda _: (), "b0undary"))
        return self.client().post(path, content=message, headers={"Content-Type": content_type})

    def query(self, query: StoredQuery) -> QueryResponse:
        response = self.post(REGISTRY, iti18.REQUEST_ACTION, iti18.request(query))
        return iti18.parse_response(payload(response))

    def find(self, patient: str, *statuses: str, **filters: object) -> tuple[DocumentEntry, ...]:
        found = self.query(FindDocuments(patient, statuses or (APPROVED,), **filters).query())  # type: ignore[arg-type]
        assert (found.status, found.errors) == (SUCCESS, ())
        return found.entries

    def images(
        self, *wanted: "tuple[str, str, str]", syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    ) -> "tuple[RetrieveResponse, dict[str, bytes]]":
        """RAD-69 for (study, series, instance) UIDs."""
        return retrieved(self.post(SOURCE, rad69.REQUEST_ACTION, self.images_request(wanted, syntaxes)))

    def images_request(self, wanted: "Sequence[tuple[str, str, str]]", syntaxes: Sequence[str]) -> _Element:
        ours = self.node.installation.imaging_source
        return rad69.request(
            [StudyRequest(study, (SeriesRequest(series, (DocumentRequest(ours, uid),)),)) for study, series, uid in wanted],
            syntaxes,
        )

    def trail(self, code: str) -> list[SimpleNamespace]:
        """The events of a transaction, oldest first."""
        with self.node.database.read() as connection:
            found = [(event.patient, orjson.loads(event.body)) for event in events(connection, limit=1000)]
        return [
            SimpleNamespace(patient=patient, outcome=body["outcome"], why=body.get("outcomeDesc", ""), body=body)
            for patient, body in reversed(found)
            if body["subtype"][-1]["code"] == code
        ]


def instance(
    patient: str = "P1", study: str = "2.25.1", series: str = "2.25.1.1", uid: str = "", syntax: str = ExplicitVRLittleEndian, pixels: int = 64
) -> bytes:  # fmt: skip
    """A small MR image as a Part 10 file."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, uid or f"{series}.{next(_numbers)}"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = patient, "Doe^Jane", "19700101", "F"
    image.Modality, image.StudyDate, image.StudyTime, image.AccessionNumber = "MR", "20260102", "101500", "A1"
    image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = pixels, pixels, 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    # Bytes that look like a boundary must not end anything early.
    image.PixelData = (b"\r\n--b0undary--\r\n" * (pixels * pixels))[: pixels * pixels * 2]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    written = io.BytesIO()
    image.save_as(written, enforce_file_format=True)
    return written.getvalue()


def uids(file: bytes) -> tuple[str, str, str]:
    header = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)


def cx(archive: Archive, patient: str = "P1") -> str:
    return f"{patient}^^^&{archive.node.installation.patients.oid}&ISO"


@cache
def schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SHARED / "nist" / "schema" / "v3" / name))


def check_schema(body: _Element) -> None:
    """Holds a payload against the schema of its namespace, as XOP 1.0 section 2 reads it: with each Include resolved. Wants `SHARED`."""
    copy = etree.fromstring(etree.tostring(body))
    for include in list(copy.iter(f"{{{xml.XOP}}}Include")):
        parent = include.getparent()
        assert parent is not None
        parent.remove(include)
    schema(
        {xml.QUERY: "query.xsd", xml.RS: "rs.xsd", xml.LCM: "lcm.xsd", xml.XDS_B: "XDS.b_DocumentRepository.xsd"}[
            xml.namespace_of(copy)
        ]
    ).assertValid(copy)


def payload_of_mtom(response: httpx2.Response) -> _Element:
    """The payload of an answer in MTOM that has no attachments."""
    assert response.status_code == 200
    check_headers(response)
    reader = mtom.Reader(response.headers["content-type"])
    root, *rest = reader.feed(response.content)
    reader.close()
    assert isinstance(root, mtom.Root)
    assert len(rest) == 1
    envelope = soap.parse(root.data)
    assert envelope.relates_to == "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001"
    assert envelope.action in response.headers["content-type"]
    if SHARED.exists():  # else test_soap_schemas.py is a skip that is counted
        check_schema(envelope.body)
    return soap.response_of(envelope)


def payload(response: httpx2.Response) -> _Element:
    assert response.status_code == 200
    check_headers(response)
    assert response.headers["content-type"].startswith("application/soap+xml")
    envelope = soap.parse(response.content)
    assert envelope.relates_to == "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001"
    assert envelope.action in response.headers["content-type"]
    if SHARED.exists():  # else test_soap_schemas.py is a skip that is counted
        check_schema(envelope.body)
    return soap.response_of(envelope)


def retrieved(response: httpx2.Response) -> tuple[RetrieveResponse, dict[str, bytes]]:
    """The answer and its documents by their unique id, read as MTOM."""
    assert response.status_code == 200
    check_headers(response)
    reader = mtom.Reader(response.headers["content-type"])
    root, *rest = reader.feed(response.content)
    reader.close()
    assert isinstance(root, mtom.Root)
    parts: dict[str, bytearray] = {}
    for event in rest:
        if isinstance(event, PartStart):
            current = parts.setdefault(event.content_id, bytearray())
        elif isinstance(event, PartData):
            current += event.data
    envelope = soap.parse(root.data)
    assert envelope.action == iti43.RESPONSE_ACTION
    assert envelope.relates_to == "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001"
    if SHARED.exists():  # else test_soap_schemas.py is a skip that is counted
        check_schema(envelope.body)
    answer = iti43.parse_response(soap.response_of(envelope))
    assert {document.content_id for document in answer.documents} == parts.keys()
    return answer, {each.request.document_unique_id: bytes(parts[each.content_id]) for each in answer.documents}


def check_headers(response: httpx2.Response) -> None:
    assert response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert int(response.headers["content-length"]) == len(response.content)


def fault(response: httpx2.Response, status: int) -> soap.SoapFault:
    assert response.status_code == status
    check_headers(response)
    with pytest.raises(soap.SoapFault) as raised:
        soap.response_of(soap.parse(response.content))
    return raised.value


def get(
    archive: Archive, *unique_ids: str, repository: str = "", in_mtom: bool = True
) -> tuple[RetrieveResponse, dict[str, bytes]]:
    asked = [DocumentRequest(repository or archive.node.installation.repository, uid) for uid in unique_ids]
    return retrieved(archive.post(REPOSITORY, iti43.REQUEST_ACTION, iti43.request(asked), in_mtom=in_mtom))
