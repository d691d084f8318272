"""What a search looks at besides what it finds: the patients that it names, the types that chains lead through, the rows that it needs."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, TypeAlias, cast

from profiles.fhir.query import All, AnyOf, Chain, Condition, Criterion, InCompartment, Not, ReferenceValue, Reverse, Search
from profiles.fhir.report_studies import PARAMETERS
from profiles.r4.search import Parameter
from server.access.decisions import Decision, Interaction
from server.records.report_links import STUDY
from server.work.fhir import permission

Looked: TypeAlias = tuple[str, str]
"""A resource type and the code of one of its parameters; `*` for all types, or for every reference; or `ROWS`."""
ROWS: Final = ""
"""Rows of no parameter: those of compartments."""
_COLUMNS: Final = frozenset({"_id", "_lastUpdated"})
"""Parameters that need no rows."""
_TERMS: Final = {
    "in": (("ValueSet", "url"), ("CodeSystem", "url")), "not-in": (("ValueSet", "url"), ("CodeSystem", "url")),
    "above": (("CodeSystem", "url"),), "below": (("CodeSystem", "url"),),
}  # fmt: skip
"""Modifier -> where the codes that it means are stored."""


def patients(search: Search) -> frozenset[str]:
    """The ids of the patients that a search names, by `patient=...`, a reference to a Patient, or a compartment."""
    return frozenset(_patients(_walked(search.condition)))


def looked_at(search: Search) -> frozenset[Looked]:
    """Of which types it looks at which parameters' rows, at every step of a chain, in what it sorts by and in what it includes."""
    found = set(_looked(search.condition, search.types))
    for key in search.sort:
        types = search.types
        for parameter, target in key.chain:
            found |= {(type_, parameter.code) for type_ in types}
            types = (target,)
        found |= {(type_, key.parameter.code) for type_ in types if key.parameter.code not in _COLUMNS}
    for each in search.includes:
        sources = ("*",) if each.source == "*" and (each.reverse or each.iterate) else search.types
        found |= {(type_, each.parameter or "*") for type_ in (sources if each.source == "*" else (each.source,))}
    return frozenset(found)


def _looked(condition: Condition, types: tuple[str, ...]) -> Iterator[Looked]:
    match condition:
        case All(conditions) | AnyOf(conditions):
            for each in conditions:
                yield from _looked(each, types)
        case Not(inner):
            yield from _looked(inner, types)
        case Criterion(parameter=parameter):
            if parameter.code not in _COLUMNS:
                yield from ((type_, parameter.code) for type_ in types)
            yield from _TERMS.get(condition.modifier, ()) if parameter.type == "token" else ()
        case Chain(parameter=parameter, conditions=ways):
            yield from ((type_, parameter.code) for type_ in types)
            for target, each in ways:
                yield from _looked(each, (target,))
        case Reverse(type=type_, parameter=parameter, condition=inner):
            yield type_, parameter.code
            yield from _looked(inner, (type_,))
        case InCompartment():
            yield from ((type_, ROWS) for type_ in types)


def granted(made: Decision, search: Search) -> Search:
    """The same search, whose chains go through types only that the caller may search.

    Raises `Forbidden` where a chain, `_has` or sort has no other way: what it asks would be told by what it finds. So would be that there is a
    study, by the links of reports that name it (`report_links`).
    """
    for key in search.sort:
        for _, type_ in key.chain:
            permission.require(made, type_, Interaction.SEARCH)
        if _is_of_studies(key.parameter):
            permission.require(made, STUDY, Interaction.SEARCH)
    return replace(search, condition=cast("All", _granted(made, search.condition)))


def _granted(made: Decision, condition: Condition) -> Condition:
    match condition:
        case All(conditions) | AnyOf(conditions):
            return replace(condition, conditions=tuple(_granted(made, each) for each in conditions))
        case Not(inner):
            return Not(_granted(made, inner))
        case Chain(conditions=ways):
            open_ = [each for each in ways if permission.is_granted(made, each[0], Interaction.SEARCH)]
            if not open_:
                permission.require(made, ways[0][0], Interaction.SEARCH)
            return replace(condition, conditions=tuple((type_, _granted(made, each)) for type_, each in open_))
        case Reverse():
            permission.require(made, condition.type, Interaction.SEARCH)
            return replace(condition, condition=_granted(made, condition.condition))
        case Criterion() if _asks_for_study(condition):
            permission.require(made, STUDY, Interaction.SEARCH)
            return condition
        case _:
            return condition


def _is_of_studies(parameter: Parameter) -> bool:
    return any(PARAMETERS.get(type_) == parameter.code for type_ in parameter.bases)


def _asks_for_study(criterion: Criterion) -> bool:
    """Whether a report that names a study may answer as if it had a reference to it."""
    if not _is_of_studies(criterion.parameter):
        return False
    leads = (each for each in criterion.values if isinstance(each, ReferenceValue) and not each.url)
    return criterion.modifier == "missing" or any(each.type in ("", STUDY) for each in leads)


def _patients(conditions: Iterable[Condition]) -> Iterator[str]:
    for each in conditions:
        if isinstance(each, InCompartment) and each.type == "Patient":
            yield each.id
        elif isinstance(each, Criterion) and each.parameter.type == "reference":
            for value in each.values:
                if isinstance(value, ReferenceValue) and value.id and not value.url and _is_patient(each, value):
                    yield value.id


def _is_patient(criterion: Criterion, value: ReferenceValue) -> bool:
    """An id alone is a patient's where the parameter leads to nothing else."""
    return (value.type or criterion.modifier or ("Patient" if criterion.parameter.code == "patient" else "")) == "Patient"


def _walked(condition: Condition) -> Iterator[Condition]:
    """A condition and all that it is made of."""
    yield condition
    match condition:
        case All(conditions) | AnyOf(conditions):
            for each in conditions:
                yield from _walked(each)
        case Not(inner) | Reverse(condition=inner):
            yield from _walked(inner)
        case Chain(conditions=ways):
            for _, each in ways:
                yield from _walked(each)
        case _:
            pass
