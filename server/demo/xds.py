"""An XDS-I.b client that knows nothing but the wire: ITI-18, ITI-43 and RAD-69 over SOAP 1.2."""

import uuid
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import httpx2
from lxml.etree import _Element

from ihe import iti18, iti43, mtom, rad69, soap
from ihe.ebrs import SUCCESS
from ihe.find_documents import FindDocuments
from ihe.iti43 import DocumentRequest
from profiles.document import APPROVED, DEPRECATED, DocumentEntry
from profiles.manifest import ManifestContent
from server.demo.story import Failed, require
from server.demo.web import parts


class Xds:
    """Document Consumer and Imaging Document Consumer of one server."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._client = httpx2.Client(timeout=60, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def find_documents(self, patient_id: str, *, deprecated: bool = False) -> tuple[DocumentEntry, ...]:
        """ITI TF-2 section 3.18: the imaging manifests of a patient, `id^^^&oid&ISO`. Raises `Failed`."""
        statuses = (APPROVED, DEPRECATED) if deprecated else (APPROVED,)
        body = iti18.request(FindDocuments(patient_id, statuses).query())
        url = f"{self._base}/xds/registry"
        answer = self._client.post(
            url,
            content=soap.render_request(iti18.REQUEST_ACTION, body, f"urn:uuid:{uuid.uuid4()}", url),
            headers={"Content-Type": soap.content_type(iti18.REQUEST_ACTION)},
        )
        read = iti18.parse_response(soap.response_of(soap.parse(answer.content)))
        _require_success("ITI-18", read.status)
        return read.entries

    def document(self, entry: DocumentEntry) -> bytes:
        """ITI TF-2 section 3.43: the bytes of one document. Raises `Failed`."""
        wanted = DocumentRequest(entry.repository_unique_id, entry.unique_id, entry.home_community_id)
        retrieved = self._retrieve("/xds/repository", iti43.REQUEST_ACTION, iti43.request([wanted]), "ITI-43")
        received = [file.read() for _, file in retrieved]
        require(len(received) == 1, f"ITI-43 gave {len(received)} documents for one")
        return received[0]

    def images(self, manifest: ManifestContent, transfer_syntaxes: Iterable[str]) -> Iterator[tuple[str, BinaryIO]]:
        """RAD TF-2 section 4.69: every image of a manifest as SOP Instance UID and Part 10 file, valid until the next."""
        studies = [
            rad69.StudyRequest(
                study,
                tuple(
                    rad69.SeriesRequest(
                        series.series_instance_uid,
                        tuple(DocumentRequest(series.retrieve_location_uid, one.sop_instance_uid) for one in series.instances),
                    )
                    for series in manifest.series
                    if series.study_instance_uid == study
                ),
            )
            for study in manifest.studies
        ]
        body = rad69.request(studies, sorted(transfer_syntaxes))
        yield from self._retrieve("/xds/imaging-source", rad69.REQUEST_ACTION, body, "RAD-69")

    def _retrieve(self, path: str, action: str, body: _Element, name: str) -> Iterator[tuple[str, BinaryIO]]:
        url, boundary = self._base + path, uuid.uuid4().hex
        root = soap.render_request(action, body, f"urn:uuid:{uuid.uuid4()}", url)
        content = b"".join(mtom.chunks(root, (), lambda _: (), boundary))
        headers = {"Content-Type": mtom.content_type(boundary, action)}
        with self._client.stream("POST", url, content=content, headers=headers) as answer:
            received = answer.headers.get("Content-Type", "")
            if not received.startswith("multipart/"):
                # A fault, or an error of the transport: raises either way.
                soap.response_of(soap.parse(answer.read()))
                raise Failed(f"{name} answered {answer.status_code} without MTOM")
            yield from self._attachments(mtom.Reader(received), answer.iter_bytes(), name)

    @staticmethod
    def _attachments(reader: mtom.Reader, chunks: Iterable[bytes], name: str) -> Iterator[tuple[str, BinaryIO]]:
        promised: dict[str, str] = {}

        def events() -> Iterator[object]:
            for chunk in chunks:
                for event in reader.feed(chunk):
                    if isinstance(event, mtom.Root):
                        answer = iti43.parse_response(soap.response_of(soap.parse(event.data)))
                        _require_success(name, answer.status)
                        promised.update({one.content_id: one.request.document_unique_id for one in answer.documents})
                    yield event

        for start, file in parts(events()):
            yield promised.pop(start.content_id, ""), file
        reader.close()
        require(not promised, f"{name} promised {len(promised)} documents that did not come")


def _require_success(name: str, status: str) -> None:
    require(status == SUCCESS, f"{name} answered {status.rpartition(':')[2]}")
