"""Registry Stored Query, ITI-18 (ITI TF-2 section 3.18): request and response, both ways.

`parse_request` gives a `StoredQuery`, checked against the table of `ihe.stored_queries`; the typed queries are made from it in
`ihe.find_documents`. What is wrong with a query is raised as `RegistryError`, ready for `response`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from lxml.etree import _Element

from ihe import ebrs, ebxml, xml
from ihe.ebrs import RegistryError
from ihe.query_values import read_code, read_values, write_text
from ihe.stored_queries import STORED_QUERIES, Kind, Parameter, StoredQueryDefinition
from profiles.document import Association, DocumentEntry, Folder, RegistryObject, SubmissionSet

REQUEST_ACTION: Final = "urn:ihe:iti:2007:RegistryStoredQuery"
RESPONSE_ACTION: Final = "urn:ihe:iti:2007:RegistryStoredQueryResponse"


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
        found = STORED_QUERIES.get(self.query_id)
        if found is None:
            raise RegistryError("XDSUnknownStoredQuery", "the AdhocQuery id is not a stored query that this registry knows")
        return found

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a parameter that is not conjunctive; empty if it is absent."""
        return tuple(value for slot in self.parameters.get(name, ()) for value in slot)

    def value(self, name: str) -> str:
        """The value of a single-valued parameter; empty if it is absent."""
        return next(iter(self.values(name)), "")


def parse_request(body: _Element) -> StoredQuery:
    """ITI TF-2 section 3.18.4.1.2: `query:AdhocQueryRequest` as a checked StoredQuery. Raises `RegistryError`."""
    if body.tag != f"{{{xml.QUERY}}}AdhocQueryRequest":
        raise RegistryError("XDSRegistryError", "the message must be query:AdhocQueryRequest")
    option = body.find(f"{{{xml.QUERY}}}ResponseOption")
    adhoc = body.find(f"{{{xml.RIM}}}AdhocQuery")
    if adhoc is None:
        raise RegistryError("XDSRegistryError", "the request has no rim:AdhocQuery")
    returned = "" if option is None else option.get("returnType", "")
    if returned not in tuple(ReturnType):
        raise RegistryError("XDSRegistryError", "ResponseOption/@returnType must be LeafClass or ObjectRef")
    parameters: dict[str, list[list[str]]] = {}
    for slot in adhoc.iterfind(f"{{{xml.RIM}}}Slot"):
        name = slot.get("name", "")
        texts = [value.text or "" for value in slot.iterfind(f"{{{xml.RIM}}}ValueList/{{{xml.RIM}}}Value")]
        # Only what the query knows is read: a parameter that it does not know may have any form.
        values = [value for text in texts for value in read_values(text, name)] if _is_known(adhoc.get("id", ""), name) else texts
        if values:
            parameters.setdefault(name, []).append(values)
    query = StoredQuery(adhoc.get("id", ""), ReturnType(returned), parameters, adhoc.get("home", ""))
    check(query)
    return query


def _is_known(query_id: str, name: str) -> bool:
    definition = STORED_QUERIES.get(query_id)
    return definition is not None and any(parameter.name == name for parameter in definition.parameters)


def check(query: StoredQuery) -> None:
    """ITI TF-2 section 3.18.4.1.2.3.7: the query against its row of the table. Raises `RegistryError`."""
    definition = query.definition
    for parameter in definition.parameters:
        _check_parameter(parameter, query.parameters.get(parameter.name, ()))
    if definition.exactly_one_of:
        given = [name for name in definition.exactly_one_of if name in query.parameters]
        choice = " or ".join(definition.exactly_one_of)
        if not given:
            raise RegistryError("XDSStoredQueryMissingParam", f"{definition.name} needs {choice}")
        if len(given) > 1:
            raise RegistryError("XDSStoredQueryParamNumber", f"{definition.name} takes {choice}, not both")


def _check_parameter(parameter: Parameter, slots: Sequence[Sequence[str]]) -> None:
    name = parameter.name
    if not slots and parameter.required:
        raise RegistryError("XDSStoredQueryMissingParam", f"the required parameter {name} is missing")
    if len(slots) > 1 and not parameter.conjunctive:
        raise RegistryError("XDSStoredQueryParamNumber", f"the parameter {name} must not be repeated")
    for slot in slots:
        if len(slot) > 1 and not parameter.multiple:
            raise RegistryError("XDSStoredQueryParamNumber", f"the parameter {name} takes one value")
        for value in slot:
            if parameter.kind is Kind.CODE:
                read_code(value, name)
            elif parameter.kind is Kind.TIME and not _is_time(value):
                raise RegistryError("XDSRegistryError", f"the value of {name} must be a time YYYY[MM[DD[hh[mm[ss]]]]]")


def _is_time(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) in (4, 6, 8, 10, 12, 14)


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
                text = value if parameter.kind is Kind.TIME else write_text(value, listed=parameter.multiple)
                xml.child(listed, xml.RIM, "Value", text)
    return made


def response(
    objects: Sequence[RegistryObject], return_type: ReturnType = ReturnType.LEAF_CLASS, errors: Sequence[RegistryError] = ()
) -> _Element:
    """ITI TF-2 section 3.18.4.1.3: the answer as `query:AdhocQueryResponse`; its status follows from objects and errors."""
    made = xml.element(xml.QUERY, "AdhocQueryResponse")
    ebrs.fill(made, ebrs.response_to(errors, bool(objects)))
    listed = xml.child(made, xml.RIM, "RegistryObjectList")
    for registry_object in objects:
        if return_type is ReturnType.LEAF_CLASS:
            listed.append(ebxml.element_of(registry_object))
        else:
            reference = xml.child(listed, xml.RIM, "ObjectRef", id=registry_object.entry_uuid)
            if registry_object.home_community_id:
                reference.set("home", xml.clean(registry_object.home_community_id))
    return made


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
