"""A search as its client wrote it, read by the table of offered parameters (FHIR R4 section 3.1.1)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from profiles.search_parameters import DATE_PARAMETER, INCLUDES, OFFERED, alternatives, date_value, token_value
from server.edges.fhir.negotiation import Pairs
from server.edges.fhir.outcome import ParameterError
from server.records.search import Query, Sort

DEFAULT_COUNT = 50
MOST = 1000
_MOST_VALUES = 200

FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_REPEATABLE = frozenset({"_include"})
_RESULT = frozenset({"_format", "_pretty", "_count", "_sort", "_total", "_summary", "_include", "_cursor"})

Total = Literal["", "none", "accurate"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched (`query`) and how it is to be told. `understood` are the parameters for the self link, without the cursor."""

    query: Query
    understood: Pairs
    ignored: tuple[str, ...] = ()
    includes: frozenset[str] = frozenset()
    count: int = DEFAULT_COUNT
    total: Total = ""
    counts_only: bool = False
    cursor: str = ""

    @property
    def patients(self) -> frozenset[str]:
        """The patients that it names."""
        return frozenset(patient for group in self.query.patients for patient in group)


def read_search(type_: str, parameters: Pairs, *, base: str, lenient: bool) -> Search:
    """FHIR R4 section 3.1.1: the search that `parameters` ask for. `base` is the URL of the FHIR base without a trailing slash.

    Raises `ParameterError` for a value that is wrong, and, unless `lenient`, for a parameter that is not offered.
    """
    offered = {each.name: each.type for each in OFFERED[type_]}
    understood = tuple((name, value) for name, value in parameters if name in offered or name in _RESULT)
    ignored = tuple(_fit(name) for name, _ in parameters if name not in offered and name not in _RESULT)
    if ignored and not lenient:
        raise ParameterError(
            ignored[0].partition(":")[0],
            f"{ignored[0] or 'this parameter'} is not offered for {type_}; offered are {', '.join(sorted(offered))}",
            "not-supported",
        )
    given = [(name, _alternatives(name, value)) for name, value in understood if name in offered]
    if sum(len(values) for _, values in given) > _MOST_VALUES:
        raise ParameterError("", f"a search has at most {_MOST_VALUES} values", "too-costly")
    dated = DATE_PARAMETER.get(type_, "")
    query = Query(
        type=type_,
        ids=tuple(_each(name, values, _id) for name, values in given if name == "_id"),
        patients=tuple(_each(name, values, lambda text: _patient(text, base)) for name, values in given if name == "patient"),
        tokens=tuple(
            (name, _each(name, values, token_value)) for name, values in given if offered[name] == "token" and name != "_id"
        ),
        dates=tuple(_each(name, values, date_value) for name, values in given if name == dated),
        updated=tuple(_each(name, values, date_value) for name, values in given if name == "_lastUpdated"),
        sort=_sort(type_, _one(understood, "_sort")),
    )
    count = _count(_one(understood, "_count"))
    return Search(
        query=query,
        understood=tuple(pair for pair in understood if pair[0] not in ("_cursor", "_format", "_pretty")),
        ignored=ignored,
        includes=_includes(type_, [value for name, value in understood if name == "_include"]),
        count=count,
        total=_total(_one(understood, "_total")),
        counts_only=_summary(_one(understood, "_summary")) or count == 0,
        cursor=_one(understood, "_cursor"),
    )


def _fit(name: str) -> str:
    """The name of a parameter, if it looks like one: what else a client writes there is not repeated."""
    return name if _NAME.fullmatch(name) else ""


def _alternatives(name: str, value: str) -> list[str]:
    try:
        return alternatives(value)
    except ValueError:
        raise ParameterError(name, f"{name} has an empty value") from None


def _each(name: str, values: list[str], read: Callable[[str], _T]) -> tuple[_T, ...]:
    try:
        return tuple(read(value) for value in values)
    except ValueError as error:
        raise ParameterError(name, f"{name}: {error}") from None


def _id(text: str) -> str:
    if not FHIR_ID.fullmatch(text):
        raise ValueError("an id has 1 to 64 letters, digits, dots and hyphens")
    return text


def _patient(text: str, base: str) -> str:
    return _id(text.removeprefix(f"{base}/").removeprefix("Patient/"))


def _one(parameters: Pairs, name: str) -> str:
    found = [value for each, value in parameters if each == name]
    if len(found) > 1 and name not in _REPEATABLE:
        raise ParameterError(name, f"{name} is given more than once")
    return found[0] if found else ""


def _count(text: str) -> int:
    """More than `MOST` is taken as `MOST`: a server may return fewer (FHIR R4 section 3.1.1.5.4)."""
    if not text:
        return DEFAULT_COUNT
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ParameterError("_count", f"_count is a number from 0 to {MOST}")
    return min(int(text), MOST)


def _sort(type_: str, text: str) -> Sort:
    dated = DATE_PARAMETER.get(type_)
    keys = ([dated] if dated else []) + (["_lastUpdated"] if type_ != "AuditEvent" else [])
    if not text:
        return Sort(by_update=dated is None)
    name = text.removeprefix("-")
    if name not in keys or (type_ == "AuditEvent" and name == text):
        choices = "-date" if type_ == "AuditEvent" else " or ".join(keys) + ", with or without a hyphen"
        raise ParameterError("_sort", f"{type_} is sorted by {choices}", "not-supported")
    return Sort(by_update=name == "_lastUpdated", descending=name != text)


def _total(text: str) -> Total:
    if text in ("", "none", "accurate"):
        return text  # type: ignore[return-value]
    if text == "estimate":  # an accurate total is an estimate too
        return "accurate"
    raise ParameterError("_total", "_total is none, estimate or accurate")


def _summary(text: str) -> bool:
    if text not in ("", "false", "count"):
        raise ParameterError("_summary", "_summary is count or false", "not-supported")
    return text == "count"


def _includes(type_: str, values: list[str]) -> frozenset[str]:
    found = set()
    for value in values:
        source, _, rest = value.partition(":")
        name, _, target = rest.partition(":")
        include = f"{source}:{name}"
        if include not in INCLUDES.get(type_, ()) or target not in ("", name.capitalize()):
            known = ", ".join(INCLUDES.get(type_, ())) or "nothing"
            raise ParameterError("_include", f"{type_} can include {known}", "not-supported")
        found.add(include)
    return frozenset(found)
