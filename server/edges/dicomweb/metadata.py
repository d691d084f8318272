"""WADO-RS metadata (PS3.18 section 10.4.1.1.2): the DICOM JSON that was made when the study was published."""

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe.joined_gzip import joined, plain
from profiles.audit_event import RAD_107, AuditedEntity
from profiles.query_result import bulk_located
from profiles.vocabulary import DICOM_XML
from server.access.decisions import Interaction
from server.edges import context
from server.edges.dicomweb import datasets, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.targets import Target
from server.records import catalogue, results
from server.records.catalogue import PATIENT, SERIES, STUDY
from server.records.packing import unpacked
from server.records.results import METADATA
from server.store import jobs
from server.store.db import micros
from server.work.retrieve import STUDY_TYPE, hidden

_TOGETHER = 100
_CACHED = "private, no-cache"
"""Kept by the client, and asked about each time: whoever lost the right to see it is told so."""


_OF_STUDY = (
    select(
        STUDY.c.pk, STUDY.c.id, STUDY.c.version, PATIENT.c.id.label("patient"), SERIES.c.uid.label("series"), SERIES.c.instance_count,
        METADATA.c.base, METADATA.c.body, METADATA.c.size, METADATA.c.crc,
    )
    .select_from(
        STUDY.join(PATIENT, PATIENT.c.pk == STUDY.c.patient_pk)
        .join(SERIES, SERIES.c.study_pk == STUDY.c.pk)
        .outerjoin(METADATA, METADATA.c.series_pk == SERIES.c.pk)
    )
    .where(STUDY.c.uid == bindparam("study"), STUDY.c.version > 0, SERIES.c.instance_count > 0)
    .order_by(func.coalesce(SERIES.c.number, 1 << 62), SERIES.c.uid)
)  # fmt: skip
_PREPARED = (_OF_STUDY, _OF_STUDY.where(SERIES.c.uid == bindparam("series")))
"""Prepared metadata of a study, or of one of its series."""


@answering("read", RAD_107)
def metadata(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.2: the metadata of a study, series or instance, as DICOM JSON (annex F) or XML (PS3.19 annex A.1).

    Of studies and series they are prepared and packed; what is not prepared yet, or was for another base URL, is made while it is sent.
    """
    home = targets.base(request)
    with context.reading(request) as connection:
        prepared = _prepared(request, connection)
        target = targets.located(request, connection, partly=True) if not prepared else None
        version = prepared[0].version if prepared else _version(connection, request)
        told = () if context.decision(request).is_by_patient(STUDY_TYPE, Interaction.READ) else [row.series for row in prepared]
    form = datasets.form(request)
    headers = {"ETag": _etag(request, version, form, told), "Cache-Control": _CACHED, "Vary": datasets.VARY}
    if headers["ETag"] in re.findall(r'W/"[0-9a-f]+"', request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if prepared and form != DICOM_XML and all(row.base == home for row in prepared):
        _told(request, prepared)
        return _packed(request, prepared, form, headers)
    if target is None:
        with context.reading(request) as connection:
            target = targets.located(request, connection, partly=True)
        if any(row.base not in (None, home) for row in prepared):
            _ask_again(request, prepared)
    targets.told(request, target)
    if form == DICOM_XML:
        return datasets.xml(_objects(request, target), headers)
    return _made(request, target, form, headers)


def _prepared(request: Request, connection: Connection) -> Sequence[Any]:
    """The series of a study, or the one that is named, with their prepared metadata where there are any; none for a single instance.

    Raises `Unauthenticated` or `Forbidden`.
    """
    study, series = targets.uid(request, "study"), targets.uid(request, "series")
    if targets.uid(request, "instance") is not None:
        return ()
    rows = connection.execute(_PREPARED[series is not None], {"study": study, "series": series}).all()
    if not rows:
        return rows
    decision, patient = context.decision(request), rows[0].patient
    decision.require_some(STUDY_TYPE, Interaction.READ, frozenset([patient]))
    if decision.is_by_patient(STUDY_TYPE, Interaction.READ):
        return rows
    seen = decision.seen_series(connection, Interaction.READ, study or "")
    told = [row for row in rows if row.series in seen]
    if not told:
        raise hidden(connection, decision, Interaction.READ, study or "", series, patient)
    return told


def _packed(request: Request, prepared: Sequence[Any], form: str, headers: dict[str, str]) -> Response:
    parts = [results.metadata(row) for row in prepared]
    if datasets.takes_gzip(request):
        return Response(b"".join(joined(parts)), headers={**headers, "Content-Encoding": "gzip"}, media_type=form)
    return Response(b"[%b]" % b",".join(map(plain, parts)), headers=headers, media_type=form)


def _made(request: Request, target: Target, form: str, headers: dict[str, str]) -> Response:
    body = _array(request, target)
    if datasets.takes_gzip(request):
        headers = {**headers, "Content-Encoding": "gzip"}
        body = _gzipped(body)
    return StreamingResponse(body, headers=headers, media_type=form)


def _told(request: Request, prepared: Sequence[Any]) -> None:
    """As `targets.told`, without the instances."""
    count = sum(row.instance_count for row in prepared)
    entity = AuditedEntity(reference=f"ImagingStudy/{prepared[0].id}", details=(("instances", str(count)),))
    context.told(request, "read", RAD_107, patients=[prepared[0].patient], entities=(entity,))


def _ask_again(request: Request, prepared: Sequence[Any]) -> None:
    """Has what was prepared for another base URL prepared for this one."""
    with context.node(request).database.write() as connection:
        jobs.enqueue(connection, results.PREPARE, str(prepared[0].pk), due=micros())


def _version(connection: Connection, request: Request) -> int:
    found = connection.execute(select(STUDY.c.version).where(STUDY.c.uid == targets.uid(request, "study")))
    return int(found.scalar_one())


def _etag(request: Request, version: int, form: str, told: Sequence[str]) -> str:
    """Weak: whatever changes what is visible of a study makes its next version; URLs inside depend on how this server is called.

    JSON and XML are two representations (RFC 9110 section 8.8.3), each with a tag of its own, and so is what has the series `told` alone.
    """
    named = "/".join(str(targets.uid(request, name)) for name in ("study", "series", "instance"))
    digest = hashlib.sha256(f"{targets.base(request)} {named} {version} {form} {' '.join(told)}".rstrip().encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def _objects(request: Request, target: Target) -> Iterator[bytes]:
    """A JSON object for each instance, some at a time; no transaction stays open while the client reads."""
    for start in range(0, len(target.instances), _TOGETHER):
        some = target.instances[start : start + _TOGETHER]
        with context.node(request).database.read() as connection:
            stored = list(catalogue.dicom_json(connection, [instance.pk for instance in some]))
        for instance, body in zip(some, stored, strict=True):
            yield bulk_located(unpacked(body), targets.url(request, instance))


def _array(request: Request, target: Target) -> Iterator[bytes]:
    yield b"["
    for number, body in enumerate(_objects(request, target)):
        yield b"," + body if number else body
    yield b"]"


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()
