"""Remove Documents, ITI-86 (ITI TF-2 section 3.86): the request, both ways. It names documents as ITI-43 does."""

from collections.abc import Sequence
from typing import Final

from lxml.etree import _Element

from ihe import xml
from ihe.ebrs import RegistryError
from ihe.iti43 import DocumentRequest, read_document_requests, write_document_request

REQUEST_ACTION: Final = "urn:ihe:iti:2017:RemoveDocuments"
RESPONSE_ACTION: Final = "urn:ihe:iti:2017:RemoveDocumentsResponse"


def parse_request(body: _Element) -> tuple[DocumentRequest, ...]:
    """ITI TF-2 section 3.86.4.1.2: the documents that `rmd:RemoveDocumentsRequest` names, in order. Raises `RegistryError`."""
    if body.tag != f"{{{xml.RMD}}}RemoveDocumentsRequest":
        raise RegistryError("XDSRemoveDocumentsError", "the message must be rmd:RemoveDocumentsRequest")
    requests = read_document_requests(body)
    if not requests:
        raise RegistryError("XDSRemoveDocumentsError", "the request names no document")
    return requests


def request(documents: Sequence[DocumentRequest]) -> _Element:
    """ITI TF-2 section 3.86.4.1.2: `rmd:RemoveDocumentsRequest` for `documents`."""
    made = xml.element(xml.RMD, "RemoveDocumentsRequest")
    for wanted in documents:
        write_document_request(made, wanted)
    return made
