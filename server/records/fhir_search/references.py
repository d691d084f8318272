"""References as SQL (FHIR R4 sections 3.1.1.4.12 and 2.17): rows that say where a resource leads, compartments, members of a List."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import FromClause, Select, and_, or_

from profiles.fhir.expression import targets
from profiles.fhir.query import Criterion, ReferenceValue, TokenValue
from profiles.r4.search import Parameter
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.terms import (
    COMPARTMENT,
    MOST_WALKS,
    NOTHING,
    REFERENCE,
    Term,
    Test,
    Walk,
    any_of,
    begins,
    of_columns,
    pks,
    probe,
)
from server.records.fhir_search.texts import above
from server.records.fhir_search.tokens import of_tokens

OF_ONE_PATIENT: Final = frozenset(
    {"Consent", "DiagnosticReport", "Encounter", "ImagingStudy", "Immunization", "Media", "MedicationRequest"}
)
"""Types whose patient is one element alone, that has one value: `resource.patient` says as much as its row."""
_PATIENT: Final = frozenset({"patient", "subject"})


def reference_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """A reference parameter with any modifier but `:missing`; one that names a type has it in the values."""
    parameter = criterion.parameter
    if criterion.modifier == "identifier":
        tokens = [each for each in criterion.values if isinstance(each, TokenValue)]
        return of_tokens(type_, parameter.code + keys.IDENTIFIER, [(each.system, each.code) for each in tokens], r)
    values = [each for each in criterion.values if isinstance(each, ReferenceValue)]
    if criterion.modifier in ("above", "below"):
        return any_of([_hierarchy(parameter.code, each, criterion.modifier, type_, r) for each in values])
    leads: dict[str, list[str]] = {}
    for each in values:
        url = f"{each.url}|{each.version}" if each.version else each.url
        for target in ("",) if url else (each.type,) if each.type else targets(parameter, type_):
            leads.setdefault(target, []).append(keys.uri_key(url) if url else each.id)
    return leading(type_, parameter, leads, r)


def leading(type_: str, parameter: Parameter, leads: Mapping[str, Collection[str]], r: FromClause) -> Term:
    """A resource that leads to one of these: target type (empty: elsewhere) -> ids (or URLs)."""
    if not any(leads.values()):
        return NOTHING
    if type_ in OF_ONE_PATIENT and parameter.code in _PATIENT and leads.keys() == {"Patient"}:
        return of_columns(type_, lambda row: row.c.patient.in_(leads["Patient"]), r, is_patient=True)
    hash_ = keys.parameter_hash(type_, parameter.code)

    def test(row: FromClause) -> Test:
        return and_(
            row.c.parameter == hash_,
            or_(*(and_(row.c.target_type == target, row.c.target_id.in_(ids)) for target, ids in leads.items() if ids)),
        )

    pairs = list(islice(((target, id_) for target, ids in leads.items() for id_ in ids), MOST_WALKS + 1))
    walks = tuple(_walk(hash_, *pair) for pair in pairs) if len(pairs) <= MOST_WALKS else ()
    row = REFERENCE.alias()
    return Term(probe(row, r, test(row)), lambda: pks(REFERENCE, test(REFERENCE)), walks)


def _walk(hash_: int, target: str, id_: str) -> Walk:
    row = REFERENCE.alias()
    return Walk(row, (row.c.parameter == hash_, row.c.target_type == target, row.c.target_id == id_))


def _hierarchy(code: str, value: ReferenceValue, modifier: str, type_: str, r: FromClause) -> Term:
    """Section 3.1.1.4.12, `:above` and `:below` of canonicals: by the beginning of their URLs."""
    if not value.url:
        raise NotSupported(f"{code}: :{modifier} is offered for canonical URLs only")
    hash_ = keys.parameter_hash(type_, code)

    def tests(row: FromClause) -> tuple[Test, ...]:
        found = (
            begins(row.c.target_id, value.url) if modifier == "below"
            else row.c.target_id.in_([keys.uri_key(each) for each in above(value.url)])
        )  # fmt: skip
        return row.c.parameter == hash_, row.c.target_type == "", found

    row = REFERENCE.alias()
    return Term(probe(row, r, *tests(row)), lambda: pks(REFERENCE, *tests(REFERENCE)))


def compartment_term(name: str, id_: str, type_: str, r: FromClause) -> Term:
    """Section 2.17: a resource in the compartment of `name`/`id_`."""

    def tests(row: FromClause) -> tuple[Test, ...]:
        return row.c.name == name, row.c.id == id_, row.c.type == type_

    row, walked = COMPARTMENT.alias(), COMPARTMENT.alias()
    return Term(
        probe(row, r, *tests(row), row.c.date == r.c.date),
        lambda: pks(COMPARTMENT, *tests(COMPARTMENT)),
        (Walk(walked, tests(walked)),),
    )


def of_ids(type_: str, ids: Sequence[str] | Select[str], r: FromClause) -> Term:
    """One of the resources with these ids."""
    return of_columns(type_, lambda row: row.c.id.in_(ids), r)
