"""Searches by plain values: their statements are made once for each shape of query, since to make one takes longer than to run it.

Plain is a key whose value is compared as it is, or says from which day to which; what has wildcards or lists is not. A statement is made
with marks for the values, so it is the one that these would have been asked with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Connection, Select

from server.records.conditions import Path, plain

if TYPE_CHECKING:
    from server.records.matching import Query

Make = Callable[["Query"], "Select[Any] | None"]
_MOST_KEYS = 64
_MOST_KEPT = 512
_LIMIT, _OFFSET = 777_777_771, 777_777_773
_STUDY, _SERIES = "2.25.777777775", "2.25.777777777"


@dataclass(frozen=True, slots=True)
class _Made:
    """A statement as text. `order` names its parameters where they are positional; `marked` which of the values a parameter is."""

    text: str
    fixed: Mapping[str, Any]
    marked: tuple[tuple[str, int], ...]
    order: Sequence[str] | None

    def run(self, connection: Connection, values: Sequence[object]) -> list[Any]:
        given = dict(self.fixed)
        for name, number in self.marked:
            given[name] = values[number]
        told: Any = given if self.order is None else tuple(given[name] for name in self.order)
        return list(connection.exec_driver_sql(self.text, told).all())


_kept: dict[object, _Made | None] = {}


def rows(connection: Connection, query: "Query", columns: tuple[ColumnElement[Any], ...], make: Make) -> list[Any] | None:
    """The rows that the statement of `make` finds; None for a query that is not plain, or that `make` has no one statement for.

    Raises `MalformedQuery`.
    """
    if len(query.keys) > _MOST_KEYS or max(query.limit + 1, query.offset) >= 1 << 31:  # the marks' own type is of 32 bits
        return None
    values: list[object] = [query.limit + 1, query.offset, query.study_uid, query.series_uid]
    kinds: list[tuple[Path, str]] = []
    for key, value in query.keys.items():
        if (found := plain(query.level, key, value, fuzzy=query.fuzzy)) is None:
            return None
        kind, compared = found
        kinds.append((key, kind))
        values += compared
    shape = (
        connection.dialect.name, columns, query.level, query.fuzzy, query.combined, query.study_uid is None,
        query.series_uid is None, *kinds,
    )  # fmt: skip
    try:
        made = _kept[shape]
    except KeyError:
        made = _made(connection, query, kinds, make)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[shape] = made
    return made.run(connection, values) if made is not None else None


def _made(connection: Connection, query: "Query", kinds: Sequence[tuple[Path, str]], make: Make) -> _Made | None:
    keys, marks = {}, [_LIMIT + 1, _OFFSET, _STUDY, _SERIES]
    for number, (key, kind) in enumerate(kinds):
        keys[key], more = _mark(kind, number)
        marks += more
    statement = make(_with_marks(query, keys))
    if statement is None:
        return None
    compiled = statement.compile(dialect=connection.dialect)
    if "__[POSTCOMPILE" in str(compiled):
        return None
    fixed = dict(compiled.params)
    marked = tuple((name, marks.index(value)) for name, value in fixed.items() if value in marks)
    return _Made(str(compiled), fixed, marked, getattr(compiled, "positiontup", None))


def _with_marks(query: "Query", keys: Mapping[Path, str]) -> "Query":
    study = _STUDY if query.study_uid is not None else None
    series = _SERIES if query.series_uid is not None else None
    return replace(query, keys=keys, study_uid=study, series_uid=series, limit=_LIMIT, offset=_OFFSET)


_MARKS: Final[Mapping[str, str]] = {"text": "mark{}z", "name": "mark{}z", "code": "MARK{}Z", "uid": "2.25.7777777{}"}


def _mark(kind: str, number: int) -> tuple[str, list[Any]]:
    """A value of that kind which is no other's, and what the statement has of it."""
    if kind in _MARKS:
        value = _MARKS[kind].format(number + 100)
        return value, [value]
    first, last = f"{1700 + number}0103", f"{1800 + number}0103"
    return {
        "": ("", []), "since": (f"{first}-", [first]), "until": (f"-{last}", [last]), "between": (f"{first}-{last}", [first, last])
    }[kind]  # fmt: skip
