"""Break-glass within one authorization request: a practitioner says why, chooses the patient, and the app gets one hour of her record.

What is chosen from is shown with nothing withheld, so the role is asked for before that, too, and those concerned are told of what is shown,
whether or not the app is then allowed anything.
"""

from typing import Final

from sqlalchemy import Connection, select, update

from profiles.audit_event import Agent
from server.access import break_glass
from server.access.consents import BREAK_GLASS
from server.access.oauth.clients import hashed
from server.access.oauth.granting import Granted
from server.access.oauth.telling import Told
from server.access.people.accounts import Account
from server.errors import Forbidden
from server.store.tables import AuthorizationRequest
from server.work import notices

_REQUEST: Final = AuthorizationRequest.__table__  # type: ignore[attr-defined]
_NAMES_ALONE: Final = ""


def require(told: Told, account: Account, client: str, patient: str | None, *, address: str, trace: str) -> None:
    """Raises `Forbidden` for who is no practitioner; the trail has it then. Not within a transaction."""
    try:
        break_glass.require(account, patient)
    except Forbidden as error:
        user = Agent(identifier=account.id, reference=account.fhir_user)
        asking = Agent(identifier=client, address=address, user=user, purposes=(BREAK_GLASS,))
        break_glass.refused(told.trail, asking, error, patient or "", request_id=trace)
        raise


def name_of(request_id: str) -> str:
    """By which the trail and the e-mails name an authorization request: who knows it can't answer the request."""
    return hashed(request_id)[:16]


def shown(connection: Connection, request_id: str, patient: str | None) -> None:
    """A practitioner is about to see the names that were found, or (`patient`, a resource id) whose record it is and which studies are in it.

    The privacy officer will be told once for each request; the patient, and who acts for her, as soon as it is her record.
    """
    seen = patient or _NAMES_ALONE
    of_this = _REQUEST.c.id == hashed(request_id)
    before = connection.execute(select(_REQUEST.c.opened).where(of_this)).scalar()
    if before == seen or (before is not None and seen == _NAMES_ALONE):
        return
    connection.execute(update(_REQUEST).where(of_this).values(opened=seen))
    if before is None:
        notices.to_officer(connection, name_of(request_id))
    if patient is not None:
        notices.to_concerned(connection, name_of(request_id), patient)


def begin(connection: Connection, told: Told, granted: Granted, request_id: str, why: str, *, address: str, trace: str) -> None:
    """The grant has just begun: what is withheld of its patient is open to it. The patient and who else is to know will be told, or were when it was shown."""

    def notify(connection: Connection, patient: str) -> None:
        shown(connection, request_id, patient)

    break_glass.begin(
        connection, told.trail, granted.id, why, address=address, notify=notify, request_id=trace, asked=name_of(request_id)
    )
