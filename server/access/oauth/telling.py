"""What the trail has of authorization: tokens issued, access given and ended. Refusals are the edge's, which counts strangers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import USER_SECURITY_CHANGED, Agent, AuditedEntity, Kind, Subtype
from profiles.vocabulary import DCM_QUERY, DCM_SYSTEM, IHE_TRANSACTION
from server.access.oauth.granting import Granted
from server.access.oauth.messages import Message
from server.access.people.accounts import Account
from server.records.trail import Trail

GET_ACCESS_TOKEN: Final = Subtype(IHE_TRANSACTION, "ITI-71", "Get Access Token")
QUERY: Final = Subtype(DCM_SYSTEM, DCM_QUERY, "Query")
INTROSPECT_TOKEN: Final = Subtype(IHE_TRANSACTION, "ITI-102", "Introspect Token")


@dataclass(frozen=True, slots=True)
class Told:
    """Writes into one trail, within the caller's transaction."""

    trail: Trail

    def issued(self, connection: Connection, granted: Granted, message: Message, token_id: str) -> None:
        """IHE IUA section 3.71.5.1: a token for this grant."""
        self._record(connection, "create", GET_ACCESS_TOKEN, granted, message.address, message.request_id, token_id)

    def began(self, connection: Connection, granted: Granted, address: str, request_id: str) -> None:
        """A person has allowed this."""
        self._record(connection, "security", USER_SECURITY_CHANGED, granted, address, request_id)

    def ended(self, connection: Connection, granted: Granted, address: str = "", request_id: str = "") -> None:
        """It is over before its time."""
        self._record(connection, "security", USER_SECURITY_CHANGED, granted, address, request_id)

    def chosen_from(self, account: Account, client: str, patients: Sequence[str]) -> None:
        """A person was shown these patients, to choose for which of them an app shall work. Returns when it is durable."""
        if patients:
            entity = AuditedEntity(identifier=client, details=(("shown", "choice of a patient for an app"),))
            action = self.trail.action("query", QUERY, Agent(identifier="browser"), rest=False, entities=(entity,))
            self.trail.write(replace(action, user=Agent(identifier=account.id, reference=account.fhir_user)), patients=patients)

    def _record(
        self, connection: Connection, kind: Kind, subtype: Subtype, granted: Granted, address: str, request_id: str, token_id: str = ""
    ) -> None:  # fmt: skip
        details = (("scope", granted.scope), *((("account", granted.account),) if granted.account else ()))
        entity = AuditedEntity(identifier=granted.id, details=details)
        self.trail.record(
            connection,
            self.trail.action(
                kind, subtype, Agent(identifier=granted.client, address=address), rest=False, patient_id=granted.patient or "",
                entities=(entity,), request_id=request_id, token_id=token_id,
            ),
        )  # fmt: skip
