"""ebRIM 2.1 metadata (`LeafRegistryObjectList`) as ebRIM 3.0, as the toolkit does before it sends it (ITI TF-3 section 4.2).

What differs: namespaces and the names of two elements; the order of children; ids that every object has; full names of association
types; references to the classification schemes are left out.
"""

from collections.abc import Iterator
from itertools import count
from typing import Final

from lxml import etree
from lxml.etree import _Element

from conformance.nist.symbols import attributes
from ihe import xml

LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"

_ORDER: Final = ("Slot", "Name", "Description", "VersionInfo", "Classification", "ExternalIdentifier")
_ASSOCIATION: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"
_CLASSIFICATION: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification"
_IDENTIFIER: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:ExternalIdentifier"
_PACKAGE: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:RegistryPackage"
_OBJECT_TYPES: Final = {
    "Association": _ASSOCIATION,
    "Classification": _CLASSIFICATION,
    "ExternalIdentifier": _IDENTIFIER,
    "RegistryPackage": _PACKAGE,
}
_TYPE_PREFIXES: Final = {
    "HasMember": "urn:oasis:names:tc:ebxml-regrep:AssociationType:",
    **dict.fromkeys(["APND", "RPLC", "XFRM", "XFRM_RPLC", "signs"], "urn:ihe:iti:2007:AssociationType:"),
    **dict.fromkeys(["IsSnapshotOf", "UpdateAvailabilityStatus", "SubmitAssociation"], "urn:ihe:iti:2010:AssociationType:"),
}
_NESTED: Final = frozenset(["ExtrinsicObject", "RegistryPackage", "Association"])


def is_old(root: _Element) -> bool:
    """Whether a request has ebRIM 2.1 metadata."""
    return any(xml.local_name(each) == "LeafRegistryObjectList" for each in root.iter())


def submit_objects_request(root: _Element) -> _Element:
    """A SubmitObjectsRequest of ebRIM 2.1, or an oddly named one of 3.0, as `lcm:SubmitObjectsRequest` of ebRIM 3.0."""
    made = etree.Element(f"{{{LCM}}}SubmitObjectsRequest", nsmap={"lcm": LCM, "rim": xml.RIM})
    listed = etree.SubElement(made, f"{{{xml.RIM}}}RegistryObjectList")
    ids = (f"id_{number}" for number in count(1))
    for found in root.iter():
        if xml.local_name(found) in ("LeafRegistryObjectList", "RegistryObjectList"):
            listed.extend(_object(each, ids) for each in found if xml.local_name(each) != "ObjectRef")
            break
    return made


def _object(old: _Element, ids: Iterator[str], owner: str = "") -> _Element:
    name = xml.local_name(old)
    new = etree.Element(f"{{{xml.RIM}}}{name}", dict(attributes(old)))
    new.text = old.text if not len(old) else None
    if name in _OBJECT_TYPES or name in _NESTED:
        _identified(new, name, ids, owner)
    children = [_object(each, ids, new.get("id", "")) for each in old]
    if name in _NESTED or name in _OBJECT_TYPES:
        children.sort(key=lambda each: _ORDER.index(xml.local_name(each)))
    new.extend(children)
    return new


def _identified(new: _Element, name: str, ids: Iterator[str], owner: str) -> None:
    if not new.get("id"):
        new.set("id", next(ids))
    if name in _OBJECT_TYPES and not new.get("objectType"):
        new.set("objectType", _OBJECT_TYPES[name])
    if name == "ExternalIdentifier" and not new.get("registryObject"):
        new.set("registryObject", owner)
    if name == "Association":
        kind = new.get("associationType", "")
        new.set("associationType", _TYPE_PREFIXES.get(kind, "") + kind)
