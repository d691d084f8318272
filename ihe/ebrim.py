"""ebRIM 3.0's parts of a registry object: Slots, Name and Description, Classifications, ExternalIdentifiers (ITI TF-3 section 4.2.1).

Written in the order of the schema. What is empty is left out: an empty Slot is an error to many registries.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lxml.etree import _Element

from ihe import xml

REGISTRY_OBJECT: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"
_SLOT, _NAME, _DESCRIPTION = (f"{{{xml.RIM}}}{name}" for name in ("Slot", "Name", "Description"))
_CLASSIFICATION, _IDENTIFIER, _VERSION = (
    f"{{{xml.RIM}}}{name}" for name in ("Classification", "ExternalIdentifier", "VersionInfo")
)
_VALUE: Final = f"{{{xml.RIM}}}ValueList/{{{xml.RIM}}}Value"
_TEXT: Final = f"{{{xml.RIM}}}LocalizedString"


@dataclass(slots=True)
class Parts:
    """What stands in one registry object, read once. `faults` are sentences about what the schema allows and IHE does not."""

    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    description: str = ""
    version: str = ""
    classifications: defaultdict[str, list["Parts"]] = field(default_factory=lambda: defaultdict(list))
    """By scheme."""
    nodes: list[str] = field(default_factory=list)
    """Classification nodes: what the object is."""
    identifiers: dict[str, str] = field(default_factory=dict)
    """By scheme."""
    represents: str = ""
    """Of a Classification its nodeRepresentation."""
    faults: list[str] = field(default_factory=list)


def read(element: _Element) -> Parts:
    """The parts of `element`: an ExtrinsicObject, RegistryPackage, Association or Classification."""
    found = Parts(represents=element.get("nodeRepresentation", ""))
    for child in element:
        match child.tag:
            case tag if tag == _SLOT:
                _read_slot(found, child)
            case tag if tag == _NAME:
                found.name = _text(child)
            case tag if tag == _DESCRIPTION:
                found.description = _text(child)
            case tag if tag == _VERSION:
                found.version = child.get("versionName", "")
            case tag if tag == _CLASSIFICATION:
                _read_classification(found, child, element.get("id", ""))
            case tag if tag == _IDENTIFIER:
                _read_identifier(found, child, element.get("id", ""))
    return found


def _read_slot(found: Parts, child: _Element) -> None:
    name = child.get("name", "")
    if not name or name in found.slots:
        found.faults.append(f"the Slot {name} is there more than once" if name else "a Slot has no name")
        return
    found.slots[name] = tuple(text for value in child.iterfind(_VALUE) if (text := (value.text or "").strip()))


def _read_classification(found: Parts, child: _Element, id_: str) -> None:
    scheme, node = child.get("classificationScheme", ""), child.get("classificationNode", "")
    if child.get("classifiedObject", id_) != id_:
        found.faults.append("a Classification classifies another object than the one that it stands in")
    if node and not scheme:
        found.nodes.append(node)
    elif scheme:
        part = read(child)
        found.faults += part.faults
        found.classifications[scheme].append(part)
    else:
        found.faults.append("a Classification has neither classificationScheme nor classificationNode")


def _read_identifier(found: Parts, child: _Element, id_: str) -> None:
    scheme = child.get("identificationScheme", "")
    if child.get("registryObject", id_) != id_:
        found.faults.append("an ExternalIdentifier identifies another object than the one that it stands in")
    if scheme in found.identifiers:
        found.faults.append(f"the ExternalIdentifier {scheme} is there more than once")
        return
    found.identifiers[scheme] = child.get("value", "").strip()


def _text(element: _Element) -> str:
    found = element.find(_TEXT)
    return "" if found is None else found.get("value", "")


# --- writing


def slot(parent: _Element, name: str, values: Iterable[str]) -> None:
    """A Slot with those of `values` that are not empty; none where all are."""
    given = [value for value in values if value]
    if not given:
        return
    listed = xml.child(xml.child(parent, xml.RIM, "Slot", name=name), xml.RIM, "ValueList")
    for value in given:
        xml.child(listed, xml.RIM, "Value", value)


def name(parent: _Element, text: str, *, always: bool = False) -> None:
    """The Name of `parent`; none where it is empty, unless it has to be there."""
    if text or always:
        xml.child(xml.child(parent, xml.RIM, "Name"), xml.RIM, "LocalizedString", value=text)


def description(parent: _Element, text: str) -> None:
    """The Description of `parent`; none where it is empty."""
    if text:
        xml.child(xml.child(parent, xml.RIM, "Description"), xml.RIM, "LocalizedString", value=text)


def classification(
    parent: _Element, scheme: str, number: int, represents: str, slots: Sequence[tuple[str, Iterable[str]]], text: str = "",
    *, named: bool = True,
) -> None:  # fmt: skip
    """A Classification by `scheme`: a code, or an author. `number` tells those of one scheme apart."""
    made = _classification(parent, scheme, number)
    made.set("classificationScheme", scheme)
    made.set("nodeRepresentation", xml.clean(represents))
    for slot_name, values in slots:
        slot(made, slot_name, values)
    name(made, text, always=named)


def node(parent: _Element, node_: str) -> None:
    """A Classification that says what the object is."""
    _classification(parent, node_, 0).set("classificationNode", node_)


def identifier(parent: _Element, scheme: str, value: str, label: str) -> None:
    """An ExternalIdentifier with its Name; none where `value` is empty."""
    if not value:
        return
    made = xml.child(
        parent, xml.RIM, "ExternalIdentifier", id=_part_id(parent, scheme, 0), objectType=REGISTRY_OBJECT + "ExternalIdentifier",
        registryObject=parent.get("id", ""), identificationScheme=scheme, value=value,
    )  # fmt: skip
    name(made, label)


def _classification(parent: _Element, scheme: str, number: int) -> _Element:
    return xml.child(
        parent, xml.RIM, "Classification", id=_part_id(parent, scheme, number), objectType=REGISTRY_OBJECT + "Classification",
        classifiedObject=parent.get("id", ""),
    )  # fmt: skip


def _part_id(parent: _Element, scheme: str, number: int) -> str:
    # Derived, not random: the same object always gives the same bytes.
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{parent.get('id')} {scheme} {number}").urn
