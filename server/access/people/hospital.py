"""Sign-in through a hospital's OpenID provider (OpenID Connect Core 1.0 section 3.1), as its relying party.

Who somebody is there is known by issuer and subject, and by nothing else: never by an e-mail address, which another provider, or a later
owner of the address, could say as well. An account is linked by who is signed in to it, or by staff who know the subject.
"""

import base64
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError
from sqlalchemy import Connection, select

from server.access import sealed
from server.access.fetching import Fetching
from server.access.foreign_keys import LEEWAY, ForeignKeys
from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.people.events import Events
from server.errors import Conflict, NotFound, SignInRefused, Unauthenticated, Unavailable
from server.records.installation import Installation
from server.settings import HospitalSignIn, Settings
from server.store.db import Database, insert, micros
from server.store.tables import ExternalIdentity

EXTERNAL: Final = ExternalIdentity.__table__  # type: ignore[attr-defined]
SECONDS: Final = 600
"""How long somebody may take at the hospital."""
_ALGORITHMS: Final = ("RS256", "ES256")
_PURPOSE: Final = "hospital sign-in"
_LONGEST: Final = 2048
_NOT_AS_IT_SHOULD: Final = "the hospital's sign-in does not work as it should; try again later, or sign in another way"


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and what it has to bring back in a cookie: Secure, HttpOnly, SameSite=Lax, for `SECONDS`."""

    url: str
    state: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at a hospital. `name` is only to be shown.

    `authenticated` is when they have shown it there, in microseconds; 0 where the hospital does not say so, which may be long ago.
    """

    provider: str
    issuer: str
    subject: str
    name: str = ""
    assurance: int = 1
    authenticated: int = 0


class Hospital:
    """The providers of `hospital_sign_in`. Pages call it: `begin`, and `finish` when the browser is back at `back`."""

    def __init__(
        self, database: Database, settings: Settings, installation: Installation, fetching: Fetching, events: Events
    ) -> None:
        self._database, self._fetching, self._events = database, fetching, events
        self._providers = {each.id: each for each in settings.hospital_sign_in}
        self._base, self._seconds = settings.base_url, settings.session_seconds
        self._key = installation.cursor_key
        self._keys = ForeignKeys(fetching)

    @property
    def providers(self) -> tuple[tuple[str, str], ...]:
        """Id and title of each, for people to choose from."""
        return tuple((each.id, each.title) for each in self._providers.values())

    def back(self, provider: str) -> str:
        """Where the hospital sends the browser back to: of each provider another one, so that none can answer for another (RFC 9700 section 4.4)."""
        return f"{self._base}/sign-in/hospital/{provider}/back"

    def begin(self, provider: str, session: str = "", *, again: bool = False) -> Begun:
        """OpenID Connect Core section 3.1.2.1, with PKCE (RFC 7636). `session` is the id of the one in which an account is to be linked.

        `again` has the person prove there anew who they are, as linking does: that the hospital knows their browser is not enough. Otherwise it
        may have known it for as long as a session lasts here; asked so, it says since when.
        Raises `NotFound` for a provider that there is not, `Unavailable` where it does not answer.
        """
        known = self._provider(provider)
        metadata = self._metadata(known)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        url = prepare_grant_uri(
            metadata["authorization_endpoint"], known.client_id, "code", redirect_uri=self.back(provider), scope=known.scope, state=state,
            nonce=nonce, code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256",
            **({"prompt": "login", "max_age": "0"} if again or session else {"max_age": str(self._seconds)}),
        )  # fmt: skip
        kept = [state, nonce, verifier, int(time.time()) + SECONDS, again or bool(session)]
        return Begun(url, sealed.seal(self._key, _PURPOSE, kept, (provider, session)))

    def finish(self, provider: str, parameters: Sequence[tuple[str, str]], state: str, session: str = "") -> Identity:
        """OpenID Connect Core sections 3.1.2.5 to 3.1.3.7: who came back. `state` is the cookie, which is to be removed whatever happens.

        Raises `SignInRefused` for whatever is not right, `NotFound` and `Unavailable` as `begin` does.
        """
        known = self._provider(provider)
        given = dict(parameters)
        kept = sealed.unseal(self._key, _PURPOSE, state, (provider, session))
        if kept is None or len(given) != len(parameters) or kept[3] <= time.time():
            raise SignInRefused
        if not hmac.compare_digest(given.get("state", "").encode(), kept[0].encode()) or "code" not in given or "error" in given:
            raise SignInRefused
        metadata = self._metadata(known)
        if given.get("iss", known.issuer) != known.issuer or (_says_issuer(metadata) and "iss" not in given):
            raise SignInRefused  # RFC 9207
        tokens = self._redeem(known, metadata, given["code"], kept[2])
        identity = self._identity(known, metadata, tokens, kept[1])
        if kept[4] and identity.authenticated < (kept[3] - SECONDS - LEEWAY) * 1_000_000:
            raise SignInRefused  # section 3.1.3.7, step 13: the person was to sign in there just now
        return identity

    def account(self, identity: Identity) -> Account | None:
        """The account that is linked to it, also a disabled one; None where none is."""
        mine = EXTERNAL.c.issuer == identity.issuer, EXTERNAL.c.subject == identity.subject
        with self._database.read() as connection:
            id_ = connection.execute(select(EXTERNAL.c.account).where(*mine)).scalar_one_or_none()
            return None if id_ is None else accounts.find(connection, id_)

    def sign_in(self, identity: Identity, address: str) -> Account | None:
        """The account to open a session for, with `methods=("hospital",)` and `identity.assurance`; None where none is linked.

        Raises `SignInRefused` for an account that is disabled.
        """
        account = self.account(identity)
        if account is None:
            self._events.failed(None, "hospital", address)
            return None
        if account.disabled:
            self._events.failed(account, "hospital", address)
            raise SignInRefused
        self._events.signed_in(account, "hospital", address)
        return account

    def link(self, account: Account, identity: Identity, address: str, by: Account | None = None) -> None:
        """From now on it signs in to this account. `by` are staff, where it is not the account's own person. Raises `Conflict`."""
        with self._database.write() as connection:
            link(connection, account.id, identity.issuer, identity.subject)
            self._events.changed(connection, account.id, by or account, "sign-in through a hospital was linked", address)

    def unlink(self, account: Account, issuer: str, subject: str, address: str) -> None:
        """It does not any more. Raises `NotFound`."""
        with self._database.write() as connection:
            unlink(connection, account.id, issuer, subject)
            self._events.changed(connection, account.id, account, "sign-in through a hospital was unlinked", address)

    def linked(self, account: str) -> tuple[tuple[str, str], ...]:
        """Issuer and subject of each identity of the account with this id, the oldest first."""
        mine = select(EXTERNAL.c.issuer, EXTERNAL.c.subject).where(EXTERNAL.c.account == account).order_by(EXTERNAL.c.linked)
        with self._database.read() as connection:
            return tuple((issuer, subject) for issuer, subject in connection.execute(mine))

    def _provider(self, id_: str) -> HospitalSignIn:
        found = self._providers.get(id_)
        if found is None:
            raise NotFound("there is no such hospital to sign in through")
        return found

    def _metadata(self, provider: HospitalSignIn) -> Mapping[str, Any]:
        """OpenID Connect Discovery section 4: what the provider says of itself, which has to be about itself."""
        metadata = self._fetching.json(f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if metadata.get("issuer") != provider.issuer or not all(isinstance(metadata.get(name), str) for name in needed):
            raise Unavailable(_NOT_AS_IT_SHOULD)
        return metadata

    def _redeem(self, provider: HospitalSignIn, metadata: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        """OpenID Connect Core section 3.1.3.1, as a client with a secret (RFC 6749 section 2.3.1) or without."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.back(provider.id),
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        secret = provider.client_secret.get_secret_value() if provider.client_secret else ""
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and "client_secret_basic" in methods:
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": provider.client_id, **({"client_secret": secret} if secret else {})}
        status, tokens = self._fetching.post(metadata["token_endpoint"], form, headers)
        if status == 400:
            raise SignInRefused  # a code that was used before, or is none
        if status != 200 or not isinstance(tokens.get("id_token"), str):
            raise Unavailable(_NOT_AS_IT_SHOULD)
        return tokens

    def _identity(self, provider: HospitalSignIn, metadata: Mapping[str, Any], tokens: Mapping[str, Any], nonce: str) -> Identity:
        """OpenID Connect Core section 3.1.3.7, ID token validation."""
        try:
            header, claims = self._keys.verified(tokens["id_token"], metadata["jwks_uri"], _ALGORITHMS)
            wanted = {"iss": {"value": provider.issuer}, "aud": {"value": provider.client_id}}
            bound = {"nonce": nonce, "client_id": provider.client_id, "access_token": tokens.get("access_token")}
            CodeIDToken(claims, header, wanted, bound).validate(leeway=LEEWAY)
        except (Unauthenticated, JoseError, ValueError, TypeError):
            raise SignInRefused from None
        subject, name = claims.get("sub"), claims.get("name", "")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST or "\0" in subject:
            raise SignInRefused
        since = claims.get("auth_time", 0)
        since = min(since, int(time.time())) * 1_000_000 if isinstance(since, int) and since > 0 else 0
        return Identity(provider.id, provider.issuer, subject, str(name)[:200], provider.assurance, since)


def link(connection: Connection, account: str, issuer: str, subject: str) -> None:
    """This subject of this issuer signs in to the account with this id. Raises `Conflict` where it signs in to another."""
    row = {"issuer": issuer, "subject": subject, "account": account, "linked": micros()}
    connection.execute(insert(connection, EXTERNAL).values(row).on_conflict_do_nothing())
    mine = select(EXTERNAL.c.account).where(EXTERNAL.c.issuer == issuer, EXTERNAL.c.subject == subject)
    if connection.execute(mine).scalar_one() != account:
        raise Conflict("this hospital sign-in belongs to another account; remove it there first")


def unlink(connection: Connection, account: str, issuer: str, subject: str) -> None:
    """It does not any more. Raises `NotFound`."""
    mine = EXTERNAL.c.issuer == issuer, EXTERNAL.c.subject == subject, EXTERNAL.c.account == account
    if connection.execute(EXTERNAL.delete().where(*mine).returning(EXTERNAL.c.account)).first() is None:
        raise NotFound("this account is not linked so")


def _says_issuer(metadata: Mapping[str, Any]) -> bool:
    return metadata.get("authorization_response_iss_parameter_supported") is True
