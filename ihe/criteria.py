"""What a stored query selects objects by, read with the table of stored queries (ITI TF-2 sections 3.18.4.1.2.3.3 to 3.18.4.1.2.3.7).

Attributes are named as in `profiles.document`. All criteria of a query have to hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ihe.iti18 import StoredQuery
from ihe.query_values import read_code
from ihe.stored_queries import PREFIXES, Kind, Parameter, Subject
from profiles.document import APPROVED, STABLE, Code

CURRENT: Final = 1
"""$MetadataLevel of who knows nothing of versions (supplement XDS Metadata Update, section 3.18.4.1.2.3.5.1.1)."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`start` <= time < `stop`, both DTM of any precision, an empty bound is open (ITI TF-2 section 3.18.4.1.2.3.3)."""

    start: str = ""
    stop: str = ""


ANY_TIME: Final = TimeRange()


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute, or one of its values, is one of `values`."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coded:
    """One of the attribute's codes is one of `codes`: code and scheme count, the display does not."""

    attribute: str
    codes: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """One of the attribute's values matches one of the `patterns` of SQL LIKE: `%` is any characters, `_` one; case counts."""

    attribute: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class During:
    """The attribute's time is in the range.

    What has no serviceStartTime or serviceStopTime is not judged by it, nor an On-Demand Document Entry by its creationTime.
    """

    attribute: str
    range: TimeRange


Criterion = OneOf | Coded | Like | During


def seconds(time: str) -> str:
    """A DTM cut to, or filled up to, its earliest second: `2005` is `20050101000000`."""
    return (time + "00000101000000"[len(time) :])[:14]


def criteria(query: StoredQuery, subject: Subject) -> tuple[Criterion, ...]:
    """What of `query` says which objects of this kind it means; patient ids and keys are read by `patient_ids` and `key`."""
    return tuple(_criteria(query, subject))


def _criteria(query: StoredQuery, subject: Subject) -> Iterator[Criterion]:
    definition = query.definition
    for parameter in definition.parameters:
        if (
            not parameter.attribute
            or not parameter.name.startswith(PREFIXES[subject])
            or parameter.name in definition.exactly_one_of
            or parameter.attribute == "patient_id"
        ):
            continue
        if parameter.kind in (Kind.FROM, Kind.TO):
            if parameter.kind is Kind.FROM:
                yield from _during(query, parameter)
            continue
        for slot in query.parameters.get(parameter.name, ()):
            yield _one(parameter, tuple(slot))
        if parameter.attribute == "object_type" and parameter.name not in query.parameters:
            yield OneOf("object_type", (STABLE,))  # section 3.18.4.1.2.3.6.2


def _during(query: StoredQuery, parameter: Parameter) -> Iterator[Criterion]:
    """Of both ends of a range, of which `parameter` is the first."""
    found = TimeRange(query.value(parameter.name), query.value(parameter.name.removesuffix("From") + "To"))
    if found != ANY_TIME:
        yield During(parameter.attribute, found)


def _one(parameter: Parameter, values: tuple[str, ...]) -> Criterion:
    match parameter.kind:
        case Kind.CODE:
            return Coded(parameter.attribute, tuple(read_code(value, parameter.name) for value in values))
        case Kind.PATTERN:
            return Like(parameter.attribute, values)
        case _:
            return OneOf(parameter.attribute, values)


def patient_ids(query: StoredQuery) -> tuple[str, ...]:
    """The patient ids (CX) that a query names, whose parameter is called differently in each."""
    return tuple(
        value for each in query.definition.parameters if each.attribute == "patient_id" for value in query.values(each.name)
    )


def key(query: StoredQuery) -> OneOf:
    """By what a Get query names its objects: entryUUID, uniqueId or logicalID. For queries of which one of these is required."""
    given = (query.definition.parameter(name) for name in query.definition.exactly_one_of if name in query.parameters)
    return next(OneOf(each.attribute, query.values(each.name)) for each in given if each is not None)


def level(query: StoredQuery) -> int:
    """$MetadataLevel, 1 or 2."""
    return int(query.value("$MetadataLevel") or CURRENT)


def association_statuses(query: StoredQuery) -> tuple[str, ...]:
    """$XDSAssociationStatus, as far as the level lets see: deprecated Associations are for who asks for level 2."""
    asked = query.values("$XDSAssociationStatus") or (APPROVED,)
    return tuple(each for each in asked if each == APPROVED) if level(query) == CURRENT else asked
