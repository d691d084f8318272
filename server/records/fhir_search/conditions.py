"""A tree of conditions as SQL (FHIR R4 section 3.1.1.4): each for one type, over the row of its resource.

Chains and `_has` are followed from their far end: where what is there is little, it is looked up at once, so that what is left is a list of
ids; where it is much, almost any candidate leads to it, and is looked at by itself. Every resource that a condition looks at is one that the
caller may see.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, FromClause, or_, select, true

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.indexing import CATALOGUED
from profiles.fhir.query import (
    All,
    AnyOf,
    Chain,
    Condition,
    Criterion,
    InCompartment,
    Missing,
    Not,
    ReferenceValue,
    Reverse,
    TokenValue,
)
from profiles.fhir.search_conditions import TEXTS
from profiles.r4.terminology import Terminology
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.catalogued import catalogued_term, is_catalogued
from server.records.fhir_search.composites import composite_term
from server.records.fhir_search.matches import Allowed, TooCostly
from server.records.fhir_search.ordered import date_term, number_term
from server.records.fhir_search.places import near_term
from server.records.fhir_search.references import compartment_term, leading, of_ids, reference_term
from server.records.fhir_search.terms import (
    DATE,
    NOTHING,
    QUANTITY,
    REFERENCE,
    RESOURCE,
    TEXT,
    Pks,
    Term,
    Test,
    all_of,
    any_of,
    probe,
)
from server.records.fhir_search.texts import text_term
from server.records.fhir_search.tokens import token_term

FEW: Final = 500
"""Resources that are looked up at once."""
_MOST_LED: Final = 5000
MOST_FOLLOWED: Final = 20


class Conditions:
    """Makes terms for one search of one caller; small questions go to the database as it does."""

    def __init__(self, connection: Connection, allowed: Allowed, terminology: Terminology) -> None:
        self.connection = connection
        self.allowed = allowed
        self._terminology = terminology
        self._followed = 0

    def visible(self, type_: str, r: FromClause) -> Iterator[Test]:
        """What is true of every resource of a type that the caller may see."""
        yield r.c.type == type_
        yield r.c.deleted == 0
        yield self.allowed(type_, r)

    def term(self, condition: Condition, type_: str, r: FromClause) -> Term:
        """A condition on resources of a type, over `r`. Raises `Refused` for what is not offered."""
        match condition:
            case Criterion():
                return self._criterion(condition, type_, r)
            case All():
                return all_of(self.term(each, type_, r) for each in condition.conditions)
            case AnyOf():
                return any_of([self.term(each, type_, r) for each in condition.conditions])
            case Not():
                return Term(~self.term(condition.condition, type_, r).where)
            case Chain():
                _require_rows([target for target, _ in condition.conditions])
                return any_of([self._chain(condition, target, inner, type_, r) for target, inner in condition.conditions])
            case Reverse():
                _require_rows([condition.type])
                return self._reverse(condition, type_, r)
            case InCompartment():
                return compartment_term(condition.type, condition.id, type_, r)

    def conjuncts(self, condition: Condition, type_: str, r: FromClause) -> list[Term]:
        """The terms that all have to be true, any of which may narrow the search."""
        if isinstance(condition, All):
            return [term for each in condition.conditions for term in self.conjuncts(each, type_, r)]
        return [self.term(condition, type_, r)]

    def few(self, seek: Pks) -> list[int] | None:
        """The row numbers that it finds; None for more than `FEW`."""
        found = self.connection.execute(seek.limit(FEW + 1)).scalars().all()
        return sorted(set(found)) if len(found) <= FEW else None

    def narrowed(self, terms: Iterable[Term]) -> list[int] | None:
        """The row numbers of a few candidates; None where no term leaves a few only."""
        given = list(terms)
        if any(term is NOTHING for term in given):
            return []
        for term in given:
            if term.seek is not None and (found := self.few(term.seek())) is not None:
                return found
        return None

    # --- one parameter

    def _criterion(self, criterion: Criterion, type_: str, r: FromClause) -> Term:
        if criterion.parameter.code in TEXTS and criterion.modifier != "missing":
            return self._special(criterion, type_, r)
        return criterion_term(criterion, type_, r, self._terminology)

    def _special(self, criterion: Criterion, type_: str, r: FromClause) -> Term:
        """Section 3.1.1.4.18, `_list`: what a List has as its items."""
        value = criterion.values[0]
        if criterion.parameter.code != "_list" or not isinstance(value, ReferenceValue):
            raise NotSupported(
                f"{criterion.parameter.code} is not offered: texts are not indexed as wholes; search for codes, names or :text"
            )
        row = RESOURCE.alias()
        found = self.connection.execute(select(row.c.pk).where(*self.visible("List", row), row.c.id == value.id)).scalar()
        if found is None:
            return NOTHING
        items = select(REFERENCE.c.target_id).where(
            REFERENCE.c.resource_pk == found, REFERENCE.c.parameter == keys.parameter_hash("List", "item"),
            REFERENCE.c.target_type == type_,
        )  # fmt: skip
        return of_ids(type_, items, r)

    # --- along references

    def _chain(self, chain: Chain, target: str, condition: Condition, type_: str, r: FromClause) -> Term:
        """Section 3.1.1.4.13: `r` leads to a resource of the type `target` that meets the condition."""
        found = self._found(target, condition)
        if found is not None:
            return leading(type_, chain.parameter, {target: [id_ for _, id_ in found]}, r)
        self._count()
        led, row = RESOURCE.alias(), REFERENCE.alias()
        return Term(
            probe(
                row, r, row.c.parameter == keys.parameter_hash(type_, chain.parameter.code), row.c.target_type == target,
                select(led.c.pk).where(
                    led.c.id == row.c.target_id, *self.visible(target, led), self.term(condition, target, led).where
                ).correlate(row).exists(),
            )
        )  # fmt: skip

    def _reverse(self, reverse: Reverse, type_: str, r: FromClause) -> Term:
        """Section 3.1.1.4.14: a resource of `reverse.type` that meets the condition leads to `r`."""
        parameter = keys.parameter_hash(reverse.type, reverse.parameter.code)
        found = self._found(reverse.type, reverse.condition)
        if found == []:
            return NOTHING
        if found is not None:
            leads = select(REFERENCE.c.target_id).where(
                REFERENCE.c.resource_pk.in_([pk for pk, _ in found]), REFERENCE.c.parameter == parameter,
                REFERENCE.c.target_type == type_,
            )  # fmt: skip
            ids = self.connection.execute(leads.distinct().limit(_MOST_LED + 1)).scalars().all()
            return of_ids(type_, sorted(ids) if len(ids) <= _MOST_LED else leads, r) if ids else NOTHING
        self._count()
        row, leading_here = REFERENCE.alias(), RESOURCE.alias()
        meets = self.term(reverse.condition, reverse.type, leading_here).where
        return Term(
            select(row.c.resource_pk).where(
                row.c.parameter == parameter, row.c.target_type == type_, row.c.target_id == r.c.id,
                select(leading_here.c.pk).where(
                    leading_here.c.pk == row.c.resource_pk, *self.visible(reverse.type, leading_here), meets
                ).correlate(row).exists(),
            ).correlate(r).exists()
        )  # fmt: skip

    def _count(self) -> None:
        """Raises `TooCostly` where too many references are followed from each candidate, which engines do not plan well."""
        self._followed += 1
        if self._followed > MOST_FOLLOWED:
            raise TooCostly(
                "too many chains and _has lead to many resources each; ask in several searches, or name what few have"
            )

    def _found(self, type_: str, condition: Condition) -> list[tuple[int, str]] | None:
        """(pk, id) of the resources of a type that meet a condition; None for more than `FEW`."""
        r = RESOURCE.alias()
        terms = self.conjuncts(condition, type_, r)
        candidates = self.narrowed(terms)
        if candidates == []:
            return []
        found = select(r.c.pk, r.c.id).where(*self.visible(type_, r), *(term.where for term in terms))
        if candidates is not None:
            found = found.where(r.c.pk.in_(candidates))
        rows = self.connection.execute(found.limit(FEW + 1)).all()
        return [(row.pk, row.id) for row in rows] if len(rows) <= FEW else None


def criterion_term(criterion: Criterion, type_: str, r: FromClause, terminology: Terminology) -> Term:
    """One parameter that is judged by the resource alone. Raises `Refused` for what is not offered."""
    parameter = criterion.parameter
    if criterion.modifier == "missing":
        return _missing(criterion, type_, r)
    if type_ == "ImagingStudy" and parameter.code in CATALOGUED:
        return catalogued_term(criterion, r)
    if parameter.code == "_id":
        return _id(criterion, type_, r)
    match parameter.type:
        case "token":
            return token_term(criterion, type_, r, terminology)
        case "string" | "uri":
            return text_term(criterion, type_, r)
        case "date":
            return date_term(criterion, type_, r)
        case "number" | "quantity":
            return number_term(criterion, type_, r)
        case "reference":
            return reference_term(criterion, type_, r)
        case "composite":
            return composite_term(criterion, type_, r)
        case "special":
            return near_term(criterion, type_, r)
    raise NotSupported(f"{parameter.code} is not offered")


def _missing(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """Section 3.1.1.4.4: whether there is a row of the parameter, or one that says that the element has nothing to compare."""
    code, kind = criterion.parameter.code, criterion.parameter.type
    there = has_value(code, kind, type_, r)
    present = probe(row := TEXT.alias(), r, row.c.parameter == keys.parameter_hash(type_, code + keys.PRESENT))
    there = or_(there, present)
    if type_ == "ImagingStudy" and code in CATALOGUED:
        there = or_(there, is_catalogued(r))
    wanted = {each.missing for each in criterion.values if isinstance(each, Missing)}
    return Term(~there if wanted == {True} else there)


def _id(criterion: Criterion, type_: str, r: FromClause) -> Term:
    ids = [each.code for each in criterion.values if isinstance(each, TokenValue) and each.code and not each.system]
    if criterion.modifier == "not":
        return Term(r.c.id.not_in(ids))
    if criterion.modifier:
        raise NotSupported(f"_id has the modifiers :not and :missing only, not :{criterion.modifier}")
    return of_ids(type_, ids, r) if ids else NOTHING


def _require_rows(types: Sequence[str]) -> None:
    """Raises `NotSupported` where a chain or `_has` leads to AuditEvents alone: the trail has no rows of references to be followed."""
    if list(types) == ["AuditEvent"]:
        raise NotSupported("no chain or _has leads through AuditEvents; search for them by themselves")


def has_value(code: str, kind: str, type_: str, r: FromClause) -> Test:
    """The resource has something to compare for a parameter."""
    if code in ("_id", "_lastUpdated"):
        return true()
    if code == CLINICAL_DATE.get(type_):
        return or_(r.c.date != 0, r.c.date_end != 0)
    match kind:
        case "token":
            row, test = TEXT.alias(), keys.parameter_hash(type_, code + keys.CODE)
        case "string" | "uri":
            row, test = TEXT.alias(), keys.parameter_hash(type_, code)
        case "date":
            row, test = DATE.alias(), keys.parameter_hash(type_, code)
        case "reference":
            row, test = REFERENCE.alias(), keys.parameter_hash(type_, code)
        case "number" | "quantity" | "special":
            row = QUANTITY.alias()
            return probe(row, r, row.c.unit == keys.unit_hash(type_, code, ""))
        case _:
            raise NotSupported(f"{code}:missing is not offered for a composite; ask it of its components")
    return probe(row, r, row.c.parameter == test)
