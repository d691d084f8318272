"""What of AuditEvents only their bodies say (FHIR R4, search parameters of AuditEvent): for the trail has columns for few of its parameters.

An index of them would cost more than it is worth, as every answer with patient data writes an event; so the bodies are looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from profiles.fhir.index import Index, Indexed, Reference, Token
from profiles.fhir.indexing import Indexer
from profiles.fhir.query import Criterion, Missing, ReferenceValue, Text, TokenValue, Value
from profiles.fhir.search_values import folded
from profiles.r4.definitions import resource_types
from profiles.r4.search import parameters

LOOKED: Final = (
    "action", "address", "agent", "agent-name", "agent-role", "altid", "entity", "entity-name", "entity-role", "entity-type", "policy",
    "site", "source", "type",
)  # fmt: skip
"""The parameters that are answered so."""
_MODIFIERS: Final[Mapping[str, frozenset[str]]] = {
    "token": frozenset({"", "not", "missing"}),
    "string": frozenset({"", "exact", "contains", "missing"}),
    "uri": frozenset({"", "missing"}),
    "reference": frozenset({"", "identifier", "missing", *resource_types()}),
}


def is_offered(criterion: Criterion) -> bool:
    """Whether bodies can answer it."""
    return criterion.parameter.code in LOOKED and criterion.modifier in _MODIFIERS[criterion.parameter.type]


def meets(body: bytes, criteria: Sequence[Criterion]) -> bool:
    """Whether an AuditEvent, as JSON, meets all of them (each `is_offered`)."""
    index = _indexer(frozenset(each.parameter.code for each in criteria)).index(orjson.loads(body), "")
    return all(_is_met(index, each) for each in criteria)


@lru_cache(maxsize=128)
def _indexer(codes: frozenset[str]) -> Indexer:
    return Indexer("AuditEvent", [each for code, each in parameters("AuditEvent").items() if code in codes])


def _is_met(index: Index, criterion: Criterion) -> bool:
    code, modifier = criterion.parameter.code, criterion.modifier
    if modifier == "missing":
        return all(isinstance(each, Missing) and each.missing != (code in index.values) for each in criterion.values)
    how = "exact" if criterion.parameter.type == "uri" else modifier
    found = any(_matches(asked, value, how) for asked in criterion.values for value in index.values.get(code, ()))
    return found != (modifier == "not")


def _matches(asked: Value, value: Indexed, modifier: str) -> bool:
    match asked, value:
        case TokenValue(), Token():
            return asked.system in (None, value.system) and asked.code in (None, value.code)
        case TokenValue(), Reference(identifier=Token() as identifier):  # :identifier
            return _matches(asked, identifier, "")
        case ReferenceValue(), Reference() if asked.url:
            return value.url == asked.url and asked.version in ("", value.version)
        case ReferenceValue(), Reference():
            is_it = value.id == asked.id and asked.type in ("", value.type)
            return is_it and asked.version in ("", value.version)
        case Text(), str():
            return _TEXTS[modifier](asked.text, value) if value else False
    return False


def _begins(asked: str, value: str) -> bool:
    return bool(folded(asked)) and folded(value).startswith(folded(asked))


_TEXTS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "": _begins,
    "exact": lambda asked, value: asked == value,
    "contains": lambda asked, value: bool(folded(asked)) and folded(asked) in folded(value),
}
