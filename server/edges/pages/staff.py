"""Pages for the staff of a site: the worklist of studies, and the access codes of a patient, to be printed, mailed, issued anew and ended."""

from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.responses import Response

from profiles.audit_event import REST_SEARCH, AuditedEntity
from profiles.person_name import spoken
from server.access.people import accounts
from server.edges import context
from server.edges.pages.browser import Visit
from server.edges.pages.sharing import qr
from server.edges.pages.showing import sentence
from server.edges.pages.wording import day, examination
from server.errors import NotFound, Refused
from server.languages import LANGUAGES, speaking
from server.languages import spoken as spoken_here
from server.languages import translated as _
from server.store.db import micros
from server.work.choosing import choice
from server.work.portal import desk, reports
from server.work.portal.desk import Row, require_staff


def worklist(visit: Visit) -> Response:
    """`GET /staff`, with `search`."""
    require_staff(visit.person.account)
    search = visit.request.query_params.get("search", "")[:100]
    with visit.node.database.read() as connection:
        found = desk.worklist(connection, decision := visit.decided(connection), search)
        said = reports.counted(connection, [decision], [each.id for each in found])
    context.told(
        visit.request,
        "query",
        REST_SEARCH,
        patients={each.patient for each in found},
        entities=(AuditedEntity(query=b"ImagingStudy"),),
        rest=False,
    )
    return visit.page("worklist.html", rows=[_told(each, said.get(each.id, 0)) for each in found], search=search)


def patient(visit: Visit) -> Response:
    """`GET /staff/patients/{patient}`: access codes, and issuing one."""
    require_staff(visit.person.account)
    return _patient(visit)


def issue(visit: Visit) -> Response:
    """`POST /staff/patients/{patient}/codes`: the code is shown once, ready to be printed."""
    require_staff(visit.person.account)
    id_, email, language = visit.request.path_params["patient"], visit.value("email").strip(), visit.value("language")
    with visit.node.database.read() as connection:
        _require_known(visit, connection, id_)
    try:
        email = accounts.plain_email(email) if email else ""
        code, text = visit.node.desk.issue(id_, None, visit.person.account, email=email, language=language, address=visit.address)
    except Refused as error:
        return _patient(visit, 400, fault=sentence(error.detail))
    with visit.node.database.read() as connection:
        name, _born = desk.name_of(connection, id_)
    link = f"{visit.settings.base_url}/claim"
    with speaking(language):
        told = _("Your images are ready: {link} Code: {code}").format(link=link, code=text)
        return visit.page(
            "issued_code.html",
            name=spoken(name),
            text=text,
            link=link,
            code=qr(f"{link}#{text}"),
            expires=code.expires,
            sent=email,
            patient=id_,
            sms=f"sms:?body={quote(told)}",
        )


def end(visit: Visit) -> Response:
    """`POST /staff/codes/{code}/end`"""
    require_staff(visit.person.account)
    ended = visit.node.desk.end(visit.request.path_params["code"], visit.person.account, visit.address)
    return visit.done(f"/staff/patients/{ended.patient}", "ended")


def _patient(visit: Visit, status: int = 200, fault: str = "") -> Response:
    id_, now = visit.request.path_params["patient"], micros()
    with visit.node.database.read() as connection:
        _require_known(visit, connection, id_)
        name, born = desk.name_of(connection, id_)
        language = desk.language_of(connection, id_)
        found = [{"code": each, "state": each.state(now)} for each in desk.codes_of(connection, id_)]
    context.told(
        visit.request, "read", REST_SEARCH, patients=[id_], entities=(AuditedEntity(reference=f"Patient/{id_}"),), rest=False
    )
    return visit.page(
        "patient_codes.html",
        status,
        patient=id_,
        name=spoken(name),
        born=day(born),
        codes=found,
        speaks=language if language in LANGUAGES else spoken_here(),
        fault=fault,
        done=visit.take_done(),
    )


def _require_known(visit: Visit, connection: Connection, patient: str) -> None:
    """Raises `NotFound` for a patient of whom Consents tell this person nothing, in the words of one who is not there."""
    decision = visit.decided(connection)
    if choice(connection, patient, decision.reach, decision.withheld) is None:
        raise NotFound("there is no such patient")


def _told(row: Row, said: int) -> dict[str, Any]:
    return {
        "row": row, "reports": said, "name": spoken(row.name), "born": day(row.born), "date": day(row.date), "title": examination(row.modalities, ()),
        "state": "complete" if row.is_published and not row.waiting else "arriving",
    }  # fmt: skip
