"""Break-glass within one authorization request: a practitioner says why, chooses the patient, and the app gets one hour of her record.

What is chosen from is shown with nothing withheld, so the role is asked for before that, too.
"""

from sqlalchemy import Connection

from profiles.audit_event import Agent
from server.access import break_glass
from server.access.consents import BREAK_GLASS
from server.access.oauth.granting import Granted
from server.access.oauth.telling import Told
from server.access.people.accounts import Account
from server.errors import Forbidden
from server.work import notices


def require(told: Told, account: Account, client: str, patient: str | None, *, address: str, trace: str) -> None:
    """Raises `Forbidden` for who is no practitioner; the trail has it then. Not within a transaction."""
    try:
        break_glass.require(account, patient)
    except Forbidden as error:
        user = Agent(identifier=account.id, reference=account.fhir_user)
        asking = Agent(identifier=client, address=address, user=user, purposes=(BREAK_GLASS,))
        break_glass.refused(told.trail, asking, error, patient or "", request_id=trace)
        raise


def begin(connection: Connection, told: Told, granted: Granted, why: str, *, address: str, trace: str) -> None:
    """The grant has just begun: what is withheld of its patient is open to it. The patient and who else is to know will be told."""

    def notify(connection: Connection, patient: str) -> None:
        notices.emergency(connection, granted.id, patient)

    break_glass.begin(connection, told.trail, granted.id, why, address=address, notify=notify, request_id=trace)
