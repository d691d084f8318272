"""What a page that shows images gets to ask `/dicomweb` with: an access token of a few minutes, and a handle by which it gets the next one.

The page has both in memory only: no cookie, no storage, no address. The handle is good for as long as the grant behind it is, which ends with the
session, the share or the launch that it is of.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from server.access import sealed
from server.access.oauth import granting
from server.access.oauth.granting import Granted
from server.access.people.sessions import Session
from server.access.rights import CODE, LAUNCH, LAUNCHED, PORTAL, SHARE, SHARED, TAKING
from server.access.tokens import Tokens
from server.errors import Unauthenticated
from server.records.installation import Installation
from server.store.db import micros

SECONDS: Final = 600
"""How long a page's token lives."""
_PURPOSE: Final = "viewer"
_SCOPE: Final = "patient/Patient.r patient/ImagingStudy.rs patient/DiagnosticReport.rs patient/DocumentReference.rs"
_OVER: Final = "this page is over; open it anew"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A token, when it expires (seconds since 1970), and the handle for the next. Neither is ever logged."""

    token: str
    expires: int
    handle: str

    def __repr__(self) -> str:
        return f"Ticket(expires={self.expires})"


class Viewing:
    """Issues and renews tickets."""

    def __init__(self, tokens: Tokens, installation: Installation) -> None:
        self._tokens, self._key = tokens, installation.cursor_key

    def for_session(self, connection: Connection, session: Session, patient: str, studies: Iterable[str], until: int) -> Ticket:
        """For somebody who is signed in: these studies (UIDs) of this patient (resource id), as far as they reach them, until they sign out."""
        return self.ticket(
            connection,
            Granted("", PORTAL, _SCOPE, session.account.id, patient, studies=tuple(studies), session=session.id, expires=until),
        )

    def for_share(
        self,
        connection: Connection,
        share: str,
        patient: str,
        studies: Iterable[str],
        until: int,
        *,
        reports: bool,
        taking: bool,
    ) -> Granted:
        """What an opened share shows, until it ends. Without `taking` images are only to be looked at."""
        scope = _SCOPE if reports else " ".join(_SCOPE.split()[:2])
        return granting.begin(
            connection,
            Granted(
                "", SHARED, scope, None, patient, context={SHARE: share, TAKING: taking}, studies=tuple(studies), expires=until
            ),
        )

    def for_code(self, connection: Connection, code: str, patient: str, studies: Iterable[str], until: int) -> Granted:
        """What the browser that has claimed the access code of this id shows, until there is an account."""
        return granting.begin(
            connection, Granted("", PORTAL, _SCOPE, None, patient, context={CODE: code}, studies=tuple(studies), expires=until)
        )

    def for_launch(
        self, connection: Connection, ehr: str, user: str, patient: str, studies: Iterable[str], until: int
    ) -> Granted:
        """What a page shows that the EHR with this issuer has launched for this user of its, until its token ends."""
        context = {LAUNCH: ehr, **({"user": user} if user else {})}
        return granting.begin(
            connection, Granted("", LAUNCHED, _SCOPE, None, patient, context=context, studies=tuple(studies), expires=until)
        )

    def of_handle(self, connection: Connection, handle: str) -> Granted | None:
        """The grant behind a page's handle, if it holds."""
        found = sealed.unseal(self._key, _PURPOSE, handle)
        granted = granting.find(connection, found[0]) if isinstance(found, list) and found else None
        return granted if granted is not None and granted.holds(micros()) else None

    def ticket(self, connection: Connection, granted: Granted, most: int = SECONDS) -> Ticket:
        """Of a grant that holds, or that is to begin (it has no id then): a token for `most` seconds."""
        granted = granted if granted.id else granting.begin(connection, granted)
        seconds = max(1, min(most, (granted.expires - micros()) // 1_000_000))
        issued = self._tokens.issue_for(
            connection, grant=granted.id, client=granted.client, subject=granted.account or granted.client, scope=granted.scope, seconds=seconds,
            more={"patient": granted.patient},
        )  # fmt: skip
        handle = sealed.seal(self._key, _PURPOSE, [granted.id, secrets.token_urlsafe(8)])
        return Ticket(issued.token, issued.expires, handle)

    def renewed(self, connection: Connection, handle: str) -> Ticket:
        """The next one. Raises `Unauthenticated` where the grant has ended, or the handle is none of ours."""
        granted = self.of_handle(connection, handle)
        if granted is None:
            raise Unauthenticated(_OVER)
        ticket = self.ticket(connection, granted)
        self._tokens.decide(ticket.token, connection)  # whose account was disabled, or session closed, gets none
        return ticket
