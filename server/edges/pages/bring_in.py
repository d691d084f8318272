"""Bringing in images of a CD, a folder or a ZIP file from the browser: sent in pieces, which go on after anything breaks off; whose they are is looked at before anything
is taken in. Staff decide of those that another name stands on.
"""

from typing import Any, Final

import orjson
from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, Response

from profiles.audit_event import REST_SEARCH, AuditedEntity
from profiles.person_name import spoken
from server.access.people import accounts
from server.edges import context
from server.edges.pages.browser import Visit
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day, examination
from server.errors import NotFound, Refused
from server.languages import marked
from server.records import brought_in
from server.records.brought_in import BroughtIn
from server.records.catalogue import PATIENT
from server.store.db import micros
from server.work.bringing.bringing import NOTHING, identities
from server.work.bringing.whose import Identity
from server.work.portal.desk import require_staff

MOST_LIST: Final = 4 << 20
"""Bytes of a list of files."""
MOST_BYTES: Final = 4 << 20
"""Bytes of one piece."""
_WHY: Final = marked(
    {
        "not sent": "not sent, since no image has such a name", "not DICOM": "no medical images", "damaged": "damaged",
        "encrypted": "in a ZIP file with a password", "nested": "ZIP files within a ZIP file", "too large": "larger than an image may be",
    }
)  # fmt: skip
_STATES: Final = marked(
    {
        "open": "On its way", "reading": "We look at what is in it", "waiting": "The hospital has to look at it", "taking": "The images are taken in",
        "done": "Done", "refused": "Not taken in", "failed": "This did not work",
    }
)  # fmt: skip


def overview(visit: Visit) -> Response:
    """`GET /bring-in`: a form for what is to come, and what came before."""
    with visit.node.database.read() as connection:
        people = _people(visit, connection)
        mine = brought_in.of_account(connection, visit.person.account.id)
    return visit.page("bring_in.html", people=people, mine=[_told(each) for each in mine], piece=MOST_BYTES)


def begin(visit: Visit, content: bytes) -> Response:
    """`POST /bring-in/begin`: `{patient, files: [{name, size}], left_out}`; where it is to be sent, and from which byte on."""
    try:
        asked = orjson.loads(content)
        patient, files, left_out = str(asked.get("patient", "")), asked["files"], asked.get("left_out", 0)
        if not isinstance(files, list) or not all(isinstance(each, dict) for each in files) or not isinstance(left_out, int):
            raise ValueError
    except (ValueError, KeyError, AttributeError):
        raise Refused("choose a CD, a folder or a ZIP file first") from None
    if not files:
        raise Refused("choose a CD, a folder or a ZIP file first")
    with visit.node.database.read() as connection:
        allowed = {id_ for id_, _name in _people(visit, connection)}
    if patient not in allowed:
        raise NotFound(NOTHING)
    made = visit.node.bringing_in.begin(visit.person.account, patient, files, left_out, visit.address)
    return JSONResponse({"id": made.id, "offset": visit.node.bringing_in.quarantine.size(made.id), "size": made.size})


def receive(visit: Visit, content: bytes) -> Response:
    """`POST /bring-in/{id}/bytes` with `Upload-Offset`: the next piece. 409 says that another one is expected, which `state` tells."""
    found = _mine(visit)
    offset = visit.request.headers.get("upload-offset", "")
    if found.state != "open" or not offset.isdecimal() or len(offset) > 18:
        raise Refused("the pieces of it are sent in their order, each with its place")
    bringing = visit.node.bringing_in
    end = bringing.receive(found.id, int(offset), content, found.size)
    if end == found.size:
        bringing.arrived(found.id)
    return JSONResponse({"offset": end})


def state(visit: Visit) -> Response:
    """`GET /bring-in/{id}/state`: how far it is, for the script."""
    found = _mine(visit)
    offset = visit.node.bringing_in.quarantine.size(found.id)
    return JSONResponse({"state": found.state, "offset": offset, "size": found.size, "done": found.done, "total": found.total})


def status(visit: Visit) -> Response:
    """`GET /bring-in/{id}`: what came of it so far."""
    found = _mine(visit)
    return visit.page(
        "brought_in.html",
        it=_told(found),
        studies=[_study(each) for each in found.studies],
        over=found.state not in brought_in.HELD,
    )


def cancel(visit: Visit) -> Response:
    """`POST /bring-in/{id}/cancel`"""
    visit.node.bringing_in.cancel(visit.request.path_params["id"], visit.person.account, visit.address)
    return visit.redirect("/bring-in")


def waiting(visit: Visit) -> Response:
    """`GET /staff/bring-in`: what another name stands on than that of the patient it was brought in for."""
    require_staff(visit.person.account)
    with visit.node.database.read() as connection:
        found = brought_in.waiting(connection)
        rows = [
            {
                "it": _told(each), "patient": each.patient, "known": _person(connection, each.patient),
                "others": [{"number": number, **_identity(whose), "studies": [_study(one) for one in each.studies if Identity.of(one) == whose and one["state"] == "other"]}
                           for number, whose in enumerate(identities(each))],
            }
            for each in found
        ]  # fmt: skip
    named = {each.patient for each in found if each.patient}
    context.told(visit.request, "query", REST_SEARCH, patients=named, entities=(AuditedEntity(query=b"brought in"),), rest=False)
    return visit.page("waiting.html", rows=rows, done=visit.take_done())


def decide(visit: Visit) -> Response:
    """`POST /staff/bring-in/{id}`: `answer` is accept or refuse, `number` which of the identities, `patient` whose they are."""
    require_staff(visit.person.account)
    id_, number = visit.request.path_params["id"], visit.value("number")
    place = int(number) if number.isdecimal() and len(number) < 6 else -1
    bringing = visit.node.bringing_in
    if visit.value("answer") != "accept":
        bringing.refuse(id_, place, visit.person.account, visit.address)
        return visit.done("/staff/bring-in", "refused")
    bringing.accept(id_, place, _wanted(visit, bringing.waiting(id_)), visit.person.account, visit.address)
    return visit.done("/staff/bring-in", "accepted")


def _wanted(visit: Visit, found: BroughtIn) -> str:
    """The patient whom staff mean: by the patient number that they typed, else whom it was brought in for. Raises `Refused`."""
    typed = visit.value("patient_number").strip()
    if not typed:
        if not found.patient:
            raise Refused("type the patient number of whose images these are")
        return found.patient
    with visit.node.database.read() as connection:
        ids = list(connection.execute(select(PATIENT.c.id).where(PATIENT.c.value == typed).limit(2)).scalars())
    if len(ids) != 1:
        raise Refused("no patient, or more than one, has this number here")
    return str(ids[0])


def _mine(visit: Visit) -> BroughtIn:
    return visit.node.bringing_in.mine(visit.request.path_params["id"], visit.person.account.id)


def _people(visit: Visit, connection: Connection) -> list[tuple[str, str]]:
    """Whose images somebody may bring in: their own and those of whom they act for; staff for whom they find out later. Resource id and name."""
    account = visit.person.account
    if account.kind in ("staff", "administrator"):
        return [("", "")]
    reach = accounts.reach(connection, account, micros())[0]
    if reach is None:
        return []
    rows = connection.execute(
        select(PATIENT.c.id, PATIENT.c.name).where(PATIENT.c.id.in_(sorted(reach))).order_by(PATIENT.c.name)
    )
    return [(row.id, spoken(row.name)) for row in rows]


def _person(connection: Connection, id_: str) -> dict[str, str] | None:
    row = connection.execute(
        select(PATIENT.c.name, PATIENT.c.birth_date, PATIENT.c.sex, PATIENT.c.value).where(PATIENT.c.id == id_)
    ).first()
    return None if row is None else {"name": spoken(row.name), "born": day(row.birth_date), "sex": row.sex, "number": row.value}


def _identity(whose: Identity) -> dict[str, str]:
    return {"name": spoken(whose.name), "born": day(whose.born), "sex": whose.sex, "patient_number": whose.number}


def _told(found: BroughtIn) -> dict[str, Any]:
    left = [(_(_WHY[why]), count) for why, count in found.left_out.items() if why in _WHY]
    return {
        "id": found.id, "state": found.state, "said": _(_STATES[found.state]), "left": left, "problem": sentence(found.problem) if found.problem else "",
        "created": found.created, "size": found.size, "images": sum(each.get("taken", 0) for each in found.studies),
    }  # fmt: skip


def _study(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": examination(tuple(each["modalities"]), tuple(each["parts"])), "date": day(each["date"]) or _("Date not known"), "institution": each["institution"],
        "images": each["images"], "taken": each.get("taken", 0), "state": each["state"], "name": spoken(each["name"]), "born": day(each["born"]),
        "failed": sum(each.get("failed", {}).values()),
    }  # fmt: skip
