"""Which way a search walks (FHIR R4 section 3.1.1.5.4), chosen so that none sorts a whole table where an index has the order.

A few candidates are looked up and sorted. Else an index is walked in the order that was asked for, and each row is tested: one of values
that are searched for, which carry the clinical date; of a patient's or a type's resources; or of the values that are sorted by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, null, or_, select, union

from profiles.fhir.query import Search
from server.records.fhir_search.conditions import Conditions
from server.records.fhir_search.matches import Key, Position
from server.records.fhir_search.order import Value, beyond, order_keys, ordered_by
from server.records.fhir_search.terms import RESOURCE, Term, Test, Walk

_BODY = ("id", "patient", "body", "summary")


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a page: its sort keys, its number, and what `columns` were asked for."""

    keys: tuple[Key, ...]
    pk: int
    columns: Any


class Walked:
    """One search of one type. `began`: what is new since then stays out; `columns` of `resource` are what a row has."""

    def __init__(
        self,
        conditions: Conditions,
        search: Search,
        type_: str,
        *,
        confined: bool,
        began: int | None,
        columns: Sequence[str] = _BODY,
    ) -> None:
        self._conditions = conditions
        self._type = type_
        self._began = began
        self._columns = columns
        self._terms = conditions.conjuncts(search.condition, type_, RESOURCE)
        self._keys = order_keys(search, type_, conditions.allowed)
        self._confined = confined or any(term.is_patient for term in self._terms)
        self._candidates = self._few()

    @property
    def is_empty(self) -> bool:
        """Nothing can be found."""
        return self._candidates == []

    def rows(self, limit: int, after: Position | None) -> Iterator[Found]:
        """Up to `limit` matches after a place, in order."""
        if self.is_empty:
            return
        found = 0
        for statement in self.statements(limit, after):
            for row in self._conditions.connection.execute(statement.limit(limit - found)):
                values = tuple(row)
                yield Found(values[: len(self._keys)], values[len(self._keys)], row)
                found += 1
            if found >= limit:
                return

    def changed(self, limit: int, after: int) -> Iterator[Found]:
        """Up to `limit` matches that have a new version since the search began, in the order of their rows, which nothing changes."""
        if self.is_empty or self._began is None:
            return
        shown, key = [RESOURCE.c[name] for name in self._columns], RESOURCE.c.pk + 0  # so that the index of `updated` is taken
        found = select(RESOURCE.c.pk, *shown).where(
            *self._matching(), RESOURCE.c.updated > self._began, RESOURCE.c.version > 1, key > after
        )
        for row in self._conditions.connection.execute(found.order_by(key).limit(limit)):
            yield Found((), row.pk, row)

    @property
    def in_order_of_updates(self) -> bool:
        """What is changed goes elsewhere: it is not among `rows`, but in `changed` only."""
        return self._keys[0].column == "updated"

    def tests(self, *, but: Term | None = None, typed: bool = True) -> list[Test]:
        """All that a match has to be; `but` is a term that the way of walking makes true, and with it the type."""
        found = self._matching(but=but, typed=typed)
        if self._began is not None:
            old = RESOURCE.c.updated <= self._began
            found.append(old if self.in_order_of_updates else or_(old, RESOURCE.c.version > 1))
        return found

    def _matching(self, *, but: Term | None = None, typed: bool = True) -> list[Test]:
        of_type, *visible = self._conditions.visible(self._type, RESOURCE)
        found = [of_type, *visible] if typed else visible
        if self._candidates is not None:
            found.append(RESOURCE.c.pk.in_(self._candidates))
        return [*found, *(term.where for term in self._terms if term is not but)]

    def count(self, most: int | None) -> "Select[int]":
        """The statement of how many there are, up to `most`."""
        tests = self._matching()
        if self._began is not None:
            tests.append(or_(RESOURCE.c.updated <= self._began, RESOURCE.c.version > 1))
        seek = next((term.seek for term in self._terms if term.walks and term.seek is not None), None)
        if self._candidates is None and not self._confined and seek is not None:
            tests.append(RESOURCE.c.pk.in_(seek()))
        if most is None:
            return select(func.count()).select_from(RESOURCE).where(*tests)
        return select(func.count()).select_from(select(RESOURCE.c.pk).where(*tests).limit(most).subquery())

    # --- the way

    def _few(self) -> list[int] | None:
        """Row numbers of candidates, where a term leaves a few. Not asked for where a walk is as good."""
        if any(term.is_patient for term in self._terms):
            return None
        seeking = [term for term in self._terms if term.seek is not None]
        if not seeking or (self._in_time_order and (self._confined or self._is_walked)):
            return None
        return self._conditions.narrowed(seeking)

    @property
    def _in_time_order(self) -> bool:
        """Sorted by the clinical date alone, which the rows of tokens and references carry."""
        return len(self._keys) == 1 and self._keys[0].column == "date"

    @property
    def _is_walked(self) -> bool:
        """Whether there is but one term besides those that bound the clinical date, whose values can be walked; or none, and dates are walked."""
        others = [term for term in self._terms if term.started == (None, None)]
        return not others or (len(others) == 1 and bool(others[0].walks))

    def statements(self, limit: int, after: Position | None) -> Iterator["Select[Any]"]:
        """In their order: those with a value of the first key, then those without."""
        first = self._keys[0]
        is_dated = first.there is not None and any(term.started != (None, None) for term in self._terms)
        has_missing = (first.there is not None and not is_dated) or first.index is not None
        sorted_all = self._candidates is not None or (self._confined and not first.column)
        if sorted_all or not (first.column or first.index):
            yield self._sorted(after)
            return
        if after is None or after.keys[0] is not None:
            yield self._with_value(limit, after)
        if has_missing:
            yield self._without_value(after if after is not None and after.keys[0] is None else None)

    def _with_value(self, limit: int, after: Position | None) -> "Select[Any]":
        first = self._keys[0]
        if first.index is not None:
            index = first.index()
            source = index.rows.join(RESOURCE, index.rows.c.resource_pk == RESOURCE.c.pk)
            return self._ordered(source, index.key, index.rows.c.resource_pk, [*index.tests, *self.tests(typed=False)], after)
        walked = self._walked() if self._in_time_order and not self._confined else None
        if walked is not None:
            return self._merged(walked, limit, after)
        there = [first.there(RESOURCE)] if first.there is not None else []
        return self._ordered(RESOURCE, RESOURCE.c[first.column], RESOURCE.c.pk, [*there, *self.tests()], after)

    def _without_value(self, after: Position | None) -> "Select[Any]":
        """What has no value for the first key, sorted by the others."""
        first = self._keys[0]
        if first.there is not None:
            missing = [RESOURCE.c.date == 0, RESOURCE.c.date_end == 0]
        else:
            index = first.index() if first.index is not None else None
            assert index is not None
            held = select(index.rows.c.resource_pk).where(index.rows.c.resource_pk == RESOURCE.c.pk, index.tests[0])
            missing = [~held.correlate(RESOURCE).exists()]
        return self._sorted(after, missing)

    def _walked(self) -> Term | None:
        """The term whose rows are walked."""
        return min((term for term in self._terms if term.walks), key=lambda term: len(term.walks), default=None)

    # --- statements

    def _sorted(self, after: Position | None, more: Sequence[Test] = ()) -> "Select[Any]":
        """All of them, by the values of their keys; bodies are fetched last."""
        values = [key.value(RESOURCE) for key in self._keys]
        if more:  # it has none for the first key
            values[0] = null()
        labelled = [value.label(f"k{place}") for place, value in enumerate(values)]
        found = select(*labelled, RESOURCE.c.pk.label("found")).where(*self.tests(), *more).subquery()
        columns = [found.c[f"k{place}"] for place in range(len(self._keys))]
        return self._placed(found.join(RESOURCE, RESOURCE.c.pk == found.c.found), columns, found.c.found, [], after)

    def _ordered(
        self, source: FromClause, key: Value, pk: ColumnElement[int], tests: Sequence[Test], after: Position | None
    ) -> "Select[Any]":
        """In the order of an index; what has the same key is sorted by the others."""
        others = [each.value(RESOURCE) for each in self._keys[1:]]
        return self._placed(source, [key, *others], pk, tests, after, first_there=True)

    def _placed(
        self, source: FromClause, columns: Sequence[Value], pk: ColumnElement[int], tests: Sequence[Test], after: Position | None,
        *, first_there: bool = False,
    ) -> "Select[Any]":  # fmt: skip
        values = [
            (column, key.descending, key.is_nullable and not (first_there and place == 0))
            for place, (column, key) in enumerate(zip(columns, self._keys, strict=True))
        ]
        later = [beyond(values, pk, after.keys, after.pk)] if after is not None else []
        labelled = [column.label(f"k{place}") for place, column in enumerate(columns)]
        shown = [RESOURCE.c[name] for name in self._columns]
        return (
            select(*labelled, pk.label("pk"), *shown).select_from(source).where(*tests, *later).order_by(*ordered_by(values, pk))
        )

    def _merged(self, term: Term, limit: int, after: Position | None) -> "Select[Any]":
        """One ordered walk for each value, merged: no value's rows are sorted beyond one page."""
        first = self._keys[0]
        there = [first.there(RESOURCE)] if first.there is not None else []
        tests = [*there, *self.tests(but=term, typed=False)]
        if len(term.walks) == 1:
            return self._along(term.walks[0], tests, after)
        walks = [self._along(walk, tests, after).limit(limit).subquery() for walk in term.walks]
        merged = union(*(select(walk.c.k0, walk.c.pk) for walk in walks)).subquery()
        return self._placed(
            merged.join(RESOURCE, RESOURCE.c.pk == merged.c.pk), [merged.c.k0], merged.c.pk, [], None, first_there=True
        )  # fmt: skip

    def _along(self, walk: Walk, tests: Sequence[Test], after: Position | None) -> "Select[Any]":
        rows = walk.rows
        source = rows.join(RESOURCE, rows.c.resource_pk == RESOURCE.c.pk)
        bounds: list[Test] = []
        for low, high in (term.started for term in self._terms):
            bounds += [*([rows.c.date >= low] if low is not None else ()), *([rows.c.date < high] if high is not None else ())]
        return self._ordered(source, rows.c.date, rows.c.resource_pk, [*walk.tests, *bounds, *tests], after)
