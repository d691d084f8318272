"""What the trail has of authorization: tokens issued, access given and ended. Refusals are the edge's, which counts strangers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection

from profiles.audit_event import (
    AUTHORIZED_BY_CONSENT,
    GET_ACCESS_TOKEN,
    USER_SECURITY_CHANGED,
    Agent,
    AuditedEntity,
    Kind,
    Subtype,
)
from profiles.vocabulary import DCM_QUERY, DCM_SYSTEM, IHE_TRANSACTION
from server.access.consents import BREAK_GLASS
from server.access.oauth.granting import Granted
from server.access.oauth.messages import Message
from server.access.people.accounts import Account
from server.records.trail import Trail

QUERY: Final = Subtype(DCM_SYSTEM, DCM_QUERY, "Query")
INTROSPECT_TOKEN: Final = Subtype(IHE_TRANSACTION, "ITI-102", "Introspect Token")
_TOLD: Final = frozenset({"grant_type", "client_id", "redirect_uri", "scope"})
"""What of a token request may be kept: no code, no verifier, no token, no secret, no assertion."""


@dataclass(frozen=True, slots=True)
class Told:
    """Writes into one trail, within the caller's transaction."""

    trail: Trail

    def issued(self, connection: Connection, granted: Granted, message: Message, token_id: str) -> None:
        """IHE IUA section 3.71.5.1, BALP IHE.IUA.71: a token for this grant, and what of the request is no secret."""
        asked = urlencode([(name, value) for name, value in message.form if name in _TOLD]).encode()
        entity = AuditedEntity(query=asked, details=(("grant", granted.id), ("scope", granted.scope)))
        self._record(connection, "sign-in", GET_ACCESS_TOKEN, granted, message.address, message.request_id, token_id, entity)

    def decided(self, connection: Connection, granted: Granted, consents: Sequence[str], message: Message, token_id: str) -> None:
        """BALP AuthZconsent: the token was issued with these Consents (ids) held against all that it will ask for."""
        named = tuple(AuditedEntity(reference=f"Consent/{each}") for each in consents)
        self._record(
            connection, "security", AUTHORIZED_BY_CONSENT, granted, message.address, message.request_id, token_id, *named
        )

    def began(self, connection: Connection, granted: Granted, address: str, request_id: str) -> None:
        """A person has allowed this."""
        self._record(connection, "security", USER_SECURITY_CHANGED, granted, address, request_id)

    def ended(self, connection: Connection, granted: Granted, address: str = "", request_id: str = "") -> None:
        """It is over before its time."""
        self._record(connection, "security", USER_SECURITY_CHANGED, granted, address, request_id)

    def client_changed(self, connection: Connection, client_id: str, what: str, by: Agent, request_id: str = "") -> None:
        """RFC 7591, and the command `client`: what a program may ask for is another thing from now on."""
        entity = AuditedEntity(identifier=client_id, details=(("changed", what),))
        self.trail.record(
            connection,
            self.trail.action(
                "security", USER_SECURITY_CHANGED, by, rest=False, outcome_desc=what, entities=(entity,), request_id=request_id
            ),
        )

    def introspected(self, caller: str, told: Mapping[str, Any], message: Message) -> None:
        """ITI-102: `caller` was told whose token it is, and for which patient. Returns when it is durable."""
        entity = AuditedEntity(identifier=str(told["client_id"]), details=(("scope", str(told["scope"])),))
        self.trail.write(
            self.trail.action(
                "query", INTROSPECT_TOKEN, Agent(identifier=caller, address=message.address), rest=False,
                patient_id=str(told.get("patient", "")), entities=(entity,), request_id=message.request_id,
                token_id=str(told.get("jti", "")),
            )
        )  # fmt: skip

    def chosen_from(self, account: Account, client: str, patients: Sequence[str], emergency: str = "", request: str = "") -> None:
        """A person was shown these patients, to choose for which of them an app shall work.

        `emergency` is the reason why nothing was withheld, `request` what the e-mails about it name. Returns when it is durable.
        """
        if patients:
            why = (("reason", emergency), ("request", request)) if emergency else ()
            entity = AuditedEntity(identifier=client, details=(("shown", "choice of a patient for an app"), *why))
            asking = Agent(identifier="browser", purposes=(BREAK_GLASS,) if emergency else ())
            action = self.trail.action("query", QUERY, asking, rest=False, entities=(entity,))
            self.trail.write(replace(action, user=Agent(identifier=account.id, reference=account.fhir_user)), patients=patients)

    def shown_connected(self, account: Account, patients: Sequence[str]) -> None:
        """A person was shown for which of these patients apps have access. Returns when it is durable."""
        if patients:
            entity = AuditedEntity(identifier=account.id, details=(("shown", "connected apps"),))
            action = self.trail.action("query", QUERY, Agent(identifier="browser"), rest=False, entities=(entity,))
            self.trail.write(replace(action, user=Agent(identifier=account.id, reference=account.fhir_user)), patients=patients)

    def _record(
        self, connection: Connection, kind: Kind, subtype: Subtype, granted: Granted, address: str, request_id: str,
        token_id: str = "", *entities: AuditedEntity,
    ) -> None:  # fmt: skip
        user = Agent(identifier=granted.account) if granted.account else None
        client = Agent(identifier=granted.client, address=address, user=user, purposes=granted.purposes)
        known = AuditedEntity(identifier=granted.id, details=(("scope", granted.scope),))
        self.trail.record(
            connection,
            self.trail.action(
                kind, subtype, client, rest=False, patient_id=granted.patient or "", entities=entities or (known,),
                request_id=request_id, token_id=token_id,
            ),
        )  # fmt: skip
