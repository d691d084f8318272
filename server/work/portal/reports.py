"""Reports of a study: DiagnosticReports and DocumentReferences that lead to its ImagingStudy, and what of them a person can read.

What they say is told as text; a form that was attached (PDF, text, CDA) can be opened, as it is.
"""

import base64
import binascii
import html
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from profiles.fhir.references import parse_reference
from profiles.vocabulary import DICOM
from server.access.decisions import Decision, Interaction
from server.errors import ImageShareError, NotFound
from server.records.fhir_search.terms import REFERENCE, RESOURCE
from server.records.resources import content
from server.store.blobs import BlobStore
from server.work.fhir import binary
from server.work.fhir.caller import Caller
from server.work.portal.studies import SeenStudy

Json = dict[str, Any]
_TYPES: Final = ("DiagnosticReport", "DocumentReference")
_MOST: Final = 50
_LARGEST: Final = 64 << 20
_GONE: Final = frozenset({"entered-in-error", "cancelled", "superseded"})
_EARLY: Final = frozenset({"registered", "partial", "preliminary"})
_TAG: Final = re.compile(r"<[^>]*>")
_BREAKS: Final = re.compile(r"</(?:p|div|tr|li|h[1-6])>|<br[^>]*>", re.IGNORECASE)
NO_REPORT: Final = "there is no such report, or it is not yours to see"


@dataclass(frozen=True, slots=True)
class Form:
    """Something that is attached: its place among the attachments, its media type, and its title."""

    number: int
    media_type: str
    title: str


@dataclass(frozen=True, slots=True)
class Report:
    """`type` and `id` are the resource's; `date` is as FHIR has it; `text` is plain, `is_early` says that it may change still."""

    type: str
    id: str
    patient: str
    title: str
    date: str
    text: str
    author: str
    is_early: bool
    forms: tuple[Form, ...] = ()
    body: Json = field(default_factory=dict, repr=False, compare=False)


def of_study(connection: Connection, decision: Decision, study: SeenStudy) -> tuple[Report, ...]:
    """Those that the reader may know of, the newest first."""
    found = (_read(connection, row.type, row.id, row.patient) for row in _rows(connection, decision, [study.id]))
    return tuple(sorted(filter(None, found), key=lambda each: each.date, reverse=True))


def counted(connection: Connection, decisions: Iterable[Decision], studies: Collection[str]) -> dict[str, int]:
    """How many reports each of these studies (ids of ImagingStudies) has that one of these may know of, by its id."""
    found: set[tuple[str, str]] = set()
    for each in decisions:
        found |= {(row.study, row.id) for row in _rows(connection, each, list(studies))}
    return dict(Counter(study for study, _ in found))


def attached(
    connection: Connection, decision: Decision, study: SeenStudy, type_: str, id_: str, number: int, blobs: BlobStore, base: str
) -> tuple[bytes, str]:
    """What is attached to a report of this study, and its media type. Raises `NotFound`."""
    row = next((row for row in _rows(connection, decision, [study.id]) if (row.type, row.id) == (type_, id_)), None)
    report = _read(connection, type_, id_, row.patient) if row is not None else None
    if report is None:
        raise NotFound(NO_REPORT)
    attachment = dict(enumerate(attachments(report.body))).get(number)
    if attachment is None:
        raise NotFound(NO_REPORT)
    return _bytes(connection, decision, attachment, blobs, base), str(attachment.get("contentType", "application/octet-stream"))


def _rows(connection: Connection, decision: Decision, studies: Sequence[str]) -> Sequence[Any]:
    """Resources that lead to these ImagingStudies, as far as the Decision tells of them."""
    rows: list[Any] = []
    for type_ in _TYPES:
        if decision.some_of(type_, Interaction.READ) == frozenset():
            continue
        leads = (
            REFERENCE.c.resource_pk == RESOURCE.c.pk,
            REFERENCE.c.target_type == "ImagingStudy",
            REFERENCE.c.target_id.in_(list(studies)),
        )
        wanted = (
            select(RESOURCE.c.type, RESOURCE.c.id, RESOURCE.c.patient, REFERENCE.c.target_id.label("study"))
            .join(REFERENCE, leads[0])
            .where(
                RESOURCE.c.type == type_, RESOURCE.c.deleted == 0, *leads[1:], decision.rows(type_, Interaction.READ, RESOURCE)
            )
            .distinct()
            .limit(_MOST * max(1, len(studies)))
        )
        rows += [
            row
            for row in connection.execute(wanted).all()
            if type_ != "DocumentReference" or not _is_manifest(connection, row.id)
        ]
    return rows


def _is_manifest(connection: Connection, id_: str) -> bool:
    """Whether the document is the study's own manifest: a list of its images, nothing to read."""
    return all(each.get("contentType") == DICOM for each in attachments(content(connection, "DocumentReference", id_)))


def _read(connection: Connection, type_: str, id_: str, patient: str) -> Report | None:
    body = content(connection, type_, id_)
    status = str(body.get("docStatus") or body.get("status", ""))
    if status in _GONE or body.get("status") in _GONE:
        return None
    forms = tuple(
        Form(number, str(each.get("contentType", "")), str(each.get("title", "")))
        for number, each in enumerate(attachments(body))
    )
    date = body.get("issued") or body.get("effectiveDateTime") or body.get("date") or body.get("meta", {}).get("lastUpdated", "")
    return Report(type_, id_, patient, _title(body), str(date), _text(body), _author(body), status in _EARLY, forms, body)


def attachments(body: Json) -> Iterator[Json]:
    yield from body.get("presentedForm", ())
    yield from (each["attachment"] for each in body.get("content", ()) if "attachment" in each)


def _title(body: Json) -> str:
    for concept in (body.get("code"), body.get("type")):
        if concept:
            said = concept.get("text") or next((each["display"] for each in concept.get("coding", ()) if each.get("display")), "")
            if said:
                return str(said)
    return str(body.get("description", ""))


def _author(body: Json) -> str:
    people = [*body.get("resultsInterpreter", ()), *body.get("performer", ()), *body.get("author", ())]
    return next((str(each["display"]) for each in people if each.get("display")), "")


def _text(body: Json) -> str:
    """What it concludes, else its narrative, without markup: what it says is shown as text, whatever it says."""
    if conclusion := body.get("conclusion"):
        return str(conclusion).strip()
    narrative = body.get("text", {}).get("div", "") if body.get("resourceType") == "DiagnosticReport" else ""
    return html.unescape(_TAG.sub("", _BREAKS.sub("\n", narrative))).strip()


def _bytes(connection: Connection, decision: Decision, attachment: Json, blobs: BlobStore, base: str) -> bytes:
    if "data" in attachment:
        try:
            return base64.b64decode(str(attachment["data"]))
        except (binascii.Error, ValueError):
            raise NotFound(NO_REPORT) from None
    target = parse_reference(str(attachment.get("url", "")), base)
    if target.type != "Binary" or not target.id or target.url:
        raise NotFound("this report is kept elsewhere; ask who wrote it")
    try:
        found = binary.read(connection, Caller(decision, base), target.id)
    except ImageShareError:
        raise NotFound(NO_REPORT) from None
    if found.size > _LARGEST:
        raise NotFound("this report is too large to be shown here")
    if not found.blob_id:
        return found.inline
    with blobs.open(found.blob_id) as file:
        return file.read()
