"""What a condition is in SQL: a test of a resource's row, and the ways to find candidates without looking at every row."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, false, func, or_, select, true, union_all

from server.errors import MalformedQuery
from server.store.tables import (
    Compartment,
    CompositeValue,
    DateValue,
    QuantityValue,
    ReferenceValue,
    Resource,
    TextValue,
    Token,
)

RESOURCE: Final = Resource.__table__  # type: ignore[attr-defined]
TOKEN: Final = Token.__table__  # type: ignore[attr-defined]
TEXT: Final = TextValue.__table__  # type: ignore[attr-defined]
DATE: Final = DateValue.__table__  # type: ignore[attr-defined]
QUANTITY: Final = QuantityValue.__table__  # type: ignore[attr-defined]
REFERENCE: Final = ReferenceValue.__table__  # type: ignore[attr-defined]
COMPOSITE: Final = CompositeValue.__table__  # type: ignore[attr-defined]
COMPARTMENT: Final = Compartment.__table__  # type: ignore[attr-defined]

Test = ColumnElement[bool]
Pks = Select[int]
Bounds = tuple[int | None, int | None]
MOST_WALKS: Final = 16
MOST_PREFIX: Final = 160
"""Characters of the beginning of a text that an index has as they are."""
_GROUP: Final = 32
_MOST_JOINED: Final = 100
"""Of SELECTs in one; SQLite takes 500."""
LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Walk:
    """Rows that one value has, which an index holds in the order of their `date` and `resource_pk`."""

    rows: FromClause
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """`where` is true of a match; `seek` makes what finds the row numbers of all matches, and perhaps of others; `walks` together find exactly the matches.

    `started`: bounds of the resource's clinical date, the second exclusive; `is_patient`: the resource's patient is one of a few.
    """

    where: Test
    seek: Callable[[], Pks] | None = None
    walks: tuple[Walk, ...] = ()
    started: Bounds = (None, None)
    is_patient: bool = False


NOTHING: Final = Term(false(), lambda: select(RESOURCE.c.pk).where(false()))


def probe(table: FromClause, r: FromClause, *tests: Test) -> Test:
    """The resource `r` has a row in `table` (an alias that is `r`'s alone) of which the tests are true."""
    return select(table.c.resource_pk).where(table.c.resource_pk == r.c.pk, *tests).correlate(r).exists()


def pks(table: FromClause, *tests: Test) -> Pks:
    """The resources of all rows of which the tests are true."""
    return select(table.c.resource_pk).where(*tests)


def of_columns(
    type_: str, test: Callable[[FromClause], Test], r: FromClause, *, started: Bounds = (None, None), is_patient: bool = False
) -> Term:
    """A test of columns of the resource itself, which an index has."""
    return Term(
        test(r),
        lambda: select(RESOURCE.c.pk).where(RESOURCE.c.type == type_, test(RESOURCE)),
        started=started,
        is_patient=is_patient,
    )


def any_of(terms: Sequence[Term]) -> Term:
    """One of the terms is true."""
    if len(terms) == 1:
        return terms[0]
    if not terms:
        return NOTHING
    seeks = [term.seek for term in terms if term.seek is not None]
    walks = tuple(walk for term in terms for walk in term.walks) if all(term.walks for term in terms) else ()
    lows, highs = [term.started[0] for term in terms], [term.started[1] for term in terms]
    return Term(
        either(term.where for term in terms),
        (lambda: _together(seeks)) if len(seeks) == len(terms) <= _MOST_JOINED else None,
        walks if len(walks) <= MOST_WALKS else (),
        (_least(lows), _greatest(highs)),
        all(term.is_patient for term in terms),
    )


def _together(seeks: Sequence[Callable[[], Pks]]) -> Pks:
    found = union_all(*(seek() for seek in seeks)).subquery()
    return select(next(iter(found.c)))


def all_of(terms: Iterable[Term]) -> Term:
    """Every term is true."""
    found = list(terms)
    if len(found) == 1:
        return found[0]
    lows = [term.started[0] for term in found if term.started[0] is not None]
    highs = [term.started[1] for term in found if term.started[1] is not None]
    return Term(
        and_(true(), *(term.where for term in found)),
        next((term.seek for term in found if term.seek is not None), None),
        started=(max(lows, default=None), min(highs, default=None)),
        is_patient=any(term.is_patient for term in found),
    )


def _least(values: list[int | None]) -> int | None:
    known = [each for each in values if each is not None]
    return min(known) if len(known) == len(values) else None


def _greatest(values: list[int | None]) -> int | None:
    known = [each for each in values if each is not None]
    return max(known) if len(known) == len(values) else None


def either(tests: Iterable[Test]) -> Test:
    """One of the tests is true; in groups, as SQLite takes no expression that is a thousand deep."""
    found = list(tests)
    while len(found) > _GROUP:
        found = [case((or_(*found[at : at + _GROUP]), 1), else_=0) == 1 for at in range(0, len(found), _GROUP)]
    return or_(false(), *found)


class TooLongText(MalformedQuery):
    """More than an index has of a text: what it does not have is neither there nor not there."""

    fhir_code = "too-long"


def part(text: str) -> str:
    """The same, a part of a text that is looked for. Raises `TooLongText`."""
    if len(text) > MOST_PREFIX:
        raise TooLongText(
            f"a part of a text that is looked for has at most {MOST_PREFIX} characters; ask for fewer, or for all of it by :exact"
        )
    return text


def begins(column: ColumnElement[str], text: str) -> Test:
    """A range of an index in the order of bytes. Raises `TooLongText`."""
    start = part(text)
    return and_(column >= start, column < start + LAST) if start else column >= ""


def has(column: ColumnElement[str], text: str) -> Test:
    """`text` stands in the column, byte for byte."""
    return func.replace(column, text, "") != column if text else column >= ""


def ends(column: ColumnElement[str], text: str) -> Test:
    """The column ends with `text`."""
    return func.substr(column, func.length(column) - len(text) + 1) == text
