"""The attributes of one object of a submission, held against the tables (ITI TF-3 sections 4.2.3 and 4.3.1)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ihe.ebxml import Fault
from ihe.metadata import ASSOCIATION, DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, Attribute, By, Kind
from ihe.metadata_syntax import FORMS, Syntax, is_valid
from profiles.document import (
    ON_DEMAND,
    STABLE,
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    RegistryObject,
    SubmissionSet,
    is_uuid,
)

KIND_OF: Final[Mapping[type, Kind]] = {
    DocumentEntry: DOCUMENT_ENTRY,
    SubmissionSet: SUBMISSION_SET,
    Folder: FOLDER,
    Association: ASSOCIATION,
}
"""The table of each kind of object."""

# ITI TF-3 section 4.2.3.1.1: what a Slot and an identifier may hold
_LONGEST: Final = 256
# ITI TF-3 sections 4.2.3.2.24, 4.2.3.3.11 and 4.2.3.4.8; comments have no limit
_LONGEST_TITLE: Final[Mapping[str, int]] = {"DocumentEntry": 128, "SubmissionSet": 256, "Folder": 256}
# ITI TF-3 section 4.2.3.2.30, and what each transaction is for
_OBJECT_TYPES: Final[Mapping[By, frozenset[str]]] = {
    By.PROVIDE: frozenset({STABLE}),
    By.REGISTER: frozenset({STABLE}),
    By.UPDATE: frozenset({STABLE, ON_DEMAND}),
    By.ON_DEMAND: frozenset({ON_DEMAND}),
    By.LIMITED: frozenset({STABLE}),
}
_EMPTY_SHA_1: Final = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
# ITI TF-3 section 4.2.3.2.23: fields that a patient has one of
_SINGLE_INFO: Final = frozenset({"PID-7", "PID-8"})


def faults(value: RegistryObject, by: By) -> Iterator[Fault]:
    """What is wrong with the attributes of `value` in the transaction `by`."""
    kind = KIND_OF[type(value)]
    for words in _words(value, kind, by):
        yield Fault(value.entry_uuid, f"{kind.name}{words}")


def _words(value: RegistryObject, kind: Kind, by: By) -> Iterator[str]:
    """Each begins with `.attribute` or a blank."""
    column = By.ON_DEMAND if by is By.UPDATE and getattr(value, "object_type", "") == ON_DEMAND else by
    if not value.entry_uuid:
        yield " has no id: give it a UUID or a symbolic id"
    elif is_uuid(value.entry_uuid) and not is_valid(Syntax.UUID, value.entry_uuid):
        yield f" has an id that has to be {FORMS[Syntax.UUID]}"
    for attribute in kind.attributes:
        yield from _attribute(attribute, getattr(value, attribute.field), column)
    yield from _extra(value)
    if not isinstance(value, Association):
        yield from _limited(value, by)
        if len(value.title) > _LONGEST_TITLE[kind.name]:
            yield f".title is longer than {_LONGEST_TITLE[kind.name]} characters: shorten it"
    if isinstance(value, DocumentEntry):
        yield from _entry(value, by)


def _attribute(attribute: Attribute, value: Any, by: By) -> Iterator[str]:
    if value in ("", None, ()):
        if by in attribute.required:
            yield f".{attribute.name} is missing: this transaction requires it"
        return
    if by in attribute.prohibited:
        yield f".{attribute.name} is not allowed in this transaction: leave it out"
    for one in value if attribute.multiple else (value,):
        for words in _value(attribute, one):
            yield f".{attribute.name} {words}"


def _value(attribute: Attribute, value: Any) -> Iterator[str]:
    match value:
        case Code():
            yield from _code(value)
        case Author():
            yield from _author(value)
        case str() if not is_valid(attribute.syntax, value):
            yield f"has to be {FORMS[attribute.syntax]}"
        case str() if attribute.place in ("slot", "identifier") and len(value) > _LONGEST:
            yield f"has a value of more than {_LONGEST} characters: shorten it"


def _code(code: Code) -> Iterator[str]:
    """ITI TF-3 section 4.2.3.1.2: a code, its scheme and its display name, none of them empty."""
    for what, text in (("code (nodeRepresentation)", code.code), ("codingScheme", code.scheme), ("display name", code.display)):
        if not text:
            yield f"has no {what}"


def _author(author: Author) -> Iterator[str]:
    """ITI TF-3 section 4.2.3.1.4."""
    if not (author.person or author.institutions or author.telecoms):
        yield "has to have an authorPerson, an authorInstitution or an authorTelecommunication"
    parts: Iterable[tuple[str, Syntax, Iterable[str]]] = (
        ("authorPerson", Syntax.XCN, filter(None, (author.person,))),
        ("authorInstitution", Syntax.XON, author.institutions),
        ("authorTelecommunication", Syntax.XTN, author.telecoms),
    )
    for name, syntax, texts in parts:
        if not all(is_valid(syntax, text) for text in texts):
            yield f"has an {name} that has to be {FORMS[syntax]}"


def _extra(value: RegistryObject) -> Iterator[str]:
    """ITI TF-3 section 4.2.3.1.6: what no table names is taken under a name that is a URN."""
    for name, texts in value.extra:
        if not name.startswith("urn:"):
            yield f" has the Slot {name[:64]}, which is no attribute of it: the name of extra metadata has to be a URN"
        if any(len(text) > _LONGEST for text in texts):
            yield f" has the Slot {name[:64]} with a value of more than {_LONGEST} characters: shorten it"


def _limited(value: DocumentEntry | SubmissionSet | Folder, by: By) -> Iterator[str]:
    """ITI TF-3 table 4.3.1-3: limitedMetadata."""
    if value.is_limited and by is not By.LIMITED:
        yield ".limitedMetadata is not allowed in this transaction: send full metadata"
    if not value.is_limited and by is By.LIMITED:
        yield ".limitedMetadata is missing: classify the object by its node, or send full metadata"


def _entry(entry: DocumentEntry, by: By) -> Iterator[str]:
    for rule in _OF_ENTRIES:
        yield from rule(entry, by)


def _object_type(entry: DocumentEntry, by: By) -> Iterator[str]:
    if is_valid(Syntax.UUID, entry.object_type) and entry.object_type not in _OBJECT_TYPES[by]:
        wanted = " or ".join(name for name, urn in (("stable", STABLE), ("on-demand", ON_DEMAND)) if urn in _OBJECT_TYPES[by])
        yield f".objectType has to be the UUID of {wanted} Document Entries in this transaction"


def _empty(entry: DocumentEntry, _: By) -> Iterator[str]:
    """A document without bytes has the hash of nothing, and no other has it (ITI TF-3 section 4.2.3.2.10)."""
    if entry.hash and entry.size is not None and (entry.size == 0) != (entry.hash.lower() == _EMPTY_SHA_1):
        yield ".hash and DocumentEntry.size contradict each other: one of them is of an empty document"


def _single_info(entry: DocumentEntry, _: By) -> Iterator[str]:
    given = Counter(text.partition("|")[0] for text in entry.source_patient_info)
    for name in sorted(_SINGLE_INFO):
        if given[name] > 1:
            yield f".sourcePatientInfo has {name} more than once"


_OF_ENTRIES: Final[tuple[Callable[[DocumentEntry, By], Iterator[str]], ...]] = (_object_type, _empty, _single_info)
