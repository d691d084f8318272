"""The viewer as a SMART app: launched out of an EHR, mostly in a frame of another site, where there are neither cookies nor storage (SMART App Launch 2.2).

What a page of a launch needs is in it: a handle by which its token is renewed, and by which the picker's form is known. No address has any of it.
"""

from collections.abc import Sequence
from typing import Any

from starlette.responses import RedirectResponse, Response

from server import languages
from server.access.ehr_launch import NO_PATIENT, OVER, Launched
from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.rights import LAUNCH
from server.edges import context
from server.edges.pages import looking, viewer
from server.edges.pages.browser import Visit
from server.edges.pages.images import words
from server.errors import Gone, ImageShareError, NotFound
from server.work.portal import studies
from server.work.portal.reading import Reader
from server.work.portal.studies import SeenStudy

_MOST = 100


def begin(visit: Visit) -> Response:
    """`GET /launch?iss=&launch=`: to the EHR, which says who looks at whom."""
    query = visit.request.query_params
    try:
        return RedirectResponse(visit.node.ehr_launches.begin(query.get("iss", ""), query.get("launch", "")), 303)
    except ImageShareError as error:
        return _problem(visit, error)


def back(visit: Visit) -> Response:
    """`GET /launch/back`: the images at once where the EHR named a study or there is but one, else a list to choose from."""
    node = visit.node
    try:
        launched = node.ehr_launches.finish(visit.request.query_params.multi_items())
        granted = _granted(visit, launched)
        reader, seen = _seen(visit, granted)
    except ImageShareError as error:
        return _problem(visit, error)
    named = _named(launched, seen)
    if named or len(seen) == 1:
        return _view(visit, reader, [*(named or seen), *(each for each in seen if named and each not in named)])
    return _choose(visit, reader, seen)


def _granted(visit: Visit, launched: Launched) -> Granted:
    """By what the page looks: of our own server by what the person has allowed there, else by a grant of its own. Raises `NotFound`, `Gone`."""
    node = visit.node
    if launched.grant:
        with node.database.read() as connection:
            own = granting.find(connection, launched.grant)
        if own is None or own.patient is None:
            raise Gone(OVER)
        return own
    with node.database.write() as connection:
        uids = studies.of_patient(connection, launched.patient)
        if not uids:
            raise NotFound(NO_PATIENT)
        granted = node.viewing.for_launch(
            connection, launched.ehr.issuer, launched.user, launched.patient, uids, launched.expires
        )
        node.ehr_launches.remember(connection, launched, granted.id)
    return granted


def choose(visit: Visit) -> Response:
    """`POST /launch/study`: one of the list, by the handle that its page has."""
    try:
        with visit.node.database.read() as connection:
            granted = visit.node.viewing.of_handle(connection, visit.value("handle"))
        if granted is None or not (LAUNCH in granted.context or visit.node.ehr_launches.is_own(granted.client)):
            raise Gone(OVER)
        reader, seen = _seen(visit, granted)
        wanted = visit.value("study")
        first = [each for each in seen if each.id == wanted]
        if not first:
            raise NotFound(studies.NO_STUDY)
    except ImageShareError as error:
        return _problem(visit, error)
    return _view(visit, reader, [*first, *(each for each in seen if each.id != wanted)])


def _seen(visit: Visit, granted: Granted) -> tuple[Reader, tuple[SeenStudy, ...]]:
    """Who looks, and at what they may. Raises `NotFound`."""
    assert granted.patient is not None
    with visit.node.database.read() as connection:
        reader = Reader(visit.holding(connection, granted), granted)
        uids = granted.studies if granted.studies is not None else studies.of_patient(connection, granted.patient)
        seen = studies.of_uids(connection, reader.decision, uids)[:_MOST]
    if not seen:
        raise NotFound(NO_PATIENT)
    return reader, seen


def _named(launched: Launched, seen: Sequence[SeenStudy]) -> list[SeenStudy]:
    return [each for each in seen if {each.uid, each.id} & set(launched.studies)]


def _view(visit: Visit, reader: Reader, shown: Sequence[SeenStudy]) -> Response:
    ticket = viewer.ticket_of(visit, reader, shown)
    looking.told_study(visit, reader, shown[0], "viewer")
    return viewer.page(visit, viewer.Looked(tuple(shown), ticket, ancestors=_ancestors(visit, reader)))


def _choose(visit: Visit, reader: Reader, seen: Sequence[SeenStudy]) -> Response:
    ticket = viewer.ticket_of(visit, reader, seen)
    looking.told_list(visit, seen)
    return _framed(
        visit, _ancestors(visit, reader),
        visit.page("launch_study.html", person=None, csrf="", handle=ticket.handle, patient=seen[0].patient_name, studies=[words(each, 0) for each in seen]),
    )  # fmt: skip


def _problem(visit: Visit, error: ImageShareError) -> Response:
    """A plain page that says what happened, in the frame that the images were to be in."""
    values: dict[str, Any] = {"person": None, "csrf": "", "error": error, "said": languages.translated(error.detail)}
    return _framed(
        visit,
        visit.node.ehr_launches.origins(),
        visit.page("launch_over.html", error.http_status, **values, request_id=context.request_id(visit.request)),
    )


def _framed(visit: Visit, ancestors: tuple[str, ...], response: Response) -> Response:
    visit.may_be_framed = True
    allowed = " ".join(ancestors) or "'none'"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors {allowed}"
    )
    return response


def _ancestors(visit: Visit, reader: Reader) -> tuple[str, ...]:
    """The origins of the EHR that has launched it."""
    issuer = reader.granted.context.get(LAUNCH, "") if reader.granted is not None else ""
    return visit.node.ehr_launches.origins(str(issuer) or f"{visit.settings.base_url}/fhir")
