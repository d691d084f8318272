"""What is shared as one FHIR Bundle: the patient, the studies and their reports with what is attached, and where the images can be looked at."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from profiles.smart.health_link import viewer_endpoint
from server.access.decisions import Decision
from server.errors import ImageShareError, NotFound
from server.store.blobs import BlobStore
from server.store.db import instant, micros
from server.work.fhir import reading
from server.work.fhir.caller import Caller
from server.work.portal import reports, studies
from server.work.portal.reports import Report
from server.work.portal.studies import SeenStudy

Json = dict[str, Any]
_LARGEST: Final = 8 << 20
"""Bytes of all that is attached together: apps hold the whole Bundle in memory. What is beyond that is to be seen on the page alone."""
_VIEWER: Final = "Look at the images in a browser"


@dataclass(frozen=True, slots=True)
class Sources:
    """What it is read from: `decision` is that of the opening, `base` our FHIR base URL."""

    connection: Connection
    decision: Decision
    blobs: BlobStore
    base: str


def of(
    sources: Sources, uids: tuple[str, ...], *, with_reports: bool, viewer: str, until: int
) -> tuple[bytes, tuple[SeenStudy, ...]]:
    """FHIR R4 section 3.3, a Bundle of type `collection` as JSON, and the studies that are in it. `viewer` is the address of the page for it."""
    seen = studies.of_uids(sources.connection, sources.decision, uids)
    said = (
        [(each, report) for each in seen for report in reports.of_study(sources.connection, sources.decision, each)]
        if with_reports
        else []
    )
    named = [
        *dict.fromkeys(("Patient", each.patient) for each in seen),
        *(("ImagingStudy", each.id) for each in seen),
    ]
    resources = [each for type_, id_ in named if (each := _stored(sources, type_, id_)) is not None]
    resources += _reports(sources, said)
    entries: list[Json] = [
        {"fullUrl": f"{sources.base}/{each['resourceType']}/{each['id']}", "resource": each} for each in resources
    ]
    entries.append({"resource": viewer_endpoint(_VIEWER, viewer, instant(until))})
    bundle = {"resourceType": "Bundle", "type": "collection", "timestamp": instant(micros()), "entry": entries}
    return orjson.dumps(bundle), seen


def _stored(sources: Sources, type_: str, id_: str) -> Json | None:
    """The resource, if the recipient may read it: of a study of which a series is kept closed there is none."""
    try:
        outcome = reading.read(sources.connection, Caller(sources.decision, sources.base), type_, id_)
    except ImageShareError:
        return None
    found: Json = orjson.loads(outcome.body)
    return found


def _reports(sources: Sources, said: list[tuple[SeenStudy, Report]]) -> Iterator[Json]:
    room = _LARGEST
    told: set[tuple[str, str]] = set()
    for study, report in said:
        if (report.type, report.id) in told:
            continue
        told.add((report.type, report.id))
        body, room = _with_data(sources, study, report, room)
        yield body


def _with_data(sources: Sources, study: SeenStudy, report: Report, room: int) -> tuple[Json, int]:
    """The report with what it refers to in it, as far as there is room, and the room that is left: an address of ours would open nothing."""
    body: Json = orjson.loads(orjson.dumps(report.body))
    for number, attachment in enumerate(reports.attachments(body)):
        try:
            data, media_type = reports.attached(
                sources.connection, sources.decision, study, report.type, report.id, number, sources.blobs, sources.base
            )
        except NotFound:
            continue
        if len(data) <= room:
            room -= len(data)
            attachment.pop("url", None)
            attachment |= {"contentType": media_type, "data": base64.b64encode(data).decode()}
    return body, room
