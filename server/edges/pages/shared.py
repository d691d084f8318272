"""Sharing, for whoever is given a link: no account, three actions at most from the mail to the first image.

The secret is in the link's fragment, which no server, proxy or log is told; the page's script puts it into the form. A mail scanner that opens the link opens
nothing: only the button does. What a browser has opened it keeps as a cookie for this one share, so that a reload is no other opening.
"""

from typing import Any, Final

from starlette.responses import Response

from server.access import shares
from server.access.decisions import ONLY_LOOKS
from server.edges import context
from server.edges.pages import images, looking, taking_home, viewer
from server.edges.pages.browser import Visit
from server.edges.pages.images import words
from server.edges.pages.showing import sentence, waiting
from server.edges.pages.wording import browser_of
from server.errors import AccessError, Forbidden, NotFound, TooManyAttempts
from server.work import ohif
from server.work.portal import reading, reports, studies
from server.work.portal.reading import Reader
from server.work.portal.sharing import NOTHING, Coming, PasscodeRefused

_DAY: Final = 86_400
_LONGEST: Final = 100


def front(visit: Visit) -> Response:
    """`GET /share/{share}`: the same for every address, whether there is such a share."""
    return _front(visit)


def open_(visit: Visit) -> Response:
    """`POST /share/{share}/open`"""
    id_ = visit.request.path_params["share"]
    agent = visit.request.headers.get("user-agent", "")
    coming = Coming(visit.value("name").strip()[:80], browser_of(agent), visit.address, context.request_id(visit.request))
    try:
        share, _opening, cookie = visit.node.sharing.open(
            id_, visit.value("secret")[:_LONGEST], visit.value("passcode")[:_LONGEST], coming
        )
    except PasscodeRefused as error:
        return _front(visit, error.http_status, faults={"passcode": sentence(error.detail)}, left=error.left)
    except TooManyAttempts as error:
        return _front(visit, error.http_status, fault=waiting(error))
    except NotFound as error:
        return _front(visit, error.http_status, fault=sentence(error.detail))
    return begun(visit, share, cookie)


def begun(visit: Visit, share: shares.Share, cookie: str) -> Response:
    """To the images of a share that this browser has just opened; it keeps `cookie` for it."""
    visit.keep(_cookie(share.id), cookie, max(60, min(30 * _DAY, (share.expires - share.created) // 1_000_000)))
    return visit.redirect(f"/share/{share.id}/view")


def is_opened(visit: Visit, id_: str) -> bool:
    """Whether this browser has opened the share, and may still."""
    with visit.node.database.read() as connection:
        return visit.node.sharing.opened(connection, id_, visit.kept(_cookie(id_))) is not None


def view(visit: Visit) -> Response:
    """`GET /share/{share}/view`: the viewer, at once."""
    share, _opening, reader, seen = _opened(visit)
    if not seen:
        raise NotFound(NOTHING)
    with visit.node.database.write() as connection:
        assert reader.granted is not None
        ticket = visit.node.viewing.ticket(connection, reader.granted)
    for each in seen:
        looking.told_study(visit, reader, each, "viewer")
    return viewer.page(visit, viewer.Looked(seen, ticket, f"/share/{share.id}/images", saves=share.download))


def overview(visit: Visit) -> Response:
    """`GET /share/{share}/images`: what is shared, with reports, and a note to write back."""
    share, opening, reader, seen = _opened(visit)
    with visit.node.database.read() as connection:
        said = {each.id: reports.of_study(connection, reader.decision, each) for each in seen} if share.reports else {}
    looking.told_list(visit, seen)
    told = [
        {**words(each, len(said.get(each.id, ()))), "said": said.get(each.id, ()), "advanced": ohif.page(visit.settings, each.uid, share.id)}
        for each in seen
    ]  # fmt: skip
    return visit.page(
        "shared.html", person=None, csrf=visit.early_csrf, share=share, studies=told, opening=opening, done=visit.take_done(), preview=False,
        patient=seen[0].patient_name if seen else "",
    )  # fmt: skip


def picture(visit: Visit) -> Response:
    """`GET /share/{share}/images/{study}/picture`"""
    _share, _opening, reader, _seen = _opened(visit)
    return images.picture_for(visit, (reader,))


def report(visit: Visit) -> Response:
    """`GET /share/{share}/images/{study}/reports/{type}/{report}/{number}`"""
    share, _opening, reader, _seen = _opened(visit)
    if not share.reports:
        raise NotFound(reports.NO_REPORT)
    return images.report_for(visit, (reader,))


def download(visit: Visit) -> Response:
    """`GET /share/{share}/images/{study}/download`, where the patient allows it."""
    share, _opening, reader, _seen = _opened(visit)
    if not share.download:
        raise Forbidden(ONLY_LOOKS)
    return taking_home.download_for(visit, (reader,), with_reports=share.reports)


def note(visit: Visit) -> Response:
    """`POST /share/{share}/note`: what the recipient writes back."""
    share, opening, _reader, _seen = _opened(visit)
    with visit.node.database.write() as connection:
        shares.note(connection, opening.id, visit.value("note").strip())
    return visit.done(f"/share/{share.id}/images", "noted")


def reader_of(visit: Visit, id_: str) -> Reader:
    """As whom this browser may look at the share that it has opened. Raises `NotFound`."""
    return _opened(visit, id_)[2]


def _opened(visit: Visit, id_: str = "") -> tuple[shares.Share, shares.Opening, Reader, tuple[studies.SeenStudy, ...]]:
    """What this browser has opened, and may still. Raises `NotFound`."""
    id_ = id_ or visit.request.path_params["share"]
    with visit.node.database.read() as connection:
        found = visit.node.sharing.opened(connection, id_, visit.kept(_cookie(id_)))
        if found is None:
            raise NotFound(NOTHING)
        share, opening, granted = found
        try:
            reader = Reader(visit.holding(connection, granted), granted)
        except AccessError:
            raise NotFound(NOTHING) from None
        return share, opening, reader, reading.listed(connection, (reader,), most=100)


def _front(visit: Visit, status: int = 200, **values: Any) -> Response:
    given = {"faults": {}, "fault": "", "left": None, "name": visit.value("name"), "secret": visit.value("secret"), **values}
    return visit.page(
        "open_share.html", status, person=None, csrf=visit.early_csrf, share=visit.request.path_params["share"], **given
    )


def _cookie(id_: str) -> str:
    return f"share-{id_[:22]}"
