"""Launches of our viewer out of an EHR: this server as a SMART app (SMART App Launch 2.2, section "EHR Launch"), which keeps all that is secret to itself.

The browser carries the state and the code, and nothing else: EHRs open apps in frames of another site, where there are neither cookies nor storage. A state is good
once. Whom the EHR means is ours of the same identifier; what it opens ends with its token, and is prolonged by its refresh token where it gives one.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError
from sqlalchemy import Connection, delete

from profiles.fhir.references import parse_reference
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.access import sealed
from server.access.fetching import Fetching
from server.access.foreign import identified
from server.access.foreign_keys import LEEWAY, ForeignKeys
from server.access.oauth import granting
from server.access.rights import LAUNCH
from server.access.tokens import Tokens
from server.errors import Forbidden, Gone, ImageShareError, NotFound, Unauthenticated, Unavailable
from server.records import belonging, identities
from server.records.installation import Installation
from server.settings import Ehr, Settings
from server.store.db import Database, micros
from server.store.tables import EhrLaunch

ROW: Final = EhrLaunch.__table__  # type: ignore[attr-defined]
SECONDS: Final = 600
"""How long somebody may take at the EHR."""
_PURPOSE: Final = "ehr launch"
_ALGORITHMS: Final = ("RS256", "RS384", "ES256", "ES384")
_LONGEST: Final = 2048
_EARLY: Final = 700
"""Seconds before the end from which a refresh token is used."""
_MOST_REFRESH: Final = 2500
NOT_KNOWN: Final = "this record system is not connected with us; ask those who run it"
OVER: Final = "this opening of the images is over, or was used already; open them again from the record"
DENIED: Final = (
    "the record system did not allow the images to be opened; open them again from the record, or ask those who run it"
)
WRONG: Final = "the record system answered in a way that is not right; open the images again from the record, and tell those who run it if this happens again"
NOBODY: Final = (
    "the record system did not say whose images are to be opened; choose a patient there first, then open the images again"
)
NO_PATIENT: Final = "there are no images of this patient here"


@dataclass(frozen=True, slots=True)
class Launched:
    """What an EHR has launched: whose images (resource id), which studies it named (Study Instance UIDs, or ids of ours), who looks, until when (microseconds)."""

    ehr: Ehr
    patient: str
    studies: tuple[str, ...]
    user: str
    expires: int
    refresh: str = field(default="", repr=False)
    token_endpoint: str = ""
    grant: str = ""
    """Where the EHR is this server itself: the grant that its token is of, with the rights of whoever allowed it."""


class EhrLaunches:
    """The launches of one node, from the EHRs of the settings."""

    def __init__(
        self, database: Database, settings: Settings, installation: Installation, fetching: Fetching, tokens: Tokens
    ) -> None:
        self._database, self._fetching, self._settings, self._own = database, fetching, settings, tokens
        self._ehrs = {each.issuer.rstrip("/"): each for each in settings.ehrs}
        self._key = installation.cursor_key
        self._keys = ForeignKeys(fetching)
        self._fhir = f"{settings.base_url}/fhir"

    @property
    def back(self) -> str:
        """The redirect URI that an EHR registers."""
        return f"{self._settings.base_url}/launch/back"

    def origins(self, issuer: str = "") -> tuple[str, ...]:
        """Whose pages may frame those of a launch by this EHR; by any, as long as it is not known which it is."""
        known = [each for each in self._ehrs.values() if issuer in ("", each.issuer)]
        return tuple(sorted({origin for each in known for origin in each.origins}))

    def is_own(self, client: str) -> bool:
        """Whether our own authorization server launches the viewer as this client."""
        return any(each.is_here and each.client_id == client for each in self._ehrs.values())

    def begin(self, issuer: str, launch: str) -> str:
        """Where the browser goes. Raises `Forbidden` for an EHR that is not in the settings, `Unavailable` where it does not answer."""
        ehr = self._ehrs.get(issuer.rstrip("/"))
        if ehr is None or not 0 < len(launch) <= _LONGEST:
            raise Forbidden(NOT_KNOWN)
        metadata = self._metadata(ehr)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        kept = [verifier, nonce, metadata["token_endpoint"], metadata.get("jwks_uri", ""), metadata.get("issuer", "")]
        with self._database.write() as connection:
            connection.execute(delete(ROW).where(ROW.c.expires < micros()))
            self._keep(connection, state, ehr, kept, micros() + SECONDS * 1_000_000)
        url: str = prepare_grant_uri(
            metadata["authorization_endpoint"], ehr.client_id, "code", redirect_uri=self.back, scope=ehr.scope, state=state, nonce=nonce,
            aud=ehr.issuer, launch=launch, code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256",
        )  # fmt: skip
        return url

    def finish(self, parameters: Sequence[tuple[str, str]]) -> Launched:
        """What came back. The state is used up whatever happens.

        Raises `Gone` for a state that is over, `Forbidden` where the EHR did not allow it or it is not as it should be, `NotFound` for a patient of whom there
        is nothing here, `Unavailable` where the EHR does not answer.
        """
        given = dict(parameters)
        ehr, kept = self._kept(given.get("state", ""))
        if len(given) != len(parameters):
            raise Forbidden(WRONG)
        if "error" in given or "code" not in given:
            raise Forbidden(DENIED)
        verifier, nonce, token_endpoint, jwks_uri, issuer = kept
        if given.get("iss", issuer) != issuer:  # RFC 9207
            raise Forbidden(WRONG)
        form = {"grant_type": "authorization_code", "code": given["code"], "redirect_uri": self.back, "code_verifier": verifier}
        tokens = self._tokens(ehr, token_endpoint, form)
        user = self._user(ehr, tokens, jwks_uri, issuer, nonce)
        patient, named = self._patient(ehr, tokens), tuple(self._studies(ehr, tokens))
        if ehr.is_here:
            grant = self._own.decide(str(tokens["access_token"])).grant
            return Launched(ehr, patient, named, user, _until(tokens), grant=grant)
        return Launched(ehr, patient, named, user, _until(tokens), _refresh_token(tokens), token_endpoint)

    def remember(self, connection: Connection, launched: Launched, grant: str) -> None:
        """By what the grant is prolonged, where the EHR gave a refresh token."""
        if launched.refresh:
            until = micros() + self._settings.session_seconds * 1_000_000
            self._keep(connection, grant, launched.ehr, [launched.refresh, launched.token_endpoint, str(until)], until, grant)

    def prolong(self, grant: str) -> None:
        """Asks the EHR whether the viewing may go on, where it is about to end, until the time of a session is over. An EHR that says no lets it end."""
        with self._database.read() as connection:
            granted = granting.find(connection, grant)
        if granted is None or LAUNCH not in granted.context or granted.expires > micros() + _EARLY * 1_000_000:
            return
        try:
            ehr, kept = self._kept(grant)
        except Gone:  # another request of the page asks just now, or there is nothing to ask with
            return
        refresh, token_endpoint, until = kept
        tokens: Mapping[str, Any] = {}
        try:
            tokens = self._tokens(ehr, token_endpoint, {"grant_type": "refresh_token", "refresh_token": refresh})
        except Forbidden:
            return
        except ImageShareError:  # it does not answer: it may the next time
            pass
        with self._database.write() as connection:
            if tokens:
                granting.extend(connection, grant, min(_until(tokens), int(until)))
            self._keep(connection, grant, ehr, [_refresh_token(tokens) or refresh, token_endpoint, until], int(until), grant)

    # --- what is kept meanwhile

    def _keep(self, connection: Connection, name: str, ehr: Ehr, value: list[str], expires: int, grant: str = "") -> None:
        hashed = _hash(name)
        row = {
            "hash": hashed,
            "issuer": ehr.issuer,
            "sealed": sealed.seal(self._key, _PURPOSE, value, (hashed,)),
            "grant": grant,
            "expires": expires,
        }
        connection.execute(ROW.insert().values(row))

    def _kept(self, name: str) -> tuple[Ehr, list[str]]:
        """The EHR and what was kept under this name, once. Raises `Gone`."""
        hashed = _hash(name)
        with self._database.write() as connection:
            row = connection.execute(delete(ROW).where(ROW.c.hash == hashed).returning(ROW)).first()
        found = sealed.unseal(self._key, _PURPOSE, row.sealed, (hashed,)) if row is not None and row.expires > micros() else None
        ehr = self._ehrs.get(row.issuer.rstrip("/")) if row is not None else None
        if not isinstance(found, list) or ehr is None:
            raise Gone(OVER)
        return ehr, found

    # --- what the EHR says

    def _metadata(self, ehr: Ehr) -> Mapping[str, Any]:
        """SMART App Launch 2.2, section "Conformance": where its endpoints are."""
        metadata = self._fetching.json(f"{ehr.issuer.rstrip('/')}/.well-known/smart-configuration")
        if not all(isinstance(metadata.get(name), str) for name in ("authorization_endpoint", "token_endpoint")):
            raise Unavailable(WRONG)
        return metadata

    def _tokens(self, ehr: Ehr, endpoint: str, form: dict[str, str]) -> Mapping[str, Any]:
        """RFC 6749 section 4.1.3 and 6, as a client with a secret or without."""
        headers: dict[str, str] = {}
        if ehr.client_secret is not None:
            pair = f"{quote_plus(ehr.client_id)}:{quote_plus(ehr.client_secret.get_secret_value())}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = {**form, "client_id": ehr.client_id}
        status, tokens = self._fetching.post(endpoint, form, headers)
        if status in (400, 401, 403):
            raise Forbidden(DENIED)
        if (
            status != 200
            or not isinstance(tokens.get("access_token"), str)
            or str(tokens.get("token_type", "")).lower() != "bearer"
        ):
            raise Unavailable(WRONG)
        return tokens

    def _user(self, ehr: Ehr, tokens: Mapping[str, Any], jwks_uri: str, issuer: str, nonce: str) -> str:
        """OpenID Connect Core 1.0 section 3.1.3.7: who looks, as the EHR names them; empty where it was not asked."""
        if "openid" not in ehr.scope.split():
            return ""
        try:
            header, claims = self._keys.verified(str(tokens.get("id_token", "")), jwks_uri, _ALGORITHMS)
            wanted = {"iss": {"value": issuer}, "aud": {"value": ehr.client_id}}
            bound = {"nonce": nonce, "client_id": ehr.client_id, "access_token": tokens.get("access_token")}
            CodeIDToken(claims, header, wanted, bound).validate(leeway=LEEWAY)
        except (Unauthenticated, JoseError, ValueError, TypeError):
            raise Forbidden(WRONG) from None
        return str(claims.get("fhirUser") or claims.get("sub", ""))[:200]

    def _patient(self, ehr: Ehr, tokens: Mapping[str, Any]) -> str:
        """The patient of ours whom the launch context means."""
        context = tokens.get("patient")
        if not isinstance(context, str) or not context:
            raise Forbidden(NOBODY)
        system = ehr.patient_system or f"urn:oid:{ehr.patient_authority}"
        value = "" if ehr.is_here else identified(self._read(ehr, tokens, "Patient", context), context, system)
        with self._database.read() as connection:
            found = context if ehr.is_here else None
            if value:
                found = identities.by_identity(connection, "Patient", f"urn:oid:{ehr.patient_authority}", value)
            if found is None:
                raise NotFound(NO_PATIENT)
            return belonging.replaced_by(connection, found) or found

    def _studies(self, ehr: Ehr, tokens: Mapping[str, Any]) -> Iterator[str]:
        """SMART App Launch 2.2, `fhirContext`: the ImagingStudies in it, by UID where the EHR's own can be read, by id where they are ours."""
        context = tokens.get("fhirContext")
        for each in context[:20] if isinstance(context, list) else ():
            if not isinstance(each, dict):
                continue
            identifier = each.get("identifier")
            if isinstance(identifier, dict) and identifier.get("system") == DICOM_UID_SYSTEM:
                yield str(identifier.get("value", "")).removeprefix("urn:oid:")
            reference = str(each.get("reference", ""))
            is_ours = ehr.is_here or reference.startswith(f"{self._fhir}/")
            target = parse_reference(reference.removeprefix(f"{self._fhir}/").removeprefix(f"{ehr.issuer.rstrip('/')}/"))
            if target.type == "ImagingStudy" and target.id:
                yield from (target.id,) if is_ours else self._uids(ehr, tokens, target.id)

    def _uids(self, ehr: Ehr, tokens: Mapping[str, Any], id_: str) -> Iterator[str]:
        try:
            held = self._read(ehr, tokens, "ImagingStudy", id_).get("identifier")
        except NotFound:  # the scopes do not reach it: all studies are offered
            return
        for each in held if isinstance(held, list) else ():
            if isinstance(each, dict) and each.get("system") == DICOM_UID_SYSTEM:
                yield str(each.get("value", "")).removeprefix("urn:oid:")

    def _read(self, ehr: Ehr, tokens: Mapping[str, Any], type_: str, id_: str) -> Mapping[str, Any]:
        url = f"{ehr.issuer.rstrip('/')}/{type_}/{quote(id_, safe='')}"
        status, found = self._fetching.get(
            url, {"Authorization": f"Bearer {tokens['access_token']}", "Accept": "application/fhir+json"}
        )
        if status in (401, 403, 404, 410):
            raise NotFound(NO_PATIENT)
        if status != 200:
            raise Unavailable(WRONG)
        return found


def _until(tokens: Mapping[str, Any]) -> int:
    seconds = tokens.get("expires_in")
    lives = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds <= 86_400 else 3600
    return int((time.time() + lives) * 1_000_000)


def _refresh_token(tokens: Mapping[str, Any]) -> str:
    found = tokens.get("refresh_token")
    return found if isinstance(found, str) and len(found) <= _MOST_REFRESH else ""


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
