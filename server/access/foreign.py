"""Tokens of foreign authorization servers: this server as a separate imaging server (SMART Imaging Access, "separate authorization").

An EHR's authorization server has issued the token, for an app that asks here for images of the patient that it was issued for. It is verified
by that server's keys, or asked about there (RFC 7662). It never opens more than the settings let its issuer's tokens open, its scopes are read as
ours are, and its patient is ours of the same identifier. Where any of this cannot be established nothing is served.

What was revoked there acts here when the token's time in memory is over: `cache_seconds` where the issuer is asked, one second unless it is set;
where the token is verified by keys alone, nothing but its expiry ends it.
"""

import base64
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

from sqlalchemy import Connection

from profiles.smart.scopes import Scope, narrowed, parse_scopes
from server.access.consents import NOTHING, withheld
from server.access.decisions import RESERVED, Decision
from server.access.fetching import Fetching
from server.access.foreign_keys import ForeignKeys, require_in_time, said_claims, said_header
from server.access.guesses import Guesses
from server.errors import AccessError, Unauthenticated, Unavailable
from server.records import belonging, identities
from server.settings import Settings, TrustedIssuer

_ALGORITHMS: Final = ("RS256", "ES256", "RS384", "ES384")
_TYPES: Final = ("at+jwt", "application/at+jwt", "jwt", "")
"""Of access tokens (RFC 9068 section 2.1), in lower case; many servers say JWT, or nothing."""
_LONGEST: Final = 8192
_REMEMBERED: Final = 4096
_SECONDS_BY_KEY: Final = 60
"""How long a signature need not be verified again."""
_LOCKS: Final = 64
_STRANGE: Final = "the access token is not active, or not for this server"


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that its issuer stands behind.

    `patient` is the Patient ID by the issuer's authority, empty for one that cannot be known here; None without a patient context, which is
    `context` as the token says it: the id of a FHIR Patient there.
    """

    issuer: TrustedIssuer
    client: str
    scope: str
    patient: str | None
    token_id: str = field(repr=False)
    context: str = ""
    is_own: bool = False
    """The issuer says that a patient asks, or somebody for one: consents are not about them."""
    is_practitioner: bool = False
    """The issuer says that somebody asks who works there."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What came of asking, until this moment in seconds since 1970."""

    until: float
    verified: Verified | None = None
    error: AccessError | None = None


class Foreign:
    """The tokens of `trusted_issuers`, in one process."""

    def __init__(self, settings: Settings, fetching: Fetching) -> None:
        self._issuers = {each.issuer: each for each in settings.trusted_issuers}
        asked = [each for each in settings.trusted_issuers if each.introspection_endpoint]
        self._of_opaque = asked[0] if len(asked) == 1 else None
        self._audience = frozenset((settings.base_url, f"{settings.base_url}/fhir", f"{settings.base_url}/dicomweb"))
        self._permits = settings.consent_default == "permit"
        self._fetching = fetching
        self._keys = ForeignKeys(fetching)
        self._guesses = Guesses()
        self._kept: dict[bytes, _Kept] = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def takes(self, token: str) -> bool:
        """Whether the token is for us to look at: it says that a trusted issuer made it; or says nothing, and there is one who can be asked."""
        return bool(self._issuers) and self._issuer(token) is not None

    def waits(self, token: str) -> bool:
        """Whether `verified` would have to ask somebody, which takes its time."""
        kept = self._kept.get(_digest(token))
        return kept is None or kept.until <= time.time()

    def verified(self, token: str) -> Verified:
        """RFC 9068 section 4 or RFC 7662 section 2. Raises `Unauthenticated`; `Unavailable` where whom we have to ask does not answer."""
        digest = _digest(token)
        with self._locks[digest[0] % _LOCKS]:
            kept = self._kept.get(digest)
            if kept is None or kept.until <= time.time():
                kept = self._ask(token, digest)
                _remember(self._kept, digest, kept)
        if kept.error is not None:
            raise type(kept.error)(kept.error.detail)
        assert kept.verified is not None
        return kept.verified

    def decision(self, connection: Connection, verified: Verified) -> Decision:
        """The Decision: scopes of the token as far as the settings let it, in the patient of ours whom its context means; of nobody where there is none.

        A `user/` or `system/` scope reaches every patient only where the settings name such a scope, the token has no patient, and for `user/`
        says that a practitioner asks: of a user who is not named it is not known whom they may see.
        """
        issuer, patient = verified.issuer, None
        if verified.patient:
            patient = identities.by_identity(connection, "Patient", f"urn:oid:{issuer.patient_authority}", verified.patient)
            patient = patient and (belonging.replaced_by(connection, patient) or patient)
        # who is a patient there reaches nobody else, whatever the scope is called; without a patient context it is not known who they are here
        reach = None if verified.patient is None and not verified.is_own else frozenset([patient] if patient else ())
        scopes = parse_scopes(narrowed(verified.scope, issuer.scope))
        if reach is None and not verified.is_practitioner:
            scopes = tuple(scope for scope in scopes if scope.context != "user")
        return Decision(
            subject=f"{issuer.issuer}|{verified.client}",
            scopes=scopes,
            patient=patient,
            token_id=verified.token_id,
            reach=reach,
            known_as=verified.context if patient else "",
            issuer=issuer.issuer,
            writes=_reserved(scopes, verified),
            withheld=NOTHING
            if verified.is_own
            else withheld(
                connection,
                user="",
                actors=frozenset(),
                purposes=frozenset(),
                patients=reach,
                permits=self._permits,
                is_unknown=True,
            ),
        )

    def _issuer(self, token: str) -> TrustedIssuer | None:
        said = _said_issuer(token)
        return self._of_opaque if said is None else self._issuers.get(said)

    def _ask(self, token: str, digest: bytes) -> _Kept:
        issuer = self._issuer(token)
        if issuer is None or len(token) > _LONGEST:
            raise Unauthenticated(_STRANGE)
        known = self._kept.get(digest)
        if issuer.introspection_endpoint and (known is None or known.verified is None):
            self._guesses.require_room(issuer.issuer)
        seconds = issuer.cache_seconds if issuer.introspection_endpoint else _SECONDS_BY_KEY
        until = time.time() + seconds
        try:
            claims = self._introspected(issuer, token) if issuer.introspection_endpoint else self._decoded(issuer, token)
            verified = self._judged(issuer, claims, token)
        except Unauthenticated as error:
            self._guesses.missed(issuer.issuer)
            return _Kept(until, error=error)
        return _Kept(min(until, float(claims.get("exp", until))), verified)

    def _decoded(self, issuer: TrustedIssuer, token: str) -> Mapping[str, Any]:
        header, claims = self._keys.verified(token, issuer.jwks_uri, _ALGORITHMS)
        if str(header.get("typ", "")).lower() not in _TYPES or claims.get("iss") != issuer.issuer or "aud" not in claims:
            raise Unauthenticated(_STRANGE)
        return claims

    def _introspected(self, issuer: TrustedIssuer, token: str) -> Mapping[str, Any]:
        """RFC 7662 section 2. Raises `Unavailable` for an answer that says neither yes nor no, such as that we are not known there."""
        assert issuer.client_secret is not None
        pair = f"{quote_plus(issuer.client_id)}:{quote_plus(issuer.client_secret.get_secret_value())}"
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        form = {"token": token, "token_type_hint": "access_token"}
        status, claims = self._fetching.post(issuer.introspection_endpoint, form, headers)
        if status != 200 or type(claims.get("active")) is not bool:
            raise Unavailable("the authorization server of this token does not say whether it is active; try again later")
        if not claims["active"] or claims.get("iss", issuer.issuer) != issuer.issuer:
            raise Unauthenticated(_STRANGE)
        if "exp" in claims:
            require_in_time(claims)
        return claims

    def _judged(self, issuer: TrustedIssuer, claims: Mapping[str, Any], token: str) -> Verified:
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if "aud" in claims and not _plain(issuer.audience or self._audience) & _plain(named):
            raise Unauthenticated(_STRANGE)
        scope, context = claims.get("scope", ""), claims.get("patient")
        if isinstance(scope, list):
            scope = " ".join(map(str, scope))
        if not isinstance(scope, str) or not isinstance(context, str | None):
            raise Unauthenticated(_STRANGE)
        client = claims.get("client_id", claims.get("azp", claims.get("sub", "")))
        patient = None if context is None else self._patient(issuer, context, token)
        user = _kind(str(claims.get("fhirUser", "")))
        return Verified(
            issuer, str(client), scope, patient, str(claims.get("jti", "")), context or "",
            is_own=user in ("Patient", "RelatedPerson"), is_practitioner=user in ("Practitioner", "PractitionerRole"),
        )  # fmt: skip

    def _patient(self, issuer: TrustedIssuer, context: str, token: str) -> str:
        """The Patient ID that a patient context means: itself, or what the EHR's Patient of this id says, read with the token."""
        if not issuer.fhir_base or not context:
            return context
        url = f"{issuer.fhir_base.rstrip('/')}/Patient/{quote(context, safe='')}"
        status, patient = self._fetching.get(url, {"Authorization": f"Bearer {token}"})
        if status in (401, 403, 404, 410):
            return ""
        if status == 200:
            return identified(patient, context, issuer.patient_system or f"urn:oid:{issuer.patient_authority}")
        raise Unavailable("the server that knows the patient of this token does not answer as it should; try again later")


def identified(patient: Mapping[str, Any], id_: str, system: str) -> str:
    """The one identifier of this system in force that a Patient of this id has; empty where there is none, or several, which could be two people."""
    if patient.get("resourceType") != "Patient" or patient.get("id") != id_:
        return ""
    held = patient.get("identifier")
    values = {
        str(each["value"])
        for each in (held if isinstance(held, list) else ())
        if isinstance(each, dict) and each.get("system") == system and each.get("value") and each.get("use") != "old"
    }
    return values.pop() if len(values) == 1 else ""


def _reserved(scopes: tuple[Scope, ...], verified: Verified) -> frozenset[str]:
    """What of `RESERVED` the caller writes: a service all, who is a patient there, or a patient's relative, Consents; of others it is not known who asks."""
    if verified.is_own:
        return frozenset({"Consent"})
    is_service = not verified.is_practitioner and all(scope.context == "system" for scope in scopes)
    return RESERVED if is_service else frozenset()


def _kind(user: str) -> str:
    """The type of a reference such as `https://ehr.example.org/fhir/Practitioner/x`; empty for what is none."""
    *before, id_ = user.split("/")
    return before[-1] if before and id_ else ""


def _said_issuer(token: str) -> str | None:
    """The `iss` that a token says itself, unverified; None for one that says none."""
    try:
        said_header(token)
    except Unauthenticated:
        return None
    found = said_claims(token).get("iss")
    return found if isinstance(found, str) else None


def _plain(audience: Iterable[object]) -> frozenset[str]:
    return frozenset(str(each).rstrip("/") for each in audience)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _remember(kept: dict[Any, Any], key: object, value: object) -> None:
    if len(kept) >= _REMEMBERED:
        kept.clear()
    kept[key] = value
