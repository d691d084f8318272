"""The page on which images are looked at. It is whole when it arrives: the first picture is in it, and what the script needs for the rest.

The script gets a token in the page, which it takes out and keeps in memory; every request to `/dicomweb` has it, and `/viewer/token` gives the next one
for as long as the session, access code, share or launch behind the page lasts. No cookie, no storage, no address has any of it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.access.viewing import Ticket
from server.edges import context
from server.edges.pages import assets, looking
from server.edges.pages.browser import Visit, form_of
from server.edges.pages.showing import root
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day, examination, kinds
from server.errors import ImageShareError, NotFound
from server.store.db import micros
from server.work.portal import pictures, reading
from server.work.portal.reading import Reader
from server.work.portal.studies import SeenSeries, SeenStudy

_LARGEST_PICTURE: Final = 1024
_CSP: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src blob:; "
    "connect-src 'self' blob: data:; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a page shows: studies, the first of them first; `back` is where its closing link leads, empty for none; `ancestors` may frame it.

    `saves` says whether pictures may be saved: nobody can be kept from taking a picture of the screen, but it is not offered.
    """

    studies: tuple[SeenStudy, ...]
    ticket: Ticket
    back: str = ""
    who: str = ""
    ancestors: tuple[str, ...] = ()
    saves: bool = False
    beside: str = ""
    """The ImagingStudy id of the one that is compared with, if it is among those that are shown."""


def view(visit: Visit) -> Response:
    """`GET /images/{study}/view`, with `beside` another study of the same patient to compare with."""
    node = visit.node
    with node.database.read() as connection:
        readers = looking.readers(visit, connection)
        if not readers:
            return visit.redirect("/claim")
        found, reader = reading.one(connection, readers, visit.request.path_params["study"])
        others = reading.listed(connection, [reader], most=20, patient=found.patient)
    shown = (found, *(each for each in others if each.id != found.id))
    ticket = ticket_of(visit, reader, shown)
    looking.told_study(visit, reader, found, "viewer")
    beside = visit.request.query_params.get("beside", "")
    return page(visit, Looked(shown, ticket, f"/images/{found.id}", saves=True, beside=beside))


def ticket_of(visit: Visit, reader: Reader, shown: Sequence[SeenStudy]) -> Ticket:
    """What a page gets that shows these studies of one patient to this reader."""
    node = visit.node
    with node.database.write() as connection:
        if reader.granted is not None:
            return node.viewing.ticket(connection, reader.granted)
        until = micros() + visit.settings.session_seconds * 1_000_000
        return node.viewing.for_session(connection, visit.person, shown[0].patient, [each.uid for each in shown], until)


def page(visit: Visit, looked: Looked) -> Response:
    """The page, with the first picture of the first study in it."""
    study = looked.studies[0]
    series, picture, place = _first(visit, study)
    config = {
        "root": root(visit.settings), "second": f"{root(visit.settings)}{assets.address('measuring.js')}", "token": looked.ticket.token, "expires": looked.ticket.expires, "handle": looked.ticket.handle,
        "studies": [_study(each) for each in looked.studies], "first": {"study": 0, "series": series, "place": place}, "words": _words(),
        "beside": next((number for number, each in enumerate(looked.studies) if number and each.id == looked.beside), None),
    }  # fmt: skip
    response = visit.page(
        "viewer.html", study=_told(study), studies=[{**_told(each), "series": [_series(one) for one in each.series]} for each in looked.studies],
        picture=picture, config=escaped(config), back=looked.back, chosen=series, saves=looked.saves,
    )  # fmt: skip
    ancestors = " ".join(looked.ancestors) or "'none'"
    response.headers["Content-Security-Policy"] = _CSP.format(ancestors=ancestors)
    response.headers["Referrer-Policy"] = "no-referrer"
    visit.may_be_framed = bool(looked.ancestors)
    return response


async def token(request: Request) -> Response:
    """`POST /viewer/token`: the next token, for a `handle` that a page of ours was given."""
    try:
        form = await form_of(request)
    except ImageShareError as error:
        return JSONResponse({"detail": error.detail}, error.http_status)
    return await run_in_threadpool(_renewed, request, form.get("handle", ("",))[0])


def _renewed(request: Request, handle: str) -> Response:
    node = context.node(request)
    headers = {"Cache-Control": "no-store", "X-Request-Id": context.request_id(request)}
    try:
        with node.database.read() as connection:
            granted = node.viewing.of_handle(connection, handle)
        if granted is not None:
            node.ehr_launches.prolong(granted.id)
        with node.database.write() as connection:
            ticket = node.viewing.renewed(connection, handle)
    except ImageShareError as error:
        return JSONResponse({"detail": error.detail}, error.http_status, headers)
    return JSONResponse({"token": ticket.token, "expires": ticket.expires, "handle": ticket.handle}, headers=headers)


def _first(visit: Visit, study: SeenStudy) -> tuple[int, str, int]:
    """The series that is shown first, its middle picture as a data URL, and where that stands in it; without pictures nothing."""
    try:
        series = pictures.first(study)
        with visit.node.database.read() as connection:
            picture = pictures.middle(connection, study, series)
        made = pictures.jpeg(visit.node.blobs, context.renderer(visit.request), picture, _LARGEST_PICTURE)
    except NotFound:
        return 0, "", 0
    except ImageShareError:  # pixels that cannot be decoded: the script says so
        return study.series.index(series), "", 0
    place = picture.place if series.frames == series.instances else picture.frame - 1
    return study.series.index(series), f"data:image/jpeg;base64,{base64.b64encode(made).decode()}", place


def _study(study: SeenStudy) -> dict[str, Any]:
    return {
        "uid": study.uid,
        "title": _told(study)["title"],
        "date": day(study.date),
        "series": [_series(each) for each in study.series],
    }


def _series(series: SeenSeries) -> dict[str, Any]:
    title = series.description or kinds([series.modality]) or _("Series")
    return {"uid": series.uid, "title": title, "kind": series.kind, "frames": series.frames}


def _told(study: SeenStudy) -> dict[str, Any]:
    return {
        "title": examination(study.modalities, study.body_parts), "date": day(study.date), "description": study.description,
        "institution": study.institution, "patient": study.patient_name, "born": day(study.birth_date),
    }  # fmt: skip


def _words() -> dict[str, str]:
    return {
        "image": _("Image {0} of {1}"), "loading": _("Loading the images"), "stack": _("Images; arrow keys go through them"),
        "ended": _("This page has ended: you signed out, or it was closed to you. Open the images again from where you came."),
        "lost": _("The connection is lost. The images go on as soon as it is back."),
        "failed": _("The images could not be loaded. Check your connection, then load this page again."),
        "cannot": _("This part cannot be shown here. Download the images to open it with another program."),
        "document": _("Open the document"), "film": _("Film"), **_measuring(),
    }  # fmt: skip


def _measuring() -> dict[str, str]:
    """Of the second stage."""
    return {
        "simple": _("Back to the simple view"), "layout": _("Show"), "one": _("One series"), "beside": _("Two series side by side"),
        "planes": _("Three planes"), "tools": _("Tools"), "scroll": _("Scroll"), "window": _("Brightness"), "zoom": _("Zoom"), "pan": _("Move"),
        "length": _("Length"), "angle": _("Angle"), "region": _("Region"), "cross": _("Cross lines"), "key": _("Key image"),
        "together": _("Scroll together"), "which": _("Series {0}"), "marks": _("Measurements and key images"), "measured": _("Measurements"),
        "unmeasure": _("Remove all"), "keys": _("Key images"), "nothing": _("None yet"), "remove": _("Remove"), "area": _("Area {0}"),
        "mean": _("Mean {0}, spread {1}"), "span": _("From {0} to {1}"), "coming": _("{0} of {1} images have come"), "numbered": _("Image {0}"),
        "axial": _("From below"), "sagittal": _("From the side"), "coronal": _("From the front"),
        "unplanar": _("This series cannot be shown in three planes: that needs even slices of one size that say where they lie."),
    }  # fmt: skip


def escaped(config: dict[str, Any]) -> str:
    """JSON that can stand in a script element, whatever names are in it (HTML section 4.12.1.3)."""
    return orjson.dumps(config).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
