"""Searches by plain values: their statements are made once for each shape of search, since to make one takes ten times as long as to run it.

Plain is a search of one type whose conditions are tokens, references by id, ids and dates as they come, sorted by the clinical date or the
last update. Its statements are those of `walks`, made with marks in place of the values; what a mark stands for is put in for each search.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, true

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.indexing import CATALOGUED
from profiles.fhir.query import Criterion, DateValue, ReferenceValue, Search, TokenValue
from profiles.fhir.search_conditions import TEXTS
from profiles.r4.terminology import BUILT_IN
from server.records import index_keys as keys
from server.records.fhir_search.conditions import Conditions
from server.records.fhir_search.matches import Position, ResourceRow, whose
from server.records.fhir_search.ordered import LONGEST
from server.records.fhir_search.terms import Pks
from server.records.fhir_search.tokens import exact_keys
from server.records.fhir_search.walks import Walked

_MOST_CRITERIA: Final = 8
_MOST_VALUES: Final = 8
_MOST_KEPT: Final = 512
_COLUMNS: Final = ("id", "patient", "body", "summary")
_PATIENT: Final = "mark-patient"
_LIMIT, _REST, _BEGAN, _KEY, _PK = (777_777_770_001 + number for number in range(5))
_EXACT: Final = 1000
"""Microseconds: dates of a finer precision than the millisecond that clients see are compared in another order."""

Row = Sequence[Any]
_Values = list[Any]


class _NotPlain(Exception):
    """The statement depends on what is stored."""


class _Unasked(Conditions):
    """Makes terms without a look at what is stored."""

    def few(self, seek: Pks) -> list[int] | None:
        raise _NotPlain


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement as text. `order` names its parameters where they are positional; `marked` which of the values a parameter is."""

    text: str
    fixed: Mapping[str, Any]
    marked: tuple[tuple[str, int], ...]
    order: Sequence[str] | None

    def rows(self, connection: Connection, values: _Values) -> Sequence[Row]:
        given = dict(self.fixed)
        for name, number in self.marked:
            given[name] = values[number]
        if self.order is None:
            return connection.exec_driver_sql(self.text, given).all()
        # SQLite's driver itself: to put a result around a few rows takes ten times as long as to find them.
        driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
        return driver.execute(self.text, tuple(given[name] for name in self.order)).fetchall()


_kept: dict[object, tuple[_Statement, ...] | None] = {}


def rows(
    connection: Connection, search: Search, only: frozenset[str] | None, began: int, limit: int, after: Position | None
) -> Iterator[Row] | None:
    """Up to `limit` matches after a place, in order: sort key and number of each, `id`, `patient`, `body` and `summary`; None for what is not plain.

    `only` is the one patient whose resources the caller may see, or empty for no limit.
    """
    criteria = _criteria(search)
    if criteria is None or only is None or len(only) > 1 or len(search.types) != 1:
        return None
    type_ = search.types[0]
    sort = tuple((key.parameter.code, key.descending) for key in search.sort)
    if len(sort) > 1 or (sort and (search.sort[0].chain or sort[0][0] not in ("_lastUpdated", CLINICAL_DATE.get(type_)))):
        return None
    if after is not None and (len(after.keys) != 1 or after.keys[0] is None):
        return None
    kinds: list[object] = []
    values: _Values = [limit, limit, began, 0, 0, ""]
    for criterion in criteria:
        read = _read(criterion, type_)
        if read is None:
            return None
        kinds.append(read[0])
        values += read[1]
    if after is not None:
        values[3:5] = after.keys[0], after.pk
    values[5] = next(iter(only), "")
    shape = (connection.dialect.name, type_, sort, bool(only), after is None, *kinds)
    try:
        made = _kept[shape]
    except KeyError:
        made = _made(connection, search, criteria, type_, bool(only), after is not None)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[shape] = made
    return _run(connection, made, values) if made is not None else None


def _run(connection: Connection, made: tuple[_Statement, ...], values: _Values) -> Iterator[Row]:
    for statement in made:
        found = statement.rows(connection, values)
        yield from found
        values[1] -= len(found)
        if values[1] <= 0:
            return


def _criteria(search: Search) -> tuple[Criterion, ...] | None:
    condition = search.condition
    if len(condition.conditions) > _MOST_CRITERIA:
        return None
    found = tuple(each for each in condition.conditions if isinstance(each, Criterion))
    return found if len(found) == len(condition.conditions) else None


# --- kinds of conditions


def _read(criterion: Criterion, type_: str) -> tuple[object, _Values] | None:
    """Of which kind a condition is, and what the parameters of its statement are made of; None for what is not plain."""
    parameter, given = criterion.parameter, criterion.values
    if len(given) > _MOST_VALUES or parameter.code in TEXTS or (type_ == "ImagingStudy" and parameter.code in CATALOGUED):
        return None
    if parameter.type == "date" and len(given) == 1 and isinstance(given[0], DateValue) and not criterion.modifier:
        date = given[0]
        if date.start % _EXACT or date.end % _EXACT or not 0 < date.end - date.start <= LONGEST:
            return None
        return ("date", parameter, date.prefix), [form(date) for form in _FORMS]
    if criterion.modifier:
        return None
    if parameter.type == "token":
        if parameter.code == "_id":
            ids = [each.code for each in given if isinstance(each, TokenValue) and each.code and each.system is None]
            return (("id", len(given)), ids) if len(ids) == len(set(ids)) == len(given) else None
        tokens = [each for each in given if isinstance(each, TokenValue)]
        hashes = [number for each in tokens for number in _hashes(type_, parameter.code, each)]
        forms = tuple((each.system is None, each.code is None) for each in tokens)
        return (("token", parameter, forms), hashes) if len(set(hashes)) == len(hashes) else None
    if parameter.type == "reference":
        ids = [each.id for each in given if isinstance(each, ReferenceValue) and each.id and not each.url and not each.version]
        types = tuple(each.type for each in given if isinstance(each, ReferenceValue))
        return (("reference", parameter, types), ids) if len(set(ids)) == len(given) else None
    return None


def _hashes(type_: str, code: str, value: TokenValue) -> tuple[int, ...]:
    """What `tokens` compares with."""
    if value.system is None or value.code is None:
        return (keys.token_hash(type_, code, value.system, value.code),)
    return exact_keys(type_, code, value.system, value.code)


_FORMS: Final[tuple[Callable[[DateValue], int], ...]] = (
    lambda date: date.start,
    lambda date: date.end,
    lambda date: date.start - LONGEST,
    lambda date: date.end - LONGEST,
)
"""What `ordered` compares with."""


def _marked(criterion: Criterion, type_: str, place: int) -> Criterion:
    """The same condition with values that are nobody's."""
    kind = criterion.parameter.type
    if kind == "date":
        date = criterion.values[0]
        assert isinstance(date, DateValue)
        start = 7_000_000_000_000_000 + place * 10_000_000_000
        return replace(criterion, values=(DateValue(date.prefix, start, start + 3_333_000),))
    marks = [f"mark-{place}-{number}" for number in range(len(criterion.values))]
    if kind == "token":
        tokens = [each for each in criterion.values if isinstance(each, TokenValue)]
        return replace(criterion, values=tuple(_marked_token(each, mark) for each, mark in zip(tokens, marks, strict=True)))
    given = [each for each in criterion.values if isinstance(each, ReferenceValue)]
    return replace(criterion, values=tuple(ReferenceValue(each.type, mark) for each, mark in zip(given, marks, strict=True)))


def _marked_token(value: TokenValue, mark: str) -> TokenValue:
    return TokenValue(value.system if value.system is None else mark, value.code if value.code is None else mark)


# --- statements


def _made(
    connection: Connection, search: Search, criteria: Sequence[Criterion], type_: str, is_confined: bool, is_later: bool
) -> tuple[_Statement, ...] | None:
    """The statements of a shape; None where they depend on what is stored."""
    given = tuple(_marked(each, type_, place) for place, each in enumerate(criteria))
    marks: _Values = [_LIMIT, _REST, _BEGAN, _KEY, _PK, _PATIENT]
    for each in given:
        read = _read(each, type_)
        assert read is not None
        marks += read[1]
    marked = replace(search, condition=replace(search.condition, conditions=given))

    def allowed(_: str, row: ResourceRow) -> ColumnElement[bool]:
        return whose(row) == _PATIENT if is_confined else true()

    try:
        walked = Walked(
            _Unasked(connection, allowed, BUILT_IN), marked, type_, confined=is_confined, began=_BEGAN, columns=_COLUMNS
        )
        after = Position(_BEGAN, (_KEY,), _PK) if is_later else None
        return tuple(_compiled(connection, each.limit(_REST), marks) for each in walked.statements(_LIMIT, after))
    except _NotPlain:
        return None


def _compiled(connection: Connection, statement: Any, marks: _Values) -> _Statement:
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    fixed = dict(compiled.params)
    marked = tuple((name, _place(value, marks)) for name, value in fixed.items() if value in marks)
    return _Statement(str(compiled), fixed, marked, getattr(compiled, "positiontup", None))


def _place(value: Any, marks: _Values) -> int:
    return next(place for place, mark in enumerate(marks) if mark == value and type(mark) is type(value))
