"""The change feed, in the manner of Microsoft's DICOM service: what appeared, changed or went, in the order of the commits.

    GET /changefeed?offset=&limit=&startTime=&endTime=&includeMetadata=
    GET /changefeed/latest?includeMetadata=

It tells of every patient, so only `system/` and `user/` scopes open it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

import orjson
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_SEARCH
from server.access.decisions import Interaction
from server.edges import context
from server.edges.dicomweb import targets
from server.edges.dicomweb.answers import answering
from server.errors import Forbidden, MalformedQuery
from server.records import catalogue, changes
from server.records.changes import GONE, Changed
from server.records.packing import unpacked
from server.store.db import instant, micros
from server.work.retrieve import STUDY_TYPE

_LIMIT: Final = 100
_MOST: Final = 200
_PAGES: Final = 50
"""How far back the newest change is looked for that may be told."""
_KEY: Final = b'"BulkDataURI":"'
_ACTIONS: Final = {
    "create": "create",
    "restore": "create",
    "update": "update",
    "merge": "update",
    "delete": "delete",
    "reject": "delete",
}


@answering("query", REST_SEARCH)
def feed(request: Request) -> Response:
    """A JSON array, oldest first, empty where there is nothing more."""
    asked = _asked(request, {"offset", "limit", "starttime", "endtime", "includemetadata"})
    offset, limit = _number(asked, "offset", 0, 0, 1 << 62), _number(asked, "limit", _LIMIT, 1, _MOST)
    start, end = _time(asked, "starttime"), _time(asked, "endtime")
    with context.reading(request) as connection:
        found: Sequence[Changed] = changes.read(connection, offset=offset, limit=limit, start=start, end=end)
        found = _told(request, connection, found)
        rows = _rows(request, connection, found, asked)
    return _answer(request, found, b"[" + b",".join(rows) + b"]")


@answering("query", REST_SEARCH)
def latest(request: Request) -> Response:
    """The newest change that consents do not withhold, as a JSON object; 204 where nothing ever changed."""
    asked = _asked(request, {"includemetadata"})
    with context.reading(request) as connection:
        found = _newest(request, connection)
        rows = _rows(request, connection, found, asked)
    return _answer(request, found, rows[0]) if rows else Response(status_code=204)


def _asked(request: Request, known: set[str]) -> dict[str, str]:
    decision = context.decision(request)
    for interaction in (Interaction.SEARCH, Interaction.READ):
        decision.require(STUDY_TYPE, interaction)
        if decision.patients(STUDY_TYPE, interaction) is not None:
            raise Forbidden("the change feed tells of every patient: it needs a system/ or user/ scope")
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name.lower() not in known or name.lower() in asked:
            raise MalformedQuery("the change feed takes each of offset, limit, startTime, endTime and includeMetadata once")
        asked[name.lower()] = value
    return asked


def _newest(request: Request, connection: Connection) -> Sequence[Changed]:
    """The newest one that may be told."""
    page = changes.newest(connection)
    for _ in range(_PAGES):
        found = _told(request, connection, page)
        if found or not page:
            return found[:1]
        page = changes.newest(connection, _MOST, before=page[-1].sequence)
    return ()


def _told(request: Request, connection: Connection, found: Sequence[Changed]) -> Sequence[Changed]:
    """Those that consents do not withhold; of what is there no more only where they concern nothing of the patient's."""
    decision = context.decision(request)
    if decision.is_by_patient(STUDY_TYPE, Interaction.READ):
        return found

    @cache
    def told(patient: str, study: str, series: str) -> bool:
        return decision.sees_study(connection, Interaction.READ, study, series) or decision.sees_whose(
            connection, STUDY_TYPE, Interaction.READ, patient
        )

    return [one for one in found if told(one.patient, one.study_uid, one.series_uid)]


def _number(asked: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and least <= int(text) <= most):
        raise MalformedQuery(f"{name} is a number from {least}" + (f" to {most}" if most == _MOST else ""))
    return int(text)


def _time(asked: dict[str, str], name: str) -> int | None:
    if name not in asked:
        return None
    try:
        moment = datetime.fromisoformat(asked[name])
        return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise MalformedQuery("startTime and endTime are ISO 8601, such as 2026-11-22T10:11:12Z") from None


def _rows(request: Request, connection: Connection, found: Sequence[Changed], asked: dict[str, str]) -> list[bytes]:
    included = asked.get("includemetadata", "true").lower()
    if included not in ("true", "false"):
        raise MalformedQuery("includeMetadata is true or false")
    metadata = _metadata(request, connection, found) if included == "true" else {}
    return [_row(one, metadata.get(one.uid) if _state(one) == "current" else None) for one in found]


def _metadata(request: Request, connection: Connection, found: Sequence[Changed]) -> dict[str, bytes]:
    """The DICOM JSON of those that are as the feed says."""
    wanted = [one.uid for one in found if _state(one) == "current"]
    stored = list(catalogue.by_sop_uid(connection, wanted).values())
    bodies = catalogue.dicom_json(connection, [one.pk for one in stored])
    return {
        one.uid: unpacked(body).replace(_KEY, b"%s%s/" % (_KEY, targets.url(request, one).encode()))
        for one, body in zip(stored, bodies, strict=True)
    }


def _state(one: Changed) -> str:
    if not one.latest:
        return "replaced"
    return "deleted" if one.event in GONE else "current"


def _row(one: Changed, metadata: bytes | None) -> bytes:
    row = {
        "Sequence": one.sequence,
        "StudyInstanceUid": one.study_uid,
        "SeriesInstanceUid": one.series_uid,
        "SopInstanceUid": one.uid,
        "Action": _ACTIONS[one.event],
        "Event": one.event,
        "Timestamp": instant(one.at),
        "State": _state(one),
        "StudyVersion": one.version,
    }
    return orjson.dumps({**row, "Metadata": orjson.Fragment(metadata)} if metadata is not None else row)


def _answer(request: Request, found: Sequence[Changed], body: bytes) -> Response:
    context.told(request, "query", REST_SEARCH, patients={one.patient for one in found}, entities=targets.asked(request, "query"))
    return Response(body, media_type="application/json")
