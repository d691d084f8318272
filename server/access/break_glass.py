"""Break-glass: a practitioner who needs what a Consent withholds, now, for one patient (IHE PCF section 53.4; v3-ActReason BTG).

It lifts what consents withhold and nothing else, for one grant, in the record of the patient whom that grant is for, until the grant ends. It is
in the trail with its reason, and whom it concerns is told.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select, update

from profiles.audit_event import EMERGENCY_STARTED, REFUSED, Agent, AuditedEntity
from server.access import epoch
from server.access.consents import BREAK_GLASS
from server.access.people import accounts
from server.errors import Forbidden, NotFound, Refused
from server.records.trail import Trail
from server.store.tables import AccessGrant

_GRANT: Final = AccessGrant.__table__  # type: ignore[attr-defined]
_LONGEST: Final = 500
Notify = Callable[[Connection, str], None]
"""Has the patient of this resource id told, in the same transaction."""


def begin(connection: Connection, trail: Trail, grant: str, reason: str, *, address: str, notify: Notify) -> None:
    """The practitioner of the grant of this id declares an emergency. What is withheld is open from the next request on.

    Raises `Refused` without a reason, and `Forbidden` for who is no practitioner, or for a grant that is for no patient; `refused` tells the trail.
    """
    held = connection.execute(select(_GRANT).where(_GRANT.c.id == grant, _GRANT.c.ended.is_(None))).first()
    if held is None:
        raise NotFound("there is no such grant")
    account = accounts.find(connection, held.account) if held.account is not None else None
    if account is None or account.disabled or not account.fhir_user.startswith(("Practitioner/", "PractitionerRole/")):
        raise Forbidden("only practitioners break the glass", frozenset(filter(None, [held.patient])))
    if held.patient is None:
        raise Forbidden("the glass is broken for one patient: begin from that patient's record")
    said = " ".join(reason.split())
    if not said or len(said) > _LONGEST:
        raise Refused(f"breaking the glass needs a reason of at most {_LONGEST} characters")
    purposes = sorted({*held.purposes, BREAK_GLASS})
    connection.execute(update(_GRANT).where(_GRANT.c.id == grant).values(purposes=purposes))
    client = Agent(identifier=held.client, address=address, user=Agent(reference=account.fhir_user), purposes=(BREAK_GLASS,))
    told = AuditedEntity(reference=f"Patient/{held.patient}", details=(("reason", said),))
    trail.record(
        connection, trail.action("security", EMERGENCY_STARTED, client, rest=False, patient_id=held.patient, entities=(told,))
    )
    notify(connection, held.patient)
    epoch.raise_(connection)


def refused(trail: Trail, client: Agent, error: Forbidden | Refused, patient: str) -> None:
    """Puts into the trail that somebody was not let."""
    trail.write(
        trail.action(
            "security", EMERGENCY_STARTED, client, rest=False, patient_id=patient, outcome=REFUSED, outcome_desc=error.detail
        )
    )
