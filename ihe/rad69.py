"""Retrieve Imaging Document Set, RAD-69 (IHE RAD TF-2 section 4.69): the request, both ways.

The response is that of ITI-43: `response` and `parse_response` are `ihe.iti43`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lxml.etree import _Element

from ihe import iti43, xml
from ihe.ebrs import RegistryError, RegistryRefusal
from ihe.iti43 import DocumentRequest

REQUEST_ACTION: Final = "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
# Not a slip: the answer has ITI-43's action (RAD TF-2 section 4.69.4.2.2).
RESPONSE_ACTION: Final = iti43.RESPONSE_ACTION

response = iti43.response
parse_response = iti43.parse_response


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """Documents of one series; their `document_unique_id` is the SOP Instance UID."""

    series_instance_uid: str
    documents: tuple[DocumentRequest, ...]


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """Series of one study."""

    study_instance_uid: str
    series: tuple[SeriesRequest, ...]


@dataclass(frozen=True, slots=True)
class RetrieveImagingDocumentSet:
    """What is asked for, and the transfer syntaxes that the consumer accepts. UIDs are as sent, but none is empty."""

    studies: tuple[StudyRequest, ...]
    transfer_syntaxes: tuple[str, ...]

    def documents(self) -> Iterator[tuple[str, str, DocumentRequest]]:
        """Study Instance UID, Series Instance UID and DocumentRequest of every document, in order."""
        for study in self.studies:
            for series in study.series:
                for wanted in series.documents:
                    yield study.study_instance_uid, series.series_instance_uid, wanted


def parse_request(body: _Element) -> RetrieveImagingDocumentSet:
    """RAD TF-2 section 4.69.4.1.2: `RetrieveImagingDocumentSetRequest`.

    Raises `RegistryRefusal` with one error per document, located at its unique id: XDSIRequestError where a study or series
    UID is empty, XDSRepositoryError where no transfer syntax is listed.
    """
    if body.tag != f"{{{xml.XDSI_B}}}RetrieveImagingDocumentSetRequest":
        raise RegistryError("XDSIRequestError", "the message must be RetrieveImagingDocumentSetRequest")
    asked = RetrieveImagingDocumentSet(
        tuple(
            StudyRequest(
                study.get("studyInstanceUID", "").strip(),
                tuple(
                    SeriesRequest(series.get("seriesInstanceUID", "").strip(), iti43.read_document_requests(series))
                    for series in study.iterfind("{*}SeriesRequest")
                ),
            )
            for study in body.iterfind("{*}StudyRequest")
        ),
        tuple(
            uid for found in body.iterfind("{*}TransferSyntaxUIDList/{*}TransferSyntaxUID") if (uid := (found.text or "").strip())
        ),
    )
    _check(asked)
    return asked


def _check(asked: RetrieveImagingDocumentSet) -> None:
    documents = list(asked.documents())
    if not documents:
        raise RegistryError("XDSIRequestError", "the request names no document")
    if not asked.transfer_syntaxes:
        context = "TransferSyntaxUIDList must name at least one transfer syntax"
        raise RegistryRefusal(
            [RegistryError("XDSRepositoryError", context, wanted.document_unique_id) for _, _, wanted in documents]
        )
    errors = [
        RegistryError("XDSIRequestError", f"the {'series' if study else 'study'}InstanceUID is empty", wanted.document_unique_id)
        for study, series, wanted in documents
        if not study or not series
    ]
    if errors:
        raise RegistryRefusal(errors)


def request(studies: Sequence[StudyRequest], transfer_syntaxes: Sequence[str]) -> _Element:
    """RAD TF-2 section 4.69.4.1.2: `RetrieveImagingDocumentSetRequest`; its DocumentRequests are of ITI-43's namespace."""
    made = xml.element(xml.XDSI_B, "RetrieveImagingDocumentSetRequest")
    for study in studies:
        in_study = xml.child(made, xml.XDSI_B, "StudyRequest", studyInstanceUID=study.study_instance_uid)
        for series in study.series:
            in_series = xml.child(in_study, xml.XDSI_B, "SeriesRequest", seriesInstanceUID=series.series_instance_uid)
            for wanted in series.documents:
                iti43.write_document_request(in_series, wanted)
    listed = xml.child(made, xml.XDSI_B, "TransferSyntaxUIDList")
    for transfer_syntax in transfer_syntaxes:
        xml.child(listed, xml.XDSI_B, "TransferSyntaxUID", transfer_syntax)
    return made
