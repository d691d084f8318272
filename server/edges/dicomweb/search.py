"""QIDO-RS (PS3.18 section 10.6; IHE RAD-129): searches for studies, series and instances."""

import orjson
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import RAD_129
from profiles.dicom_json import Attributes, query_result
from profiles.query_attributes import Level
from server.access.decisions import OTHER_PATIENT, Decision, Interaction
from server.edges import context
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import answering
from server.errors import Forbidden, MalformedQuery, Refused
from server.records import catalogue, conditions, matching
from server.records.conditions import Path
from server.records.matching import Match, Query
from server.work.retrieve import STUDY_TYPE, require_study

MOST_RESULTS = 1000
MOST_INSTANCES = 20_000
"""Of one study: viewers ask for all of a study's instances at once."""
_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_MORE = "There are additional results that can be requested"


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
    node, decision = context.node(request), context.decision(request)
    try:
        media_type = accept.json(request)
        query, warnings = _query(request, level)
    except Refused:
        decision.require(STUDY_TYPE, Interaction.SEARCH)  # who may not search at all is told so first
        raise
    with node.database.read() as connection:
        _permit(connection, decision, query)
        allowed = decision.where(STUDY_TYPE, Interaction.SEARCH, catalogue.PATIENT.c.id)
        matches, more = matching.search(connection, query, allowed)
    if more:
        warnings.append(_MORE)
    asked = targets.asked(request, "query")
    context.told(request, "query", RAD_129, patients={match.patient for match in matches}, entities=asked)
    home = targets.base(request)
    body = b"[" + b",".join(_result(match, query, home) for match in matches) + b"]"
    response = Response(body, media_type=media_type)
    for warning in warnings:
        # RFC 7234 section 5.5: the agent is a host or a name; PS3.18 section 8.3.4.5 has the service's URL there.
        response.headers.append("Warning", f'299 {home} "{warning}"')
    return response


def _permit(connection: Connection, decision: Decision, query: Query) -> None:
    """A search that names another patient is refused, not answered with nothing: the client shall know why.

    Raises `Forbidden`, whether or not there is such a patient, and `NotFound` for a study of the path that is not there.
    """
    allowed = decision.patients(STUDY_TYPE, Interaction.SEARCH)
    if query.study_uid is not None:
        require_study(connection, decision, Interaction.SEARCH, query.study_uid)
    named = query.keys.get(conditions.PATIENT_ID, "").strip()
    names_one = allowed is not None and named and not conditions.has_wildcard(named)
    if names_one and named not in matching.patient_ids(connection, allowed or ()):
        others = matching.patients_of(connection, named)
        decision.require_patients(STUDY_TYPE, Interaction.SEARCH, others)
        raise Forbidden(OTHER_PATIENT)
    decision.require(STUDY_TYPE, Interaction.SEARCH)


def _query(request: Request, level: Level) -> tuple[Query, list[str]]:
    """PS3.18 section 8.3.4: matching, includefield, fuzzymatching, limit, offset. Raises `MalformedQuery` for anything else."""
    keys: dict[Path, str] = {}
    warnings: list[str] = []
    study, series = targets.uid(request, "study"), targets.uid(request, "series")
    most = MOST_INSTANCES if study is not None else MOST_RESULTS
    limit, offset = most, 0
    for name, value in request.query_params.multi_items():
        if name == "accept":
            continue
        if name == "includefield":
            for each in value.split(","):
                if each.strip().lower() not in ("", "all"):
                    conditions.path(each.strip())
        elif name == "fuzzymatching":
            if value.lower() not in ("true", "false"):
                raise MalformedQuery("fuzzymatching is true or false (PS3.18 section 8.3.4.2)")
            if value.lower() == "true":
                warnings.append(_FUZZY)
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
    return Query(level, keys, study, series, limit, offset), warnings


def _count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 15):
        raise MalformedQuery(f"{name} is a number from 0 (PS3.18 section 8.3.4.4)")
    return int(value)


def _result(match: Match, query: Query, home: str) -> bytes:
    """PS3.18 section 10.6.3.3: attributes of the level, and of those above that the URL does not name."""
    url = f"{home}/studies/{match.study.study_instance_uid}"
    stored = [orjson.loads(body) for body in match.attributes]
    result: Attributes = {}
    if query.level == "study" or query.study_uid is None:
        result = query_result("study", match.study, None, None, stored[0], url)
        result["00201206"] = {"vr": "IS", "Value": [match.series_count]}
        result["00201208"] = {"vr": "IS", "Value": [match.instance_count]}
    if match.series is not None:
        url = f"{url}/series/{match.series.series_instance_uid}"
        if query.level == "series" or query.series_uid is None:
            result = _merged(result, query_result("series", match.study, match.series, None, stored[1], url))
            result["00201209"] = {"vr": "IS", "Value": [match.series_instance_count]}
    if match.instance is not None:
        url = f"{url}/instances/{match.instance.sop_instance_uid}"
        result = _merged(result, query_result("instance", match.study, match.series, match.instance, stored[2], url))
    return orjson.dumps(dict(sorted(result.items())))


def _merged(above: Attributes, own: Attributes) -> Attributes:
    return {**above, **{tag: value for tag, value in own.items() if len(value) > 1 or tag not in above}}
