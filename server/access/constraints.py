"""SMART App Launch 2.2, "Finer-grained resource constraints using search parameters": the query of a scope as a condition on a resource's row.

It is compiled as a search is, of parameters of the standard that can be judged by the resource alone: no chains, `_has`, `_filter` and lists, no
value sets. What is more than that, or no parameter of the type, opens nothing.
"""

from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, FromClause, and_

from profiles.fhir import search_request
from profiles.fhir.query import Criterion, DateValue
from profiles.fhir.search_conditions import TEXTS
from profiles.fhir.search_request import SearchRefused
from profiles.r4.definitions import resource_types
from profiles.r4.terminology import BUILT_IN
from profiles.smart.scopes import Query
from server.access.consent_sql import is_indexed
from server.errors import Refused
from server.records.fhir_search.conditions import criterion_term
from server.records.fhir_search.terms import RESOURCE

_LOOKED_UP: Final = frozenset({"in", "not-in", "above", "below"})
"""Modifiers whose meaning depends on other resources."""
_WITHOUT: Final = frozenset({"not", "missing"})
"""Modifiers that are true of what has no rows."""
_NO_ROWS: Final = frozenset({"AuditEvent", "Binary"})
"""Types whose resources have no rows to be searched by."""


def is_understood(type_: str, query: Query) -> bool:
    """Whether resources of the type can be held against it."""
    return _criteria(type_, query) is not None


def opens(type_: str, query: Query) -> bool:
    """Whether a scope of this type, or of all types (`*`), opens something with it."""
    return any(is_understood(each, query) for each in (resource_types() if type_ == "*" else (type_,)))


def where(type_: str, query: Query, row: FromClause) -> ColumnElement[bool]:
    """Whether a resource of this type meets a query that `is_understood`."""
    criteria = _criteria(type_, query)
    assert criteria is not None
    tests = [criterion_term(each, type_, row, BUILT_IN).where for each in criteria]
    if any(each.modifier in _WITHOUT for each in criteria):
        tests.append(is_indexed(type_))
    return and_(*tests)


@lru_cache(maxsize=4096)
def _criteria(type_: str, query: Query) -> tuple[Criterion, ...] | None:
    if type_ in _NO_ROWS:
        return None
    try:
        found = search_request.read((type_,), query, base="", now=0)
        criteria = tuple(each for each in found.condition.conditions if isinstance(each, Criterion) and _is_plain(each))
        if not criteria or len(criteria) != len(found.condition.conditions) or len(criteria) != len(query):
            return None
        for each in criteria:
            criterion_term(each, type_, RESOURCE, BUILT_IN)
    except (SearchRefused, Refused):
        return None
    return criteria


def _is_plain(criterion: Criterion) -> bool:
    dates = (each for each in criterion.values if isinstance(each, DateValue))
    return (
        criterion.parameter.code not in TEXTS
        and criterion.parameter.type not in ("composite", "special")
        and not (criterion.parameter.type == "token" and criterion.modifier in _LOOKED_UP)
        and all(each.prefix != "ap" for each in dates)  # how far around depends on the day on which it is asked
    )
