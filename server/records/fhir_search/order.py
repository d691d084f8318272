"""Sorting (FHIR R4 section 3.1.1.5.2): by columns of the resource, by rows of an index, along references; what has no value comes last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, String, and_, case, func, or_, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.indexing import CATALOGUED
from profiles.fhir.query import Search, SortKey
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.matches import Allowed, Key
from server.records.fhir_search.terms import DATE, QUANTITY, REFERENCE, RESOURCE, TEXT, Test

Value = ColumnElement[Any]
_ORDERED: Final = {
    "token": (TEXT, "folded", "exact", keys.CODE), "string": (TEXT, "folded", "exact", ""), "uri": (TEXT, "folded", "exact", ""),
    "date": (DATE, "low", "high", ""), "number": (QUANTITY, "low", "high", ""), "quantity": (QUANTITY, "low", "high", ""),
}  # fmt: skip
"""Parameter type -> the table with its values in their order: what is sorted by, what then, what the parameter's name ends with."""


@dataclass(frozen=True, slots=True)
class IndexOrder:
    """Rows of an index in the order of `key`; `tests` leave one row of each resource that has any."""

    rows: FromClause
    key: Value
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key. `value` is its value over a resource, NULL for none where `is_nullable`; `index`, if there is one, makes the order itself.

    `column`: it is a column of `resource` that an index has in this order; `there` is true of those that have a value.
    """

    descending: bool
    value: Callable[[FromClause], Value]
    is_nullable: bool = True
    index: Callable[[], IndexOrder] | None = None
    column: str = ""
    there: Callable[[FromClause], Test] | None = None


def order_keys(search: Search, type_: str, allowed: Allowed) -> tuple[OrderKey, ...]:
    """The keys of a search; without any the clinical date, newest first, or of several types the last update."""
    if not search.sort:
        column = "date" if len(search.types) == 1 else "updated"
        return (OrderKey(True, lambda r: r.c[column], is_nullable=False, column=column),)
    return tuple(_key(each, type_, allowed) for each in search.sort)


def _key(key: SortKey, type_: str, allowed: Allowed) -> OrderKey:
    code, descending = key.parameter.code, key.descending
    if key.chain:
        return OrderKey(descending, lambda r: _chained(key, type_, r, allowed))
    if code == "_id":
        return OrderKey(descending, lambda r: bytewise(r.c.id), is_nullable=False)
    if code == "_lastUpdated":
        return OrderKey(descending, lambda r: r.c.updated, is_nullable=False, column="updated")
    if type_ == "ImagingStudy" and code in CATALOGUED:
        raise NotSupported(f"{code}: studies are not sorted by what they have many of; sort by started or _lastUpdated")
    if code == CLINICAL_DATE.get(type_):
        return OrderKey(
            descending, lambda r: case((_dated(r), r.c.date)), column="date", there=_dated
        )  # fmt: skip
    index = _index(key, type_) if key.parameter.type in _ORDERED else None
    return OrderKey(descending, lambda r: _own(key, type_, r), index=index)


def _dated(r: FromClause) -> Test:
    return or_(r.c.date != 0, r.c.date_end != 0)


def _rows(key: SortKey, type_: str) -> tuple[FromClause, Value, Value, Test]:
    """An alias with the values of a key's parameter: what is sorted by, what then, and which rows."""
    table, first, second, ending = _ORDERED[key.parameter.type]
    row, code = table.alias(), key.parameter.code
    if table is QUANTITY:
        return row, row.c[first], row.c[second], row.c.unit == keys.unit_hash(type_, code, "")
    return row, row.c[first], row.c[second], row.c.parameter == keys.parameter_hash(type_, code + ending)


def _own(key: SortKey, type_: str, r: FromClause) -> Value:
    """The least value of a resource, descending the greatest."""
    edge = func.max if key.descending else func.min
    if key.parameter.type == "reference":
        row = REFERENCE.alias()
        value: Value = bytewise(row.c.target_type + "/" + row.c.target_id)
        if_it = row.c.parameter == keys.parameter_hash(type_, key.parameter.code)
    else:
        row, value, _, if_it = _rows(key, type_)
    return select(edge(value)).where(row.c.resource_pk == r.c.pk, if_it).correlate(r).scalar_subquery()


class _Bytewise(FunctionElement[str]):
    inherit_cache = True
    type = String()


@compiles(_Bytewise)
def _as_it_is(element: _Bytewise, compiler: SQLCompiler, **given: Any) -> str:
    return compiler.process(element.clauses, **given)


@compiles(_Bytewise, "postgresql")
def _collated(element: _Bytewise, compiler: SQLCompiler, **given: Any) -> str:
    return f'({compiler.process(element.clauses, **given)}) COLLATE "C"'


def bytewise(value: Value) -> Value:
    """Text in the order of its bytes, whatever the database's collation."""
    return _Bytewise(value)


def _index(key: SortKey, type_: str) -> Callable[[], IndexOrder]:
    """Rows of the index, of which the first of each resource counts."""

    def made() -> IndexOrder:
        row, value, then, is_it = _rows(key, type_)
        other, other_value, other_then, is_other = _rows(key, type_)
        pair, other_pair = tuple_(value, then), tuple_(other_value, other_then)
        before = other_pair > pair if key.descending else other_pair < pair
        earlier = select(other.c.resource_pk).where(other.c.resource_pk == row.c.resource_pk, is_other, before)
        return IndexOrder(row, value, (is_it, ~earlier.correlate(row).exists()))

    return made


def _chained(key: SortKey, type_: str, r: FromClause, allowed: Allowed) -> Value:
    """The same of what references lead to, as far as the caller may see it."""
    tests: list[Test] = []
    place, of = r, type_
    for parameter, target in key.chain:
        row, led = REFERENCE.alias(), RESOURCE.alias()
        tests += [
            row.c.resource_pk == place.c.pk, row.c.parameter == keys.parameter_hash(of, parameter.code), row.c.target_type == target,
            led.c.type == target, led.c.id == row.c.target_id, led.c.deleted == 0, allowed(target, led),
        ]  # fmt: skip
        place, of = led, target
    value = _key(SortKey(key.parameter, key.descending), of, allowed).value(place)
    edge = func.max if key.descending else func.min
    return select(edge(value)).where(*tests).correlate(r).scalar_subquery()


# --- order and place


def ordered_by(values: Sequence[tuple[Value, bool, bool]], pk: Value) -> list[Value]:
    """What ORDER BY has: (value, descending, nullable) of each key, then the row in the direction of the first."""
    found: list[Value] = []
    for value, descending, is_nullable in values:
        if is_nullable:
            found.append(case((value.is_(None), 1), else_=0))
        found.append(value.desc() if descending else value.asc())
    return [*found, pk.desc() if values[0][1] else pk.asc()]


def beyond(values: Sequence[tuple[Value, bool, bool]], pk: Value, keys_: Sequence[Key], last: int) -> Test:
    """What comes after a place in that order."""
    if len(values) == 1 and not values[0][2]:
        here, there = tuple_(values[0][0], pk), tuple_(keys_[0], last)
        return here < there if values[0][1] else here > there
    found: Test = pk < last if values[0][1] else pk > last
    for (value, descending, is_nullable), key in zip(reversed(values), reversed(keys_), strict=True):
        if key is None:
            found = and_(value.is_(None), found)
            continue
        after = value < key if descending else value > key
        if is_nullable:
            after = or_(after, value.is_(None))
        found = or_(after, and_(value == key, found))
    if not values[0][2]:  # so that an index is entered at the right place
        found = and_(values[0][0] <= keys_[0] if values[0][1] else values[0][0] >= keys_[0], found)
    return found
