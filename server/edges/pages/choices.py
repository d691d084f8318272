"""What a patient closes to others: one examination, or everything; in plain words what that does, and what it does not."""

from functools import partial
from typing import Any, Final

from sqlalchemy import Connection
from starlette.responses import Response

from profiles.audit_event import REST_DELETE, REST_UPDATE, AuditedEntity, Kind, Subtype
from server.access.people import accounts
from server.edges import context
from server.edges.context import Note
from server.edges.pages import looking
from server.edges.pages.browser import Visit
from server.edges.pages.images import words
from server.errors import NotFound
from server.work.portal import choices, studies

_MOST: Final = 200


def overview(visit: Visit) -> Response:
    """`GET /account/choices`"""
    with visit.node.database.read() as connection:
        own = accounts.own_patients(connection, visit.person.account.id)
        found = [each for each in studies.studies(connection, visit.decided(connection), most=_MOST) if each.patient in own]
        shut = choices.closed(connection, own, [each.id for each in found])
    looking.told_list(visit, found)
    rows: list[dict[str, Any]] = [{**words(each, 0), "patient_id": each.patient, "closed": each.id in shut} for each in found]
    return visit.page(
        "choices.html",
        rows=rows,
        whole=choices.EVERYTHING in shut,
        patients=sorted(own),
        has_records=bool(own),
        done=visit.take_done(),
    )


def close(visit: Visit) -> Response:
    """`POST /account/choices/close`: `study` of one's own, or everything where it is empty."""
    return _changed(visit, "update", REST_UPDATE, "closed")


def open_(visit: Visit) -> Response:
    """`POST /account/choices/open`"""
    return _changed(visit, "delete", REST_DELETE, "opened")


def _changed(visit: Visit, kind: Kind, subtype: Subtype, done: str) -> Response:
    account, study = visit.person.account, visit.value("study")
    with visit.node.database.read() as connection:
        decision = visit.decided(connection)
        own = accounts.own_patients(connection, account.id)
        whose = {studies.study(connection, decision, study).patient} & own if study else own
    if not whose:
        raise NotFound(studies.NO_STUDY)
    made = choices.Choices(visit.node.writes, f"{visit.settings.base_url}/fhir")
    change = made.close if done == "closed" else made.open
    for patient in sorted(whose):
        change(account, patient, study, partial(_note, visit, kind, subtype, patient))
    return visit.done("/account/choices", done)


def _note(visit: Visit, kind: Kind, subtype: Subtype, patient: str, connection: Connection, reference: str) -> None:
    note = Note(kind, subtype, (AuditedEntity(reference=reference),), frozenset([patient]))
    context.noted(visit.request, [note], connection, rest=False)
