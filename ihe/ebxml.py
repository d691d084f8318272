"""Document sharing metadata in ebRIM 3.0, both ways (ITI TF-3 section 4.2), by the tables of `ihe.metadata`.

Reading what was written gives the same value. Reading takes what is there: what is missing or wrong by IHE's rules is told by
`ihe.metadata_rules`, from the value and from the `faults` that reading collects.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from lxml import etree
from lxml.etree import _Element

from ihe import ebrim, xml
from ihe.ebrim import REGISTRY_OBJECT, Parts
from ihe.metadata import (
    ASSOCIATION,
    DOCUMENT_ENTRY,
    FOLDER,
    FOLDER_NODE,
    KINDS,
    SUBMISSION_SET,
    SUBMISSION_SET_NODE,
    Attribute,
    Kind,
    Place,
)
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
_LIST: Final = f"<rim:RegistryObjectList {' '.join(f'xmlns:{prefix}={uri!r}' for prefix, uri in xml.PREFIXES.items())}>"
_KEPT: Final = 4096
"""Codes and authors whose text is kept: many objects have the same."""
_ENDS: Final = (("type", "associationType"), ("source", "sourceObject"), ("target", "targetObject"))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an object, in words; `id` is the object's as it was sent.

    `code` is one of ITI TF-3 table 4.2.4.1-2, with `{actor}` where it names who found it. `sent` as in `RegistryError`.
    """

    id: str
    words: str
    code: str = "XDS{actor}MetadataError"
    sent: str = ""


@dataclass(slots=True)
class Reading:
    """What reading a Submission or an answer found wrong on the way."""

    faults: list[Fault] = field(default_factory=list)


# --- writing


def element_of(value: RegistryObject) -> _Element:
    """`value` as ExtrinsicObject, RegistryPackage or Association."""
    return listed((text_of(value),))[0]


def listed(texts: Iterable[str]) -> _Element:
    """ITI TF-3 section 4.2.1.4: a `rim:RegistryObjectList` of what `text_of` gave, and of the like."""
    return etree.fromstring(f"{_LIST}{''.join(texts)}</rim:RegistryObjectList>", etree.XMLParser(huge_tree=True))


def text_of(value: RegistryObject) -> str:
    """`value` as `element_of` has it, as text, with the prefix `rim`, which is not declared in it."""
    match value:
        case DocumentEntry():  # ITI TF-3 section 4.2.3.2
            return _written("ExtrinsicObject", value, value.object_type, DOCUMENT_ENTRY)
        case SubmissionSet():  # ITI TF-3 section 4.2.3.3
            return _written("RegistryPackage", value, f"{REGISTRY_OBJECT}RegistryPackage", SUBMISSION_SET)
        case Folder():  # ITI TF-3 section 4.2.3.4
            return _written("RegistryPackage", value, f"{REGISTRY_OBJECT}RegistryPackage", FOLDER)
        case Association():  # ITI TF-3 section 4.2.2
            return _written("Association", value, f"{REGISTRY_OBJECT}Association", ASSOCIATION)


def submission_elements(submission: Submission) -> Iterator[_Element]:
    """ITI TF-3 section 4.2.1.4: the children of `rim:RegistryObjectList`."""
    yield from list(listed(map(text_of, submission.objects())))


def _written(name: str, value: RegistryObject, object_type: str, kind: Kind) -> str:
    pairs = [("id", value.entry_uuid), ("objectType", object_type), ("status", value.status)]
    if isinstance(value, Association):
        pairs += [(attribute, getattr(value, field_)) for field_, attribute in _ENDS]
    pairs += [
        (each.key, str(said)) for each in kind.attributes if each.place == "attribute" and (said := getattr(value, each.field))
    ]
    attributes = " ".join([f'{key}="{xml.escaped(text)}"' for key, text in dict(pairs).items()])
    return f"<rim:{name} {attributes}>{''.join(_parts(value, kind))}</rim:{name}>"


def _parts(value: RegistryObject, kind: Kind) -> Iterator[str]:
    owner = value.entry_uuid
    for place, attributes in _ORDERED[kind.name]:
        for attribute, write in attributes:
            if (said := getattr(value, attribute.field)) or said == 0:  # what is absent is empty, or None
                yield write(owner, attribute, said)
        if place == "slot":
            for name, values in value.extra:
                yield ebrim.slot(name, values)
        elif place == "description":
            if isinstance(value, DocumentEntry | Folder) and value.logical_id:
                yield f'<rim:VersionInfo versionName="{value.version}"/>'
            for node in filter(None, (kind.node, kind.limited if getattr(value, "is_limited", False) else "")):
                yield ebrim.node(owner, node)


def _slot(_: str, attribute: Attribute, value: Any) -> str:
    if attribute.multiple:
        return ebrim.slot(attribute.key, value)
    text = ("yes" if value else "no") if attribute.syntax is Syntax.YES_NO else str(value)
    return ebrim.slot(attribute.key, (text,))


def _coded(owner: str, attribute: Attribute, value: Any) -> str:
    codes = enumerate(value if attribute.multiple else (value,))
    return "".join([ebrim.classification(owner, attribute.key, number, code.code, _of_code(code)) for number, code in codes])


def _authored(owner: str, attribute: Attribute, value: Any) -> str:
    return "".join(
        [ebrim.classification(owner, attribute.key, number, "", _of_author(each)) for number, each in enumerate(value)]
    )


@lru_cache(maxsize=_KEPT)
def _of_code(code: Code) -> str:
    return ebrim.slot("codingScheme", (code.scheme,)) + ebrim.name(code.display, always=True)


@lru_cache(maxsize=_KEPT)
def _of_author(author: Author) -> str:
    persons = ebrim.slot("authorPerson", (author.person,))
    return persons + "".join([ebrim.slot(name, getattr(author, field_)) for name, field_ in _AUTHOR_SLOTS])


_WRITERS: Final[dict[Place, Callable[[str, Attribute, Any], str]]] = {
    "slot": _slot,
    "name": lambda owner, attribute, value: ebrim.name(value),
    "description": lambda owner, attribute, value: ebrim.description(value),
    "author": _authored,
    "code": _coded,
    "identifier": lambda owner, attribute, value: ebrim.identifier(owner, attribute.key, value, attribute.label),
}
"""In the order in which the schema has them."""
_ORDERED: Final = {
    kind.name: tuple(
        (place, tuple((each, write) for each in kind.attributes if each.place == place)) for place, write in _WRITERS.items()
    )
    for kind in KINDS
}
"""The rows of each kind in that order, each with what writes it."""


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
