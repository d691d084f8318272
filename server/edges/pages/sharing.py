"""Sharing, for whoever shares: which images, with whom, for how long; who has opened them; and stopping it."""

import io
from typing import Any, Final

import segno
from starlette.responses import Response

from profiles.person_name import spoken
from server.access import shares
from server.access.people import accounts
from server.access.shares import Share, Wish
from server.edges.pages import looking, viewer
from server.edges.pages.browser import Visit
from server.edges.pages.images import words
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.errors import NotFound, Refused
from server.store.db import micros
from server.work.portal import reports, studies
from server.work.portal.reading import Reader
from server.work.portal.sharing import DAYS, new_passcode
from server.work.portal.studies import SeenStudy

_MOST: Final = 50
_OPENINGS: Final = ("1", "5", "0")


def overview(visit: Visit) -> Response:
    """`GET /share`: all that somebody shares and has shared, with who opened it and what they wrote."""
    with visit.node.database.read() as connection:
        made = shares.of_account(connection, visit.person.account.id)
        opened = shares.openings(connection, [each.id for each in made])
        addressed = {each.account for each in visit.node.sharing.addressed(connection, visit.person.account)}
        decision = visit.decided(connection)
        seen = {
            each.uid: each for each in studies.of_uids(connection, decision, {uid for share in made for uid in share.studies})
        }
    told = [_told(each, opened[each.id], [seen[uid] for uid in each.studies if uid in seen]) for each in made]
    looking.told_list(visit, list(seen.values()))
    return visit.page("sharing.html", shares=told, addressed=len(addressed), done=visit.take_done())


def new(visit: Visit) -> Response:
    """`GET /share/new`, with `study`: the one that is chosen already."""
    return _form(visit, {visit.request.query_params.get("study", "")})


def make(visit: Visit) -> Response:
    """`POST /share/new`"""
    with visit.node.database.read() as connection:
        decision = visit.decided(connection)
        chosen = [each for each in studies.studies(connection, decision, most=_MOST) if each.id in visit.values("study")]
    faults = {}
    if not chosen:
        faults["study"] = _("Choose the images that you want to share.")
    if len({each.patient for each in chosen}) > 1:
        faults["study"] = _("Share the images of one person at a time.")
    email = visit.value("email").strip()
    try:
        email = accounts.plain_email(email) if email else ""
    except Refused as error:
        faults["email"] = sentence(error.detail)
    if faults:
        return _form(visit, set(visit.values("study")), 400, faults=faults)
    passcode = new_passcode() if visit.value("passcode") else ""
    days, openings = visit.value("days"), visit.value("openings")
    wish = Wish(
        chosen[0].patient, tuple(each.uid for each in chosen), int(days) if days.isdecimal() else 0, bool(visit.value("reports")),
        bool(visit.value("download")), bool(visit.value("apps")), int(openings) if openings in _OPENINGS else 0, visit.value("name").strip()[:80], email,
        visit.value("message").strip()[:1000], visit.language,
    )  # fmt: skip
    with visit.node.database.write() as connection:
        share, secret = visit.node.sharing.make(connection, visit.decided(connection), wish, visit.person.account.id, passcode)
    return _made(visit, share, visit.node.sharing.link(share, secret), passcode)


def show(visit: Visit) -> Response:
    """`POST /share/{share}/link`: the link again. Its passcode nobody knows any more."""
    return _made(visit, share := _mine(visit), visit.node.sharing.link(share), "")


def stop(visit: Visit) -> Response:
    """`POST /share/{share}/stop`"""
    visit.node.sharing.stop(visit.request.path_params["share"], visit.person.account.id)
    return visit.done("/share", "stopped")


def preview(visit: Visit) -> Response:
    """`GET /share/{share}/preview`: what the recipient sees, for whoever shares. It is no opening."""
    share, reader, seen = _previewed(visit)
    with visit.node.database.read() as connection:
        said = {each.id: reports.of_study(connection, reader.decision, each) for each in seen} if share.reports else {}
    told = [{**words(each, len(said.get(each.id, ()))), "said": said.get(each.id, ()), "advanced": ""} for each in seen]
    return visit.page(
        "shared.html",
        share=share,
        studies=told,
        opening=None,
        done="",
        preview=True,
        patient=seen[0].patient_name if seen else "",
    )


def preview_view(visit: Visit) -> Response:
    """`GET /share/{share}/preview/view`: the viewer with the shared studies, and no others."""
    share, reader, seen = _previewed(visit)
    if not seen:
        raise NotFound(studies.NO_STUDY)
    return viewer.page(
        visit, viewer.Looked(seen, viewer.ticket_of(visit, reader, seen), f"/share/{share.id}/preview", saves=share.download)
    )


def _previewed(visit: Visit) -> tuple[Share, Reader, tuple[SeenStudy, ...]]:
    share = _mine(visit)
    with visit.node.database.read() as connection:
        reader = Reader(visit.decided(connection))
        found = {each.uid: each for each in studies.of_uids(connection, reader.decision, share.studies)}
    seen = tuple(sorted(found.values(), key=lambda each: each.place, reverse=True))
    looking.told_list(visit, seen)
    return share, reader, seen


def _mine(visit: Visit) -> Share:
    with visit.node.database.read() as connection:
        found = shares.find(connection, visit.request.path_params["share"])
    if found is None or found.account != visit.person.account.id or found.state(micros()) != "open":
        raise NotFound("there is no such share, or it has ended")
    return found


def _made(visit: Visit, share: Share, link: str, passcode: str) -> Response:
    health_link = visit.node.health_links.link(share)
    return visit.page(
        "shared_link.html", link=link, code=qr(link), health_link=health_link, health_code=qr(health_link) if health_link else "", passcode=" ".join((passcode[:3], passcode[3:])).strip(), share=_told(share, [], []),
        sent=share.email,
    )  # fmt: skip


def qr(text: str) -> str:
    """A QR code as SVG, level M, for screens and paper."""
    drawn = io.BytesIO()
    segno.make(text, error="m", micro=False).save(drawn, kind="svg", xmldecl=False, svgns=True, nl=False, border=2, omitsize=True)
    return drawn.getvalue().decode()


def _form(visit: Visit, chosen: set[str], status: int = 200, faults: dict[str, str] | None = None) -> Response:
    with visit.node.database.read() as connection:
        found = studies.studies(connection, visit.decided(connection), most=_MOST)
    shown = [
        {**words(each, 0), "chosen": each.id in chosen, "patient": spoken(each.patient_name)} for each in found if each.is_whole
    ]
    looking.told_list(visit, found)
    names = {each["patient"] for each in shown}
    given = {name: visit.value(name) for name in ("name", "email", "message")}
    return visit.page(
        "new_share.html", status, studies=shown, several=len(names) > 1, days=DAYS[:-1], faults=faults or {}, given=given
    )


def _told(share: Share, opened: list[shares.Opening], seen: list[SeenStudy]) -> dict[str, Any]:
    now = micros()
    return {
        "id": share.id, "name": share.name or share.email or _("Whoever has the link"), "state": share.state(now), "why": share.ended_why,
        "studies": [words(each, 0) for each in seen], "created": share.created, "expires": share.expires, "openings": opened,
        "left": share.openings_max - share.openings if share.openings_max else None, "download": share.download, "reports": share.reports,
        "passcode": bool(share.passcode), "tries": share.tries,
    }  # fmt: skip
