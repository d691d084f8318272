"""What people do here, in the trail: DICOM PS3.15 section A.5.3.11 (User Authentication) and A.5.3.12 (Security Alert).

An account is named by its id and its FHIR resource, never by name or e-mail address.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sqlalchemy import Connection

from profiles.audit_event import (
    LOGIN,
    LOGOUT,
    REFUSED,
    SUCCESS,
    USER_SECURITY_CHANGED,
    Agent,
    AuditedAction,
    AuditedEntity,
    Kind,
    Outcome,
    Subtype,
)
from server.access.people.accounts import Account
from server.records.trail import Trail

Told = Callable[[Connection, str, str], None]
"""Is told, within a transaction, of which account (its id) what was changed."""
Refusal = Callable[[AuditedAction], None]
"""Puts a refusal of somebody whom nobody knows into the trail, counted (`records.strangers`)."""


class Events:
    """Writes them to the trail of one process."""

    def __init__(self, trail: Trail, refused: Refusal | None = None) -> None:
        self._trail, self._refused = trail, refused or trail.write
        self.also: Told | None = None
        """Who else is told of changes, besides the trail."""
        self._later = ThreadPoolExecutor(1, thread_name_prefix="refusals")

    def settled(self) -> None:
        """Waits until the failures that were told of so far are in the trail."""
        self._later.submit(int).result()

    def close(self) -> None:
        """The same; nothing more is told afterwards."""
        self._later.shutdown(wait=True)

    def signed_in(self, account: Account, method: str, address: str) -> None:
        """Returns when it is durable."""
        self._trail.write(self._action("sign-in", LOGIN, account, address, said=f"signed in by {method}"))

    def failed(self, account: Account | None, method: str, address: str) -> None:
        """A failure to sign in: of an account that there is, or of whoever it was, who may come as often as the network allows.

        It is written after the answer: how long that takes must not say whether there is an account.
        """
        said = f"signing in by {method} was refused"
        action = self._action("sign-in", LOGIN, account, address, outcome=REFUSED, said=said)
        if account is None:
            self._later.submit(self._refused, action)
        else:
            self._later.submit(self._trail.write, action)

    def signed_out(self, account: Account, address: str) -> None:
        """Returns when it is durable."""
        self._trail.write(self._action("sign-in", LOGOUT, account, address))

    def changed(
        self, connection: Connection, account: str, by: Account | None, what: str, address: str, patient: str = ""
    ) -> None:
        """`what` was changed about the account with this id, within the caller's transaction; `by` is None for the command line.

        `patient` is the resource id of whose records it is about, who may read the event.
        """
        action = self._action("security", USER_SECURITY_CHANGED, by, address, said=what)
        entity = AuditedEntity(identifier=account, details=(("changed", what),))
        self._trail.record(connection, replace(action, entities=(entity,), patient_id=patient))
        if self.also is not None:
            self.also(connection, account, what)

    def _action(
        self, kind: Kind, subtype: Subtype, account: Account | None, address: str, *, outcome: Outcome = SUCCESS, said: str = ""
    ) -> AuditedAction:
        client = Agent(identifier="browser" if address else "command line", address=address)
        action = self._trail.action(kind, subtype, client, rest=False, outcome=outcome, outcome_desc=said)
        return action if account is None else replace(action, user=Agent(identifier=account.id, reference=account.fhir_user))
