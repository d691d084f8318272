"""Sharing metadata between its values (`profiles.document`) and JSON, and what of it queries look for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import orjson

from profiles.document import OFFLINE, Author, Code, DocumentEntry, Extra, Folder, SubmissionSet

Kind = Literal["document", "submission", "folder"]
Registered = DocumentEntry | SubmissionSet | Folder

_CLASSES: Final[Mapping[Kind, type[DocumentEntry] | type[SubmissionSet] | type[Folder]]] = {
    "document": DocumentEntry, "submission": SubmissionSet, "folder": Folder,
}  # fmt: skip
_CODE: Final = frozenset({"class_code", "type_code", "format_code", "facility_type", "practice_setting", "content_type"})
_CODES: Final = frozenset({"confidentiality", "event_codes", "codes"})
_LISTS: Final = frozenset({"reference_ids", "source_patient_info", "intended_recipients"})


def kind_of(value: Registered) -> Kind:
    """Which of the three it is."""
    match value:
        case DocumentEntry():
            return "document"
        case SubmissionSet():
            return "submission"
        case Folder():
            return "folder"


def dumped(value: object) -> bytes:
    """A value as JSON."""
    return orjson.dumps(value)


def loaded(kind: Kind, body: bytes, **columns: Any) -> Registered:
    """The value of a JSON; what `columns` say wins."""
    values = orjson.loads(body)
    for name, typed in _TYPED:
        if name in values:
            values[name] = typed(values[name])
    values.update(columns)
    return _CLASSES[kind](**values)


def _code(value: Mapping[str, str] | None) -> Code | None:
    return Code(**value) if value is not None else None


def _codes(values: Sequence[Mapping[str, str]]) -> tuple[Code, ...]:
    return tuple(Code(**each) for each in values)


def _authors(values: Sequence[Mapping[str, Any]]) -> tuple[Author, ...]:
    return tuple(map(_author, values))


def _author(value: Mapping[str, Any]) -> Author:
    person, *lists = value.values()
    return Author(person, *map(tuple, lists))


def _extra(values: Sequence[tuple[str, Sequence[str]]]) -> Extra:
    return tuple((slot, tuple(each)) for slot, each in values)


_TYPED: Final[tuple[tuple[str, Callable[[Any], Any]], ...]] = (
    *((name, _code) for name in sorted(_CODE)), *((name, _codes) for name in sorted(_CODES)), *((name, tuple) for name in sorted(_LISTS)),
    ("authors", _authors), ("extra", _extra),
)  # fmt: skip
"""What JSON has another form for."""


def terms(value: Registered) -> Iterator[tuple[str, str, str]]:
    """Attribute, value and coding scheme of all that queries look for and that has no column of its own."""
    for name in (*_CODE, *_CODES):
        given = getattr(value, name, None)
        for code in () if given is None else given if isinstance(given, tuple) else (given,):
            yield name, code.code, code.scheme
    for author in getattr(value, "authors", ()):
        yield "authors", author.person, ""
    for reference in getattr(value, "reference_ids", ()):
        yield "reference_ids", reference, ""
    if isinstance(value, DocumentEntry) and value.title:
        yield "title", value.title, ""
    if isinstance(value, DocumentEntry) and value.availability == OFFLINE:
        yield "availability", OFFLINE, ""
