"""What a search looks at besides what it finds: the patients that it names, and the types that chains lead through."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from profiles.fhir.query import All, AnyOf, Chain, Condition, Criterion, InCompartment, Not, ReferenceValue, Reverse, Search
from server.access.decisions import Decision, Interaction
from server.work.fhir import permission


def patients(search: Search) -> frozenset[str]:
    """The ids of the patients that a search names, by `patient=...`, a reference to a Patient, or a compartment."""
    return frozenset(_patients(_walked(search.condition)))


def codes(search: Search) -> frozenset[str]:
    """The codes of the parameters that it looks at, at any step of a chain."""
    found = {each.parameter.code for each in _walked(search.condition) if isinstance(each, Criterion | Chain | Reverse)}
    return frozenset(found | {key.parameter.code for key in search.sort})


def granted(made: Decision, search: Search) -> Search:
    """The same search, whose chains go through types only that the caller may search.

    Raises `Forbidden` where a chain, `_has` or sort has no other way: what it asks would be told by what it finds.
    """
    for key in search.sort:
        for _, type_ in key.chain:
            permission.require(made, type_, Interaction.SEARCH)
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
        case _:
            return condition


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
