"""Break-glass: a practitioner who needs what a Consent withholds, now, for one patient (IHE PCF section 53.4; v3-ActReason BTG).

It lifts what consents withhold and nothing else, for one grant, in the record of the patient whom that grant is for, until the grant ends. It is
in the trail with its reason, and whom it concerns is told.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select, update

from profiles.audit_event import EMERGENCY_STARTED, REFUSED, Agent, AuditedEntity
from profiles.smart.scopes import words_of
from server.access import epoch
from server.access.consents import BREAK_GLASS
from server.access.people import accounts
from server.access.people.accounts import Account
from server.errors import Forbidden, NotFound, Refused
from server.records.trail import Trail
from server.store.tables import AccessGrant

_GRANT: Final = AccessGrant.__table__  # type: ignore[attr-defined]
_LONGEST: Final = 500
_PRACTITIONERS: Final = ("Practitioner/", "PractitionerRole/")
_STAYING: Final = frozenset({"offline_access", "online_access"})
Notify = Callable[[Connection, str], None]
"""Has the patient of this resource id told, in the same transaction."""


def may(account: Account) -> bool:
    """Whether the person may break it."""
    return account.fhir_user.startswith(_PRACTITIONERS) and not account.disabled


def require(account: Account | None, patient: str | None) -> Account:
    """The account. Raises `Forbidden` for who may not, about this patient."""
    if account is None or not may(account):
        raise Forbidden("only practitioners break the glass", frozenset(filter(None, [patient])))
    return account


def reason(text: str) -> str:
    """What was said, in one line. Raises `Refused` where that is nothing, or too long."""
    said = " ".join(text.split())
    if not said or len(said) > _LONGEST:
        raise Refused(f"breaking the glass needs a reason of at most {_LONGEST} characters")
    return said


def begin(
    connection: Connection,
    trail: Trail,
    grant: str,
    why: str,
    *,
    address: str,
    notify: Notify,
    request_id: str = "",
    asked: str = "",
) -> None:
    """The practitioner of the grant of this id declares an emergency. What is withheld is open from the next request on.

    `asked` names the authorization request in which that was declared, as the e-mails about it do.

    Raises `Refused` without a reason, and `Forbidden` for who is no practitioner, or for a grant that is for no patient or outlives its access token;
    `refused` tells the trail.
    """
    held = connection.execute(select(_GRANT).where(_GRANT.c.id == grant, _GRANT.c.ended.is_(None))).first()
    if held is None:
        raise NotFound("there is no such grant")
    account = require(accounts.find(connection, held.account or ""), held.patient)
    if held.patient is None:
        raise Forbidden("the glass is broken for one patient: begin from that patient's record")
    if set(words_of(held.scope)) & _STAYING:
        raise Forbidden(
            "the glass is not broken for an app that stays: without offline_access and online_access", frozenset([held.patient])
        )
    said = reason(why)
    purposes = sorted({*held.purposes, BREAK_GLASS})
    connection.execute(update(_GRANT).where(_GRANT.c.id == grant).values(purposes=purposes))
    client = Agent(
        identifier=held.client, address=address, user=Agent(identifier=account.id, reference=account.fhir_user), purposes=(BREAK_GLASS,)
    )  # fmt: skip
    named = (("request", asked),) if asked else ()
    told = AuditedEntity(reference=f"Patient/{held.patient}", details=(("grant", grant), ("reason", said), *named))
    trail.record(
        connection,
        trail.action(
            "security", EMERGENCY_STARTED, client, rest=False, patient_id=held.patient, entities=(told,), request_id=request_id
        ),
    )
    notify(connection, held.patient)
    epoch.raise_(connection)


def refused(trail: Trail, client: Agent, error: Forbidden | Refused, patient: str, *, request_id: str = "") -> None:
    """Puts into the trail that somebody was not let."""
    trail.write(
        trail.action(
            "security",
            EMERGENCY_STARTED,
            client,
            rest=False,
            patient_id=patient,
            outcome=REFUSED,
            outcome_desc=error.detail,
            request_id=request_id,
        )
    )
