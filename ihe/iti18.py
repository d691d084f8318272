"""Registry Stored Query, ITI-18 (ITI TF-2 section 3.18): request and response, both ways.

`parse_request` gives a `StoredQuery`, checked against the table of `ihe.stored_queries`; what it selects by says `ihe.criteria`.
What is wrong with a query is raised as `RegistryError`, ready for `response`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from lxml import etree
from lxml.etree import _Element

from ihe import ebrs, ebxml, xml
from ihe.ebrs import RegistryError
from ihe.query_values import read_code, read_values, write_text
from ihe.stored_queries import MULTI_PATIENT_QUERIES, STORED_QUERIES, Kind, Parameter, StoredQueryDefinition
from profiles.document import APPROVED, DEPRECATED, Association, DocumentEntry, Folder, RegistryObject, SubmissionSet

REQUEST_ACTION: Final = "urn:ihe:iti:2007:RegistryStoredQuery"
RESPONSE_ACTION: Final = "urn:ihe:iti:2007:RegistryStoredQueryResponse"
_DEFINITIONS: Final = STORED_QUERIES | MULTI_PATIENT_QUERIES
_STATUSES: Final = (APPROVED, DEPRECATED)
_MOST_VALUES: Final = 1000
"""That select by attributes; of ids, which are looked up one by one, there may be more."""
_LONGEST_PATTERN: Final = 1000
_BARE: Final = (Kind.FROM, Kind.TO, Kind.NUMBER)
"""Written without quotes."""


class ReturnType(StrEnum):
    """ITI TF-2 section 3.18.4.1.2.2: whole objects, or only their ids."""

    LEAF_CLASS = "LeafClass"
    OBJECT_REF = "ObjectRef"


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """A stored query as asked: parameter name to its slots; the values of one slot are alternatives, several slots all hold."""

    query_id: str
    return_type: ReturnType
    parameters: Mapping[str, Sequence[Sequence[str]]]
    home_community_id: str = ""

    @property
    def definition(self) -> StoredQueryDefinition:
        """Its row in the table. Raises `RegistryError` XDSUnknownStoredQuery."""
        found = _DEFINITIONS.get(self.query_id)
        if found is None:
            raise _unknown()
        return found

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a parameter that is not conjunctive; empty if it is absent."""
        return tuple(value for slot in self.parameters.get(name, ()) for value in slot)

    def value(self, name: str) -> str:
        """The value of a single-valued parameter; empty if it is absent."""
        return next(iter(self.values(name)), "")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object's id where no more of it is asked for (ITI TF-2 section 3.18.4.1.2.3.1)."""

    entry_uuid: str
    home_community_id: str = ""


class Referable(Protocol):
    """What an ObjectRef can be made of."""

    @property
    def entry_uuid(self) -> str: ...
    @property
    def home_community_id(self) -> str: ...


def parse_request(body: _Element, known: Mapping[str, StoredQueryDefinition] = STORED_QUERIES) -> StoredQuery:
    """ITI TF-2 section 3.18.4.1.2: `query:AdhocQueryRequest` as a checked StoredQuery, one of `known`. Raises `RegistryError`."""
    if body.tag != f"{{{xml.QUERY}}}AdhocQueryRequest":
        raise RegistryError("XDSRegistryError", "the message must be query:AdhocQueryRequest")
    option = body.find(f"{{{xml.QUERY}}}ResponseOption")
    adhoc = body.find(f"{{{xml.RIM}}}AdhocQuery")
    if adhoc is None:
        raise RegistryError("XDSRegistryError", "the request has no rim:AdhocQuery")
    definition = known.get(adhoc.get("id", "").strip())
    if definition is None:
        raise _unknown()
    returned = "" if option is None else option.get("returnType", "")
    if returned not in tuple(ReturnType):
        raise RegistryError("XDSRegistryError", "ResponseOption/@returnType must be LeafClass or ObjectRef")
    query = StoredQuery(definition.id, ReturnType(returned), _parameters(adhoc, definition), adhoc.get("home", ""))
    check(query)
    return query


def _parameters(adhoc: _Element, definition: StoredQueryDefinition) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Of the Slots those that the query knows: one that it does not know may have any form."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for slot in adhoc.iterfind(f"{{{xml.RIM}}}Slot"):
        parameter = definition.parameter(slot.get("name", ""))
        if parameter is None:
            continue
        texts = [value.text or "" for value in slot.iterfind(f"{{{xml.RIM}}}ValueList/{{{xml.RIM}}}Value")]
        values = [value for text in texts for value in read_values(text, parameter.name)]
        if parameter.kind is Kind.STATUS:  # section 3.18.4.1.2.3.6: what is not understood is as if it were not there
            values = [value for value in values if value in _STATUSES]
        if values:
            found[parameter.name] = (*found.get(parameter.name, ()), tuple(values))
    return found


def check(query: StoredQuery) -> None:
    """ITI TF-2 section 3.18.4.1.2.3.7: the query against its row of the table. Raises `RegistryError`."""
    definition = query.definition
    for parameter in definition.parameters:
        _check_parameter(parameter, query.parameters.get(parameter.name, ()))
    given = [name for name in definition.exactly_one_of if name in query.parameters]
    choice = " or ".join(definition.exactly_one_of)
    if definition.exactly_one_of and not given:
        raise RegistryError("XDSStoredQueryMissingParam", f"{definition.name} needs {choice}")
    if len(given) > 1:
        raise RegistryError("XDSStoredQueryParamNumber", f"{definition.name} takes {choice}, not several of them")
    if definition.at_least_one_of and not any(name in query.parameters for name in definition.at_least_one_of):
        raise RegistryError(
            "XDSStoredQueryMissingParam", f"{definition.name} needs one of {', '.join(definition.at_least_one_of)}"
        )
    selecting = (each.name for each in definition.parameters if each.attribute and each.name not in given)
    if sum(len(query.values(name)) for name in selecting) > _MOST_VALUES:
        raise RegistryError(
            "XDSRegistryError", f"a query takes {_MOST_VALUES} values at most to select by: ask in several queries"
        )


def _check_parameter(parameter: Parameter, slots: Sequence[Sequence[str]]) -> None:
    name = parameter.name
    if not slots and parameter.required:
        raise RegistryError(
            "XDSStoredQueryMissingParam", f"the required parameter {name} is missing, or has no value that is understood"
        )
    if len(slots) > 1 and not parameter.conjunctive:
        raise RegistryError("XDSStoredQueryParamNumber", f"the parameter {name} must not be repeated")
    for slot in slots:
        if len(slot) > 1 and not parameter.multiple:
            raise RegistryError("XDSStoredQueryParamNumber", f"the parameter {name} takes one value")
        for value in slot:
            _check_value(parameter, value)


def _check_value(parameter: Parameter, value: str) -> None:
    match parameter.kind:
        case Kind.CODE:
            read_code(value, parameter.name)
        case Kind.FROM | Kind.TO if not _is_time(value):
            raise RegistryError("XDSRegistryError", f"the value of {parameter.name} must be a time YYYY[MM[DD[hh[mm[ss]]]]]")
        case Kind.NUMBER if value not in ("1", "2"):
            raise RegistryError("XDSRegistryError", f"the value of {parameter.name} must be 1 or 2")
        case Kind.PATTERN if len(value) > _LONGEST_PATTERN:
            raise RegistryError(
                "XDSRegistryError", f"a value of {parameter.name} must not be longer than {_LONGEST_PATTERN} characters"
            )


def _is_time(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) in (4, 6, 8, 10, 12, 14)


def _unknown() -> RegistryError:
    return RegistryError("XDSUnknownStoredQuery", "the AdhocQuery id is not a stored query that this transaction knows")


def request(query: StoredQuery) -> _Element:
    """ITI TF-2 section 3.18.4.1.2: `query` as `query:AdhocQueryRequest`. Each value of a list gets a Value of its own."""
    kinds = {parameter.name: parameter for parameter in query.definition.parameters}
    made = xml.element(xml.QUERY, "AdhocQueryRequest")
    xml.child(made, xml.QUERY, "ResponseOption", returnComposedObjects="true", returnType=query.return_type)
    adhoc = xml.child(made, xml.RIM, "AdhocQuery", id=query.query_id)
    if query.home_community_id:
        adhoc.set("home", query.home_community_id)
    for name, slots in query.parameters.items():
        parameter = kinds.get(name, Parameter(name))
        for slot in slots:
            listed = xml.child(xml.child(adhoc, xml.RIM, "Slot", name=name), xml.RIM, "ValueList")
            for value in slot:
                text = value if parameter.kind in _BARE else write_text(value, listed=parameter.multiple)
                xml.child(listed, xml.RIM, "Value", text)
    return made


def response(
    objects: Iterable[RegistryObject | ObjectRef],
    return_type: ReturnType = ReturnType.LEAF_CLASS,
    errors: Sequence[RegistryError] = (),
) -> bytes:
    """ITI TF-2 section 3.18.4.1.3: the answer as `query:AdhocQueryResponse`, in UTF-8; its status follows from objects and errors.

    Of an object of which only the id is there an ObjectRef is written. It is made as text: an answer may have thousands of objects.
    """
    whole = return_type is ReturnType.LEAF_CLASS
    texts = [ebxml.text_of(each) if whole and not isinstance(each, ObjectRef) else _reference(each) for each in objects]
    made = xml.element(xml.QUERY, "AdhocQueryResponse")
    ebrs.fill(made, ebrs.response_to(errors, bool(texts)))
    xml.child(made, xml.RIM, "RegistryObjectList")
    before, empty, after = etree.tostring(made, encoding="UTF-8", xml_declaration=False).partition(b"<rim:RegistryObjectList/>")
    return b"".join((before, empty[:-2], b">", "".join(texts).encode(), b"</rim:RegistryObjectList>", after))


def _reference(to: Referable) -> str:
    home = f' home="{xml.escaped(to.home_community_id)}"' if to.home_community_id else ""
    return f'<rim:ObjectRef id="{xml.escaped(to.entry_uuid)}"{home}/>'


@dataclass(frozen=True, slots=True)
class QueryResponse:
    """An answer as a client reads it: `object_refs` are ids, filled when ObjectRef was asked for."""

    status: str
    errors: tuple[RegistryError, ...] = ()
    entries: tuple[DocumentEntry, ...] = ()
    submission_sets: tuple[SubmissionSet, ...] = ()
    associations: tuple[Association, ...] = ()
    object_refs: tuple[str, ...] = field(default=())
    folders: tuple[Folder, ...] = ()


def parse_response(body: _Element) -> QueryResponse:
    """Reads `query:AdhocQueryResponse`, and takes the metadata as it is. Raises `RegistryError` where it is another message."""
    if body.tag != f"{{{xml.QUERY}}}AdhocQueryResponse":
        raise RegistryError("XDSRegistryError", "the answer is not query:AdhocQueryResponse")
    answer = ebrs.read(body)
    listed = body.find(f"{{{xml.RIM}}}RegistryObjectList")
    if listed is None:
        return QueryResponse(answer.status, answer.errors)
    sets, folders = ebxml.packages(listed)
    return QueryResponse(
        answer.status,
        answer.errors,
        ebxml.document_entries(listed),
        sets,
        ebxml.associations(listed),
        ebxml.references(listed),
        folders,
    )
