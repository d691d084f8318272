"""`near` of Location as SQL (FHIR R4, search parameters of Location): a box that an index has, and the exact distance within it."""

from collections.abc import Sequence

from sqlalchemy import FromClause

from profiles.fhir.geography import AXES, chord, point
from profiles.fhir.query import Criterion, Near
from server.records import index_keys as keys
from server.records.fhir_search.terms import QUANTITY, Pks, Term, Test, any_of, pks, probe


def near_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """Within the distance of one of the places, its end included."""
    return any_of([_near(criterion.parameter.code, each, type_, r) for each in criterion.values if isinstance(each, Near)])


def _near(code: str, asked: Near, type_: str, r: FromClause) -> Term:
    units = [keys.unit_hash(type_, code, f"={axis}") for axis in AXES]
    center, most = point(asked.latitude, asked.longitude), chord(float(asked.meters))

    def tests(rows: Sequence[FromClause]) -> list[Test]:
        """Of rows of the three axes; the first has the resource."""
        first, *others = rows
        box = [
            test
            for row, unit, at in zip(rows, units, center, strict=True)
            for test in (row.c.unit == unit, row.c.low >= at - most, row.c.low <= at + most)
        ]
        same = [row.c.resource_pk == first.c.resource_pk for row in others]
        x, y, z = ((row.c.low - at) * (row.c.low - at) for row, at in zip(rows, center, strict=True))
        return [*same, *box, x + y + z <= most * most]

    here = [QUANTITY.alias() for _ in AXES]

    def seek() -> Pks:
        found = [QUANTITY.alias() for _ in AXES]
        return pks(found[0], *tests(found))

    return Term(probe(here[0], r, *tests(here)), seek)
