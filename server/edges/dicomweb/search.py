"""QIDO-RS (PS3.18 section 10.6; IHE RAD-129): searches for studies, series and instances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, true
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import RAD_129
from profiles.query_attributes import Level
from profiles.query_result import located, merged
from server.access.decisions import OTHER_PATIENT, Decision, Interaction
from server.edges import context
from server.edges.dicomweb import datasets, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.fields import Fields, included
from server.errors import Busy, Forbidden, MalformedQuery, Refused
from server.records import conditions, matching
from server.records.catalogue import INSTANCE, PATIENT, SERIES, STUDY
from server.records.comparing import Condition, has_wildcard
from server.records.conditions import Path
from server.records.matching import Query
from server.work.retrieve import IN_PART, STUDY_TYPE, require_study

MOST_RESULTS = 1000
MOST_INSTANCES = 20_000
"""Of one study: viewers ask for all of a study's instances at once."""
MOST_BYTES = 32 << 20
"""Of results with more than their usual attributes; who wants the rest asks on from there (`offset`)."""
_FIRST = 100
_MORE = "There are additional results that can be requested"
_MOST_FIELDS = 100
_OF_ALL: Final = frozenset({"00080061", "00080062", "00201206", "00201208"})
"""Attributes of a study that tell of all of its series: modalities, SOP Classes, and how many series and instances it has."""
_RESULTS: Final[Mapping[Level, ColumnElement[Any]]] = {
    "study": STUDY.c.result.label("result_study"),
    "series": SERIES.c.result.label("result_series"),
    "instance": INSTANCE.c.attributes.label("result_instance"),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    query: Query
    fields: Fields
    told: Sequence[Level]
    """Levels whose attributes a result has by default: its own, and those above that the URL does not name."""


@answering("query", RAD_129)
def studies(request: Request) -> Response:
    """PS3.18 section 10.6.1, table 10.6.1-1: All Studies."""
    return _search(request, "study")


@answering("query", RAD_129)
def series(request: Request) -> Response:
    """PS3.18 section 10.6.1, table 10.6.1-1: All Series, Study's Series."""
    return _search(request, "series")


@answering("query", RAD_129)
def instances(request: Request) -> Response:
    """PS3.18 section 10.6.1, table 10.6.1-1: All Instances, Study's Instances, Study's Series' Instances."""
    return _search(request, "instance")


def _search(request: Request, level: Level) -> Response:
    decision = context.decision(request)
    try:
        form = datasets.form(request)
        asked = _asked(request, level)
    except Refused:
        decision.require(STUDY_TYPE, Interaction.SEARCH)  # who may not search at all is told so first
        raise
    query, home = asked.query, targets.base(request)
    with context.reading(request) as connection:
        _permit(connection, decision, query)
        seen = _seen(connection, decision, asked)
        patients, bodies, more = _results(connection, asked, seen, home)
    context.told(request, "query", RAD_129, patients=patients, entities=targets.asked(request, "query"))
    response = datasets.answer(form, bodies)
    if more:
        # RFC 7234 section 5.5: the agent is a host or a name; PS3.18 section 8.3.4.5 has the service's URL there.
        response.headers.append("Warning", f'299 {home} "{_MORE}"')
    return response


def _results(
    connection: Connection, asked: _Asked, seen: tuple[Condition, Condition], home: str
) -> tuple[set[str], list[bytes], bool]:
    """The patients and the results, and whether there are more.

    What has all attributes of its instances is read some at a time, and ends at `MOST_BYTES`: a thousand frames may be megabytes.
    """
    columns = (PATIENT.c.id, *(_RESULTS[each] for each in asked.told), *asked.fields.columns)
    query, whole = asked.query, asked.fields.wanted
    patients: set[str] = set()
    bodies: list[bytes] = []
    size = 0
    while True:
        count = left = query.limit - len(bodies)
        if whole:
            count = min(left, max(_FIRST, (MOST_BYTES - size) * len(bodies) // (size + 1)))
        page = replace(query, limit=count, offset=query.offset + len(bodies))
        rows = matching.page(connection, page, seen[0], columns, seen[1])
        for row, body in zip(rows[:count], _bodies(rows[:count], asked, home), strict=True):
            if whole and bodies and size + len(body) > MOST_BYTES:
                return patients, bodies, True
            patients.add(row[0])
            bodies.append(located(body, home))
            size += len(body)
        if len(rows) <= count or count == left:
            return patients, bodies, len(rows) > count


def _bodies(rows: Sequence[Any], asked: _Asked, home: str) -> Iterator[bytes]:
    """PS3.18 section 10.6.3.3: the results as they were made when the study was published."""
    first, last = 1, len(asked.told)
    more = asked.fields.wanted
    for row in rows:
        body = row[first]
        for own in row[2 : last + 1]:
            body = merged(body, own) if body and own else None
        if not body:
            raise Busy("the catalogue is being indexed after an upgrade; try again")
        yield asked.fields.added(row, body, home) if more else body


def _permit(connection: Connection, decision: Decision, query: Query) -> None:
    """A search that names another patient is refused, not answered with nothing: the client shall know why.

    Raises `Forbidden`, whether or not there is such a patient, and `NotFound` for a study of the path that is not there.
    """
    allowed = decision.some_of(STUDY_TYPE, Interaction.SEARCH)
    if query.study_uid is not None:
        require_study(connection, decision, Interaction.SEARCH, query.study_uid)
    named = query.keys.get(conditions.PATIENT_ID, "").strip()
    names_one = allowed is not None and named and not has_wildcard(named)
    if names_one and named not in matching.patient_ids(connection, allowed or ()):
        others = matching.patients_of(connection, named)
        decision.require_some(STUDY_TYPE, Interaction.SEARCH, others)
        raise Forbidden(OTHER_PATIENT)
    decision.require(STUDY_TYPE, Interaction.SEARCH)


def _seen(connection: Connection, decision: Decision, asked: _Asked) -> tuple[Condition, Condition]:
    """The Decision as SQL: which studies may be told of, and which of their series.

    A study that consents withhold in part is told of by its series, to who names it; not what says how many it has of what.
    Raises `Forbidden` for who asks for that.
    """
    uid = asked.query.study_uid
    if uid is None or decision.sees_study(connection, Interaction.SEARCH, uid):
        return decision.studies_where(Interaction.SEARCH), true()
    if not _OF_ALL.isdisjoint(path[0] for path in asked.fields.paths):
        raise Forbidden(f"{IN_PART}, and not for what all of them have together")
    return true(), decision.studies_where(Interaction.SEARCH, SERIES.c.uid)


def _asked(request: Request, level: Level) -> _Asked:
    """PS3.18 section 8.3.4: matching, includefield, fuzzymatching, limit, offset. Raises `MalformedQuery` for anything else."""
    keys: dict[Path, str] = {}
    fields: list[Path] = []
    everything = fuzzy = False
    study, series = targets.uid(request, "study"), targets.uid(request, "series")
    most = MOST_INSTANCES if study is not None else MOST_RESULTS
    limit, offset = most, 0
    for name, value in request.query_params.multi_items():
        if name == "accept":
            continue
        if name == "includefield":
            all_of_them, named = included(value)
            everything |= all_of_them
            fields += named
        elif name == "fuzzymatching":
            if value.lower() not in ("true", "false"):
                raise MalformedQuery("fuzzymatching is true or false (PS3.18 section 8.3.4.2)")
            fuzzy = value.lower() == "true"
        elif name == "limit":
            limit = min(_count(name, value), most)
        elif name == "offset":
            offset = _count(name, value)
        else:
            key = conditions.path(name)
            if keys.get(key, value) != value:
                raise MalformedQuery(
                    "a query parameter is given twice; alternatives are joined by commas (PS3.18 section 8.3.4.1)"
                )
            keys[key] = value
    if len(fields) > _MOST_FIELDS:
        raise MalformedQuery(f"at most {_MOST_FIELDS} attributes can be asked for by name; includefield=all has all of them")
    query = Query(level, keys, study, series, limit, offset, fuzzy)
    told: tuple[Level, ...] = tuple(each for each in _RESULTS if _is_told(each, level, study, series))
    # PS3.18 table 10.6.3-3: what is matched is also sent.
    paths = tuple(dict.fromkeys((*fields, *keys)))
    return _Asked(query, Fields(level, told, paths, everything), told)


def _is_told(each: Level, level: Level, study: str | None, series: str | None) -> bool:
    if each == level:
        return True
    return study is None if each == "study" else each == "series" and level == "instance" and series is None


def _count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 15):
        raise MalformedQuery(f"{name} is a number from 0 (PS3.18 section 8.3.4.4)")
    return int(value)
