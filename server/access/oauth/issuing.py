"""RFC 6749 section 5.1 and SMART App Launch 2.2, "Launch context arrives with your access_token": what a token response is made of.

A grant decides within its transaction and leaves an `Issue` on the request; only after the commit something is signed.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidGrantError
from sqlalchemy import Connection

from server.access import rights
from server.access.decisions import Decision
from server.access.oauth.clients import Client
from server.access.oauth.granting import Granted
from server.access.people.accounts import Account
from server.errors import Unauthenticated

TOKEN_METHODS: Final = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
"""How clients authenticate at the token endpoint."""


@dataclass(frozen=True, slots=True)
class Issue:
    """A token response that may be made. `seconds` is the life of the access token, `person` whom an ID token would tell of."""

    client: Client
    granted: Granted
    scope: str
    seconds: int
    refresh_token: str = field(default="", repr=False)
    person: Account | None = None
    nonce: str = field(default="", repr=False)
    with_id_token: bool = False

    def body(self, access_token: str, id_token: str = "") -> dict[str, Any]:
        """The JSON members of the answer."""
        return {
            **self.granted.told,
            **({"id_token": id_token} if id_token else {}),
            **({"refresh_token": self.refresh_token} if self.refresh_token else {}),
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.seconds,
            "scope": self.scope,
        }


def require_right(connection: Connection, granted: Granted, now: int) -> None:
    """Raises `InvalidGrantError` where a token of this grant would open nothing.

    Its account or client is disabled, the session that it lasts with is over, or the person may not see its patient any more.
    """
    try:
        decided, _ = rights.decision(connection, claims={"grant": granted.id, "client_id": granted.client, "scope": ""}, now=now)
    except Unauthenticated:
        raise InvalidGrantError("what was granted has ended; the person has to authorize anew") from None
    if is_out_of_reach(decided):
        raise InvalidGrantError("the person may not see this patient any more")


def is_out_of_reach(decided: Decision) -> bool:
    """Whether the person may not see the patient in context any more."""
    return decided.patient is not None and decided.reach is not None and decided.patient not in decided.reach
