"""The studies that somebody may see: a timeline, one study with its pictures and reports, and the small pictures on both."""

import re
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from server.edges import context
from server.edges.pages import looking
from server.edges.pages.browser import Visit
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day, examination
from server.errors import NotFound
from server.work import ohif
from server.work.portal import pictures, reading, reports
from server.work.portal.reading import Reader
from server.work.portal.studies import Place, SeenStudy

_COUNT: Final = 20
_PLACE: Final = re.compile(r"(\d{0,8})-([\d.]{0,13})-(\d{1,18})", re.ASCII)
_SHOWN: Final = frozenset({"application/pdf", "text/plain"})
_ENDINGS: Final = {"application/pdf": ".pdf", "text/plain": ".txt", "text/xml": ".xml", "application/xml": ".xml", "text/html": ".html", "image/jpeg": ".jpg", "image/png": ".png"}  # fmt: skip
"""Of what a report may be. HTML and XML are saved, never opened here."""
SMALL, LARGE = 240, 640
"""Pixels of the pictures in a timeline, and of those of a study's series."""


def timeline(visit: Visit) -> Response:
    """`GET /images`: of own records, of those one acts for, and of access codes that the browser has claimed."""
    before = _place(visit.request.query_params.get("before", ""))
    with visit.node.database.read() as connection:
        readers = looking.readers(visit, connection)
        if not readers:
            return visit.redirect("/claim")
        found = reading.listed(connection, readers, before=before, most=_COUNT + 1)
        with_reports = reports.counted(connection, [each.decision for each in readers], [each.id for each in found])
    shown = found[:_COUNT]
    looking.told_list(visit, shown)
    more = "-".join(map(str, shown[-1].place)) if len(found) > _COUNT else ""
    names = {each.patient: each.patient_name for each in shown}
    return visit.page(
        "images.html", csrf=visit.early_csrf, years=_by_year(shown, with_reports), more=more, earlier=before is not None,
        names=names if len(names) > 1 else {}, done=visit.take_done(), claimed=visit.session is None,
    )  # fmt: skip


def study(visit: Visit) -> Response:
    """`GET /images/{study}`: what there is of one study."""
    with visit.node.database.read() as connection:
        readers = looking.readers(visit, connection)
        if not readers:
            return visit.redirect("/claim")
        found, reader = reading.one(connection, readers, visit.request.path_params["study"])
        said = reports.of_study(connection, reader.decision, found)
        others = reading.listed(connection, [reader], most=20, patient=found.patient)
    looking.told_study(visit, reader, found, "page")
    return visit.page(
        "study.html", csrf=visit.early_csrf, study=words(found, len(said)), series=found.series, reports=said, claimed=visit.session is None,
        advanced=ohif.page(visit.settings, found.uid), done=visit.take_done(), earlier=_earlier(found, others),
    )  # fmt: skip


def _earlier(study: SeenStudy, others: Sequence[SeenStudy]) -> dict[str, str] | None:
    """The study to compare with: the newest of those before it that has pictures, of the same kind if there is one."""
    before = [each for each in others if each.place < study.place and any(one.kind == "image" for one in each.series)]
    found = next((each for each in before if set(each.modalities) & set(study.modalities)), next(iter(before), None))
    return None if found is None else {"id": found.id, "date": day(found.date)}


def picture(visit: Visit) -> Response:
    """`GET /images/{study}/picture`, with `series` of one of its series, and `large`: the middle image, as JPEG."""
    with visit.node.database.read() as connection:
        readers = looking.readers(visit, connection)
    return picture_for(visit, readers)


def picture_for(visit: Visit, readers: Sequence[Reader]) -> Response:
    """The same, for whoever may look."""
    query = visit.request.query_params
    size = LARGE if "large" in query else SMALL
    with visit.node.database.read() as connection:
        found, reader = reading.one(connection, readers, visit.request.path_params["study"])
        wanted = query.get("series", "")
        series = next((each for each in found.series if each.uid == wanted), None) if wanted else pictures.first(found)
        if series is None:
            raise NotFound("there is no such series")
        chosen = pictures.middle(connection, found, series)
    headers = {"ETag": f'"{pictures.key(chosen, size)}"', "Cache-Control": "private, no-cache"}
    looking.told_study(visit, reader, found, "picture")
    if headers["ETag"] in visit.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    made = pictures.jpeg(visit.node.blobs, context.renderer(visit.request), chosen, size)
    return Response(made, headers=headers, media_type="image/jpeg")


def report(visit: Visit) -> Response:
    """`GET /images/{study}/reports/{type}/{report}/{number}`: what is attached to a report. A PDF is shown, whatever else there is is saved."""
    with visit.node.database.read() as connection:
        readers = looking.readers(visit, connection)
    return report_for(visit, readers)


def report_for(visit: Visit, readers: Sequence[Reader]) -> Response:
    """The same, for whoever may look."""
    named, node = visit.request.path_params, visit.node
    with node.database.read() as connection:
        found, reader = reading.one(connection, readers, named["study"])
        body, media_type = reports.attached(
            connection, reader.decision, found, named["type"], named["report"], named["number"], node.blobs, f"{visit.settings.base_url}/fhir"
        )  # fmt: skip
    looking.told_study(visit, reader, found, "report")
    shown = "inline" if media_type in _SHOWN else "attachment"
    headers = {
        "Content-Disposition": f'{shown}; filename="report{_ENDINGS.get(media_type, "")}"',
        "Content-Security-Policy": "sandbox",
    }
    return Response(body, headers=headers, media_type=media_type if media_type in _ENDINGS else "application/octet-stream")


def _by_year(found: tuple[SeenStudy, ...], with_reports: dict[str, int]) -> list[tuple[str, list[dict[str, Any]]]]:
    years: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        years.setdefault(each.date[:4], []).append(words(each, with_reports.get(each.id, 0)))
    return list(years.items())


def words(study: SeenStudy, report_count: int) -> dict[str, Any]:
    """A study in the words of people."""
    return {
        "id": study.id, "uid": study.uid, "patient": study.patient, "title": examination(study.modalities, study.body_parts),
        "description": study.description, "date": day(study.date) or _("Date not known"), "institution": study.institution,
        "images": study.images, "has_picture": study.has_pictures, "reports": report_count, "is_whole": study.is_whole,
    }  # fmt: skip


def _place(text: str) -> Place | None:
    found = _PLACE.fullmatch(text)
    return (found[1], found[2], int(found[3])) if found else None
