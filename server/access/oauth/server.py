"""The authorization server of this installation: what its endpoints answer, on Authlib's base, which knows no web framework."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from authlib.oauth2.rfc6749 import AuthorizationServer, InvalidClientError, InvalidRequestError, OAuth2Error
from sqlalchemy import Connection

from server.access import rights
from server.access.consents import BREAK_GLASS
from server.access.oauth import clients, refresh
from server.access.oauth.authorization_code import CodeGrant
from server.access.oauth.client_assertion import ClientAssertion, JwksFetch, claim
from server.access.oauth.client_credentials import BackendGrant
from server.access.oauth.clients import GRANT_TYPES, REFRESH_TOKEN, Client
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.id_token import id_token
from server.access.oauth.issuing import Issue
from server.access.oauth.messages import Answer, Message, Request, answer, basic
from server.access.oauth.pkce import S256
from server.access.oauth.refresh import RefreshGrant
from server.access.oauth.telling import Told
from server.access.tokens import Issued, Tokens
from server.records import consent_rules
from server.records.trail import Trail
from server.settings import Settings
from server.store.db import Database, micros

_DAY: Final = 86_400 * SECOND


class OAuthServer(AuthorizationServer):
    """Safe for threads. Everything here is synchronous: the edge calls it in a thread of its pool.

    `issuer` and `audience` (the FHIR base) are URLs without a slash at the end. `fetch_of_strangers` is for clients that registered themselves.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        tokens: Tokens,
        trail: Trail,
        fetch: JwksFetch,
        fetch_of_strangers: JwksFetch,
    ) -> None:
        super().__init__()
        logging.getLogger("authlib").setLevel(logging.INFO)  # at DEBUG it writes tokens into the log
        self.settings, self.database, self.tokens, self.told = settings, database, tokens, Told(trail)
        self.issuer = settings.base_url
        self.audience = f"{settings.base_url}/fhir"
        self.token_url = f"{settings.base_url}/oauth/token"
        self.access_seconds = settings.access_token_seconds
        self.refresh_micros = settings.refresh_token_days * _DAY
        self.register_grant(CodeGrant, [S256(required=True)])
        self.register_grant(RefreshGrant)
        self.register_grant(BackendGrant)
        self.register_client_auth_method("client_secret_basic", _by_basic)
        self.register_client_auth_method(
            "private_key_jwt", ClientAssertion(frozenset({self.token_url, self.issuer}), fetch, fetch_of_strangers)
        )

    # --- what Authlib asks for

    def query_client(self, client_id: str) -> Client | None:
        with self.database.read() as connection:
            return clients.enabled(connection, client_id)

    def create_oauth2_request(self, request: Message | Request) -> Request:
        return request if isinstance(request, Request) else Request(request)

    def handle_response(self, status: int, body: Any, headers: Sequence[tuple[str, str]]) -> Answer:
        return answer(status, dict(body) if isinstance(body, list) else body, headers)

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def authenticate_client(self, request: Request, methods: Sequence[str], endpoint: str = "token") -> Client:
        """RFC 6749 section 2.3: by the one way that the request uses; more than one is refused."""
        used = [*_used(request)]
        if len(used) > 1:
            raise InvalidRequestError("the client authenticates in more than one way; use one of them")
        method = used[0] if used else "none"
        if method not in methods:
            raise InvalidClientError(f"here a client authenticates by {', '.join(methods)}", status_code=401)
        client: Client = super().authenticate_client(request, [method], endpoint)
        if request.form.get("client_id", client.id) != client.id:
            raise InvalidRequestError("client_id is another one than that of the authentication")
        request.client = client
        return client

    # --- endpoints

    def token(self, message: Message) -> Answer:
        """RFC 6749 section 3.2: the token endpoint."""
        request = Request(message)
        try:
            grant = self._grant(request)
            if self._named_by_its_token(request) is None:
                self.authenticate_client(request, grant.TOKEN_ENDPOINT_AUTH_METHODS)
            issue, access = self._committed(request, grant)
        except OAuth2Error as error:
            return self.refusal(error)
        identity = ""
        if issue.with_id_token and issue.person is not None:
            identity = id_token(self.tokens.keys, issue, issuer=self.issuer, fhir_base=self.audience)
        return answer(200, issue.body(access.token, identity))

    def authenticated(self, message: Message, methods: Sequence[str]) -> tuple[Request, Client]:
        """The client that asks at another endpoint; an assertion of it is used up. Raises `OAuth2Error`."""
        request = Request(message)
        request.refuse_repeated()
        client = self.authenticate_client(request, methods)
        if (assertion := getattr(request, "assertion", None)) is not None:
            with self.database.write() as connection:
                claim(connection, assertion)
        return request, client

    def refusal(self, error: OAuth2Error) -> Answer:
        """RFC 6749 section 5.2."""
        status, body, headers = error(None)
        return self.handle_response(status, body, headers)

    def _grant(self, request: Request) -> Any:
        request.refuse_repeated()
        wanted = request.form.get("grant_type")
        if not wanted:
            raise InvalidRequestError("grant_type is missing")
        if wanted not in GRANT_TYPES:
            raise OAuth2Error(error="unsupported_grant_type", description=f"grant_type is {', '.join(GRANT_TYPES)}")
        return self.get_token_grant(request)

    def _named_by_its_token(self, request: Request) -> Client | None:
        """RFC 6749 section 6 asks a public client for its refresh token alone, and fhirclient.js sends no more."""
        form = request.form
        if form.get("grant_type") != REFRESH_TOKEN or form.get("client_id") or _used(request):
            return None
        with self.database.read() as connection:
            named = refresh.client_of(connection, form.get("refresh_token", ""))
            client = clients.enabled(connection, named) if named is not None else None
        request.client = client if client is not None and client.kind == "public" else None
        found: Client | None = request.client
        return found

    def _committed(self, request: Request, grant: Any) -> tuple[Issue, Issued]:
        """What the grant gives, and the access token. What it wrote stays where it refuses too: a replay ends a grant, a used assertion is used."""
        with self.database.write() as connection:
            request.connection, request.now = connection, micros()
            try:
                if (assertion := getattr(request, "assertion", None)) is not None:
                    claim(connection, assertion)
                grant.validate_token_request()
                grant.create_token_response()
                return request.issue, self._signed(connection, request)
            except OAuth2Error as error:
                refused = error
        raise refused

    def _signed(self, connection: Connection, request: Request) -> Issued:
        issue: Issue = request.issue
        granted = issue.granted
        issued = self.tokens.issue_for(
            connection, grant=granted.id, client=granted.client, subject=granted.account or granted.client, scope=issue.scope,
            seconds=issue.seconds, more={name: granted.told[name] for name in ("patient", "encounter") if name in granted.told},
        )  # fmt: skip
        self.told.issued(connection, granted, request.message, issued.id)
        if consents := self._held_against(connection, granted, request.now):
            self.told.decided(connection, granted, consents, request.message, issued.id)
        return issued

    def _held_against(self, connection: Connection, granted: Granted, now: int) -> list[str]:
        """The Consents of the grant's patient, where any of what they say can concern who asks."""
        found = consent_rules.of_patient(connection, granted.patient) if granted.patient else []
        if not found:
            return []
        claims, permits = {"grant": granted.id, "client_id": granted.client}, self.settings.consent_default == "permit"
        made, _ = rights.decision(connection, claims=claims, now=now, permits=permits)
        return [] if made.withheld.is_nothing and BREAK_GLASS not in made.purposes else found


def _by_basic(query_client: Any, request: Request) -> Client | None:
    """RFC 6749 section 2.3.1. Authlib's own raises what is no error of OAuth for bytes that are no UTF-8."""
    found = basic(request.message.authorization)
    client: Client | None = query_client(found[0]) if found else None
    return client if found and client is not None and client.check_client_secret(found[1]) else None


def _used(request: Request) -> Sequence[str]:
    """The ways in which a request authenticates its client; none for one that only says who it is."""
    found = []
    if basic(request.message.authorization) is not None:
        found.append("client_secret_basic")
    if request.form.get("client_secret"):
        found.append("client_secret_post")
    if request.form.get("client_assertion") or request.form.get("client_assertion_type"):
        found.append("private_key_jwt")
    return found
