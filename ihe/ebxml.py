"""Document sharing metadata in ebRIM 3.0, both ways (ITI TF-3 section 4.2), by the tables of `ihe.metadata`.

Reading what was written gives the same value. Reading takes what is there: what is missing or wrong by IHE's rules is told by
`ihe.metadata_rules`, from the value and from the `faults` that reading collects.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from lxml.etree import _Element

from ihe import ebrim, xml
from ihe.ebrim import REGISTRY_OBJECT, Parts
from ihe.metadata import ASSOCIATION, DOCUMENT_ENTRY, FOLDER, FOLDER_NODE, SUBMISSION_SET, SUBMISSION_SET_NODE, Attribute, Kind
from ihe.metadata_syntax import Syntax, is_valid
from profiles.document import (
    APPROVED,
    STABLE,
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    RegistryObject,
    Submission,
    SubmissionSet,
)

_AUTHOR_SLOTS: Final = (
    ("authorInstitution", "institutions"), ("authorRole", "roles"), ("authorSpecialty", "specialties"),
    ("authorTelecommunication", "telecoms"),
)  # fmt: skip
_ENDS: Final = (("type", "associationType"), ("source", "sourceObject"), ("target", "targetObject"))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an object, in words; `id` is the object's as it was sent.

    `code` is one of ITI TF-3 table 4.2.4.1-2, with `{actor}` where it names who found it.
    """

    id: str
    words: str
    code: str = "XDS{actor}MetadataError"


@dataclass(slots=True)
class Reading:
    """What reading a Submission or an answer found wrong on the way."""

    faults: list[Fault] = field(default_factory=list)


# --- writing


def element_of(value: RegistryObject) -> _Element:
    """`value` as ExtrinsicObject, RegistryPackage or Association."""
    match value:
        case DocumentEntry():
            return document_entry_element(value)
        case SubmissionSet():
            return submission_set_element(value)
        case Folder():
            return folder_element(value)
        case Association():
            return association_element(value)


def document_entry_element(entry: DocumentEntry) -> _Element:
    """ITI TF-3 section 4.2.3.2: a DocumentEntry as `rim:ExtrinsicObject`."""
    return _written(_opened("ExtrinsicObject", entry, entry.object_type), DOCUMENT_ENTRY, entry)


def submission_set_element(submission: SubmissionSet) -> _Element:
    """ITI TF-3 section 4.2.3.3: a SubmissionSet as `rim:RegistryPackage`."""
    return _written(_opened("RegistryPackage", submission, REGISTRY_OBJECT + "RegistryPackage"), SUBMISSION_SET, submission)


def folder_element(folder: Folder) -> _Element:
    """ITI TF-3 section 4.2.3.4: a Folder as `rim:RegistryPackage`."""
    return _written(_opened("RegistryPackage", folder, REGISTRY_OBJECT + "RegistryPackage"), FOLDER, folder)


def association_element(association: Association) -> _Element:
    """ITI TF-3 section 4.2.2: an Association as `rim:Association`."""
    made = _opened("Association", association, REGISTRY_OBJECT + "Association")
    for field_, name in _ENDS:
        made.set(name, xml.clean(getattr(association, field_)))
    return _written(made, ASSOCIATION, association)


def submission_elements(submission: Submission) -> Iterator[_Element]:
    """ITI TF-3 section 4.2.1.4: the children of `rim:RegistryObjectList`."""
    for value in submission.objects():
        yield element_of(value)


def _opened(name: str, value: RegistryObject, object_type: str) -> _Element:
    return xml.element(xml.RIM, name, id=value.entry_uuid, objectType=object_type, status=value.status)


def _written(made: _Element, kind: Kind, value: RegistryObject) -> _Element:
    for place in _WRITERS:
        for attribute in kind.attributes:
            if attribute.place == place:
                _WRITERS[place](made, attribute, getattr(value, attribute.field))
        if place == "slot":
            for name, values in value.extra:
                ebrim.slot(made, name, values)
        elif place == "description":
            _write_version(made, value)
            for node in filter(None, (kind.node, kind.limited if getattr(value, "is_limited", False) else "")):
                ebrim.node(made, node)
    return made


def _write_version(made: _Element, value: RegistryObject) -> None:
    if isinstance(value, DocumentEntry | Folder) and value.logical_id:
        xml.child(made, xml.RIM, "VersionInfo", versionName=str(value.version))


def _write_attribute(made: _Element, attribute: Attribute, value: Any) -> None:
    if value:
        made.set(attribute.key, xml.clean(str(value)))


def _write_slot(made: _Element, attribute: Attribute, value: Any) -> None:
    if attribute.multiple:
        ebrim.slot(made, attribute.key, value)
    elif value is not None and value != "":
        text = ("yes" if value else "no") if attribute.syntax is Syntax.YES_NO else str(value)
        ebrim.slot(made, attribute.key, (text,))


def _write_codes(made: _Element, attribute: Attribute, value: Any) -> None:
    codes = value if attribute.multiple else [value] if value is not None else []
    for number, code in enumerate(codes):
        ebrim.classification(made, attribute.key, number, code.code, (("codingScheme", (code.scheme,)),), code.display)


def _write_authors(made: _Element, attribute: Attribute, value: Any) -> None:
    for number, author in enumerate(value):
        slots = [("authorPerson", (author.person,)), *((name, getattr(author, field_)) for name, field_ in _AUTHOR_SLOTS)]
        ebrim.classification(made, attribute.key, number, "", slots, named=False)


def _write_identifier(made: _Element, attribute: Attribute, value: Any) -> None:
    ebrim.identifier(made, attribute.key, value, attribute.label)


_WRITERS: Final[dict[str, Callable[[_Element, Attribute, Any], None]]] = {
    "attribute": _write_attribute,
    "slot": _write_slot,
    "name": lambda made, _, value: ebrim.name(made, value),
    "description": lambda made, _, value: ebrim.description(made, value),
    "author": _write_authors,
    "code": _write_codes,
    "identifier": _write_identifier,
}
"""In the order in which the schema has them."""


# --- reading


def document_entry(element: _Element, reading: Reading | None = None) -> DocumentEntry:
    """Reads `rim:ExtrinsicObject`."""
    read = _read(element, DOCUMENT_ENTRY, reading)
    object_type = element.get("objectType", "")
    if not object_type and reading is not None:
        reading.faults.append(Fault(read["entry_uuid"], "DocumentEntry: objectType is missing"))
    return DocumentEntry(**{**read, "object_type": object_type or STABLE})


def submission_set(element: _Element, reading: Reading | None = None) -> SubmissionSet:
    """Reads `rim:RegistryPackage` of a SubmissionSet."""
    return SubmissionSet(**_read(element, SUBMISSION_SET, reading))


def folder(element: _Element, reading: Reading | None = None) -> Folder:
    """Reads `rim:RegistryPackage` of a Folder."""
    return Folder(**_read(element, FOLDER, reading))


def association(element: _Element, reading: Reading | None = None) -> Association:
    """Reads `rim:Association`."""
    ends = {field_: element.get(name, "") for field_, name in _ENDS}
    return Association(**{**_read(element, ASSOCIATION, reading), **ends})


def submission(listed: _Element, reading: Reading | None = None) -> Submission:
    """ITI TF-3 section 4.2.1.4: the objects of a `rim:RegistryObjectList`.

    What says that a package is a SubmissionSet or a Folder stands in it or beside it. What is neither is told as a fault.
    """
    reading = reading if reading is not None else Reading()
    sets, folders = packages(listed, reading)
    if len(sets) > 1:
        reading.faults.append(
            Fault(sets[1].entry_uuid, "there is more than one SubmissionSet: submit each in a message of its own")
        )
    return Submission(
        sets[0] if sets else None, document_entries(listed, reading), folders, associations(listed, reading), references(listed)
    )


def document_entries(listed: _Element, reading: Reading | None = None) -> tuple[DocumentEntry, ...]:
    """Every `rim:ExtrinsicObject` of a `rim:RegistryObjectList`."""
    return tuple(document_entry(found, reading) for found in _all(listed, "ExtrinsicObject"))


def associations(listed: _Element, reading: Reading | None = None) -> tuple[Association, ...]:
    """Every `rim:Association` of a `rim:RegistryObjectList`."""
    return tuple(association(found, reading) for found in _all(listed, "Association"))


def references(listed: _Element) -> tuple[str, ...]:
    """The id of every `rim:ObjectRef` of a `rim:RegistryObjectList`."""
    return tuple(found.get("id", "") for found in _all(listed, "ObjectRef"))


def packages(listed: _Element, reading: Reading | None = None) -> tuple[tuple[SubmissionSet, ...], tuple[Folder, ...]]:
    """ITI TF-3 sections 4.2.1.2.1 and 4.2.1.3.1: the SubmissionSets and the Folders of a `rim:RegistryObjectList`."""
    beside = defaultdict(list)
    for each in _all(listed, "Classification"):
        beside[each.get("classifiedObject", "")].append(each.get("classificationNode", ""))
    sets, folders = [], []
    for package in _all(listed, "RegistryPackage"):
        id_ = package.get("id", "")
        nodes = [*beside[id_], *(each.get("classificationNode", "") for each in _all(package, "Classification"))]
        if SUBMISSION_SET_NODE in nodes:
            sets.append(submission_set(package, reading))
        elif FOLDER_NODE in nodes:
            folders.append(folder(package, reading))
        elif reading is not None:
            reading.faults.append(Fault(id_, "a RegistryPackage has to be classified as a SubmissionSet or as a Folder"))
    return tuple(sets), tuple(folders)


def _all(listed: _Element, name: str) -> Iterator[_Element]:
    return listed.iterfind(f"{{{xml.RIM}}}{name}")


def _read(element: _Element, kind: Kind, reading: Reading | None) -> dict[str, Any]:
    parts, id_ = ebrim.read(element), element.get("id", "")
    words = list(parts.faults)
    values = {each.field: _value(element, parts, kind, each, words) for each in kind.attributes if each.field != "object_type"}
    if reading is not None:
        reading.faults += (Fault(id_, f"{kind.name}: {each}") for each in words)
    more: dict[str, Any] = {"entry_uuid": id_, "status": element.get("status", APPROVED), "extra": _extra(parts, kind)}
    if kind in (DOCUMENT_ENTRY, FOLDER):
        more["version"] = int(parts.version) if is_valid(Syntax.VERSION, parts.version) else 1
    if kind.limited:
        more["is_limited"] = kind.limited in parts.nodes
    return {**values, **more}


def _extra(parts: Parts, kind: Kind) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Slots that no row has (ITI TF-3 section 4.2.3.1.6)."""
    known = {each.key for each in kind.attributes if each.place == "slot"}
    return tuple((name, values) for name, values in parts.slots.items() if name not in known and values)


def _value(element: _Element, parts: Parts, kind: Kind, attribute: Attribute, faults: list[str]) -> Any:
    match attribute.place:
        case "attribute":
            return element.get(attribute.key, "")
        case "name":
            return parts.name
        case "description":
            return parts.description
        case "identifier":
            return parts.identifiers.get(attribute.key, "")
        case "author":
            return tuple(_author(each, faults) for each in parts.classifications.get(attribute.key, ()))
        case "code":
            return _codes(parts, attribute, faults)
        case _:
            return _slotted(parts, attribute, faults)


def _codes(parts: Parts, attribute: Attribute, faults: list[str]) -> Any:
    found = parts.classifications.get(attribute.key, ())
    codes = tuple(Code(each.represents, "".join(each.slots.get("codingScheme", ())[:1]), each.name) for each in found)
    if attribute.multiple:
        return codes
    if len(codes) > 1:
        faults.append(f"{attribute.name} is there more than once")
    return codes[0] if codes else None


def _author(parts: Parts, faults: list[str]) -> Author:
    persons = parts.slots.get("authorPerson", ())
    if len(persons) > 1:
        faults.append("an author has more than one authorPerson: each author is a Classification of its own")
    return Author("".join(persons[:1]), *(parts.slots.get(name, ()) for name, _ in _AUTHOR_SLOTS))


def _slotted(parts: Parts, attribute: Attribute, faults: list[str]) -> Any:
    values = parts.slots.get(attribute.key, ())
    if attribute.multiple:
        return values
    if attribute.syntax is Syntax.URI and len(values) > 1:  # ITI TF-3 section 4.2.3.2.27: of a long one the pieces are numbered
        return "".join(piece.partition("|")[2] for piece in sorted(values, key=lambda piece: piece.partition("|")[0].zfill(3)))
    if len(values) > 1:
        faults.append(f"{attribute.name} has more than one value")
    text = values[0] if values else ""
    match attribute.syntax:
        case Syntax.SIZE:
            return _number(text, attribute, faults)
        case Syntax.YES_NO:
            return text == "yes" if is_valid(Syntax.YES_NO, text) else None
    return text


def _number(text: str, attribute: Attribute, faults: list[str]) -> int | None:
    if not text:
        return None
    if not is_valid(Syntax.SIZE, text):
        faults.append(f"{attribute.name} has to be a number")
        return None
    return int(text)
