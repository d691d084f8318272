"""Composites as SQL (FHIR R4 section 3.1.1.4.15): the values of one element together."""

from collections.abc import Sequence

from sqlalchemy import FromClause, and_, or_

from profiles.fhir.query import (
    CompositeValue,
    Criterion,
    DateValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    Text,
    TokenValue,
    Value,
)
from profiles.fhir.search_values import folded
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.ordered import on_number, on_range, unit_asked
from server.records.fhir_search.terms import COMPOSITE, Term, Test, any_of, begins, pks, probe


def composite_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """A composite parameter. Raises `NotSupported` for one that has two ranges."""
    code = criterion.parameter.code
    return any_of([_found(code, each.parts, type_, r) for each in criterion.values if isinstance(each, CompositeValue)])


def _found(code: str, parts: Sequence[Value], type_: str, r: FromClause) -> Term:
    if sum(isinstance(part, NumberValue | QuantityValue | DateValue) for part in parts) > 1:
        raise NotSupported(f"{code}: composites of two numbers are not offered; search for each of them")
    hash_ = keys.composite_hash(type_, code, [_form(code, part) for part in parts])
    row = COMPOSITE.alias()
    return Term(
        probe(row, r, row.c.hash == hash_, *(test for part in parts for test in _tests(code, part, row))),
        lambda: pks(COMPOSITE, COMPOSITE.c.hash == hash_, *(test for part in parts for test in _tests(code, part, COMPOSITE))),
    )


def _form(code: str, part: Value) -> str:
    """What of a component is in the hash."""
    match part:
        case TokenValue():
            return keys.token_form(part.system, part.code)
        case ReferenceValue() if part.url:
            return keys.reference_form("url", keys.uri_key(f"{part.url}|{part.version}" if part.version else part.url))
        case ReferenceValue():
            return keys.reference_form(part.type, part.id)
        case NumberValue() | QuantityValue():
            return unit_asked(code, part)[0]
    return ""


def _tests(code: str, part: Value, row: FromClause) -> list[Test]:
    """What of it is in a column."""
    match part:
        case NumberValue() | QuantityValue():
            return [on_number(row.c.low, row.c.high, unit_asked(code, part)[1])]
        case DateValue():
            return [on_range(row.c.low, row.c.high, part)]
        case Text():
            plain = folded(part.text)
            return [and_(row.c.text != "", begins(row.c.text, plain)) if plain else or_(False)]
    return []
