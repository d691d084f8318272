"""Remove Metadata, ITI-62 (ITI TF-2 section 3.62): the request, both ways."""

from collections.abc import Sequence
from typing import Final

from lxml.etree import _Element

from ihe import xml
from ihe.ebrs import RegistryError

REQUEST_ACTION: Final = "urn:ihe:iti:2010:DeleteDocumentSet"
RESPONSE_ACTION: Final = "urn:ihe:iti:2010:DeleteDocumentSetResponse"


def parse_request(body: _Element) -> tuple[str, ...]:
    """ITI TF-2 section 3.62.4.1.2: the entryUUIDs that `lcm:RemoveObjectsRequest` names, in order. Raises `RegistryError`."""
    if body.tag != f"{{{xml.LCM}}}RemoveObjectsRequest":
        raise RegistryError("XDSRegistryError", "the message must be lcm:RemoveObjectsRequest")
    ids = tuple(found.get("id", "") for found in body.iterfind(f"{{{xml.RIM}}}ObjectRefList/{{{xml.RIM}}}ObjectRef"))
    if not ids or not all(ids):
        raise RegistryError("XDSRegistryError", "rim:ObjectRefList has to name the objects to remove, each by its entryUUID")
    return ids


def request(entry_uuids: Sequence[str]) -> _Element:
    """ITI TF-2 section 3.62.4.1.2: `lcm:RemoveObjectsRequest` for these objects."""
    made = xml.element(xml.LCM, "RemoveObjectsRequest")
    listed = xml.child(made, xml.RIM, "ObjectRefList")
    for id_ in entry_uuids:
        xml.child(listed, xml.RIM, "ObjectRef", id=id_)
    return made
