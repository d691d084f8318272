"""Provide and Register Document Set-b, ITI-41 (ITI TF-2 section 3.41), which is RAD-68 too (RAD TF-2 section 4.68): the request, both ways."""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lxml.etree import _Element

from ihe import iti42, mtom, xml
from ihe.ebrs import RegistryError
from ihe.ebxml import Reading
from profiles.document import Submission

REQUEST_ACTION: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
RESPONSE_ACTION: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse"


@dataclass(frozen=True, slots=True)
class Provided:
    """A document of a submission: the id of its Document Entry, and the Content-ID of its part or, where it stood in the envelope, its bytes."""

    id: str
    content_id: str = ""
    content: bytes | None = None


def parse_request(body: _Element, reading: Reading) -> tuple[Submission, tuple[Provided, ...]]:
    """ITI TF-2 section 3.41.4.1.2: the Submission and its documents, in order; `reading` takes what is wrong in the metadata.

    Raises `RegistryError`, and `MtomError` for a wrong href.
    """
    submitted = body.find(f"{{{xml.LCM}}}SubmitObjectsRequest")
    if body.tag != f"{{{xml.XDS_B}}}ProvideAndRegisterDocumentSetRequest" or submitted is None:
        context = "the message must be ProvideAndRegisterDocumentSetRequest with an lcm:SubmitObjectsRequest"
        raise RegistryError("XDSRepositoryMetadataError", context)
    documents = tuple(_provided(found) for found in body.iterfind(f"{{{xml.XDS_B}}}Document"))
    return iti42.parse_request(submitted, reading), documents


def _provided(element: _Element) -> Provided:
    id_ = element.get("id", "").strip()
    include = element.find(f"{{{xml.XOP}}}Include")
    if include is not None:
        return Provided(id_, content_id=mtom.content_id_of(include.get("href", "")))
    try:
        return Provided(id_, content=b64decode("".join((element.text or "").split()), validate=True))
    except (binascii.Error, ValueError):
        raise RegistryError("XDSRepositoryError", "a Document is neither xop:Include nor base64", id_) from None


def request(submission: Submission, documents: Sequence[Provided]) -> _Element:
    """ITI TF-2 section 3.41.4.1.2: `ProvideAndRegisterDocumentSetRequest`; each document is an `xop:Include` of its part."""
    made = xml.element(xml.XDS_B, "ProvideAndRegisterDocumentSetRequest")
    made.append(iti42.request(submission))
    for document in documents:
        within = xml.child(made, xml.XDS_B, "Document", id=document.id)
        xml.child(within, xml.XOP, "Include", href=mtom.href(document.content_id))
    return made
