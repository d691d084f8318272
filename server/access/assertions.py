"""SAML assertions about users (IHE XUA, ITI TF-2 section 3.40): whether one is believed, and the Decision behind it.

An assertion is believed that one of `trusted_assertions` has signed with a certificate of the settings, which are pinned: no chain is built, and
keys in the message are not looked at. Only what the verifier gives back as signed is read. Then its conditions have to hold here and now. It never
opens more than the settings let its issuer's assertions open, and with a patient's resource-id that patient's records alone.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from lxml import etree
from lxml.etree import _Element
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier
from sqlalchemy import Connection

from ihe import xua
from ihe.xua import Assertion, TokenRefused
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.smart.scopes import parse_scopes
from server import files
from server.access import purposes, roles
from server.access.consents import withheld
from server.access.decisions import Asserted, Decision
from server.records import belonging, identities, practitioners
from server.settings import Settings, TrustedAssertions
from server.store.db import Database, insert, micros
from server.store.tables import AssertionId

_USED: Final = AssertionId.__table__  # type: ignore[attr-defined]
_LONGEST: Final = 65_536
"""Bytes of an assertion; real ones have less than 10,000."""
_REMEMBERED: Final = 4096
_SECOND: Final = 1_000_000
_WEAK: Final = ("SHA1", "MD5", "RIPEMD", "SHA224")
_METHODS: Final = frozenset(
    each for each in SignatureMethod if not any(weak in each.name for weak in _WEAK) and not each.name.startswith(("HMAC", "DSA"))
)
_DIGESTS: Final = frozenset(each for each in DigestAlgorithm if not any(weak in each.name for weak in _WEAK))


@dataclass(frozen=True, slots=True)
class Issuer:
    trusted: TrustedAssertions
    certificates: tuple[x509.Certificate, ...]


def issuers(settings: Settings) -> Mapping[str, Issuer]:
    """Those of `trusted_assertions`, by their names. Raises `SettingsError` for a certificate that cannot be read."""
    return {
        each.issuer: Issuer(each, files.certificates(each.certificates, f"trusted_assertions.{each.issuer}.certificates"))
        for each in settings.trusted_assertions
    }


class Assertions:
    """The assertions of `trusted_assertions`, in one process. Raises `SettingsError` for a certificate that cannot be read."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._issuers = issuers(settings)
        base = settings.base_url
        self._own = frozenset((base, *(f"{base}/xds/{name}" for name in ("registry", "repository", "imaging-source"))))
        self._permits = settings.consent_default == "permit"
        self._verified: dict[bytes, Assertion] = {}

    @property
    def are_taken(self) -> bool:
        """Whether there is anybody whose assertions are believed."""
        return bool(self._issuers)

    def verified(self, token: _Element) -> Assertion:
        """ITI TF-2 section 3.40.4.1.3: the assertion, if it is believed and holds now. Raises `TokenRefused`.

        Until its signature is verified nothing is told but that it is refused.
        """
        data = etree.tostring(token, with_tail=False)
        found = self._issuers.get(xua.issuer(token))
        if found is None or len(data) > _LONGEST:
            raise TokenRefused("FailedAuthentication", "the assertion is of an issuer that is not trusted, or too long")
        digest = hashlib.sha256(data).digest()
        assertion = self._verified.get(digest)
        if assertion is None:
            assertion = xua.read(_signed(data, found))
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[digest] = assertion
        if assertion.issuer != found.trusted.issuer:
            raise TokenRefused("FailedAuthentication", "the assertion is signed by another issuer than it names")
        _require_conditions(assertion, found.trusted, found.trusted.audience or self._own)
        if found.trusted.once:
            self._use(assertion, found.trusted)
        return assertion

    def decision(self, connection: Connection, assertion: Assertion) -> Decision:
        """The Decision for a verified assertion: the scopes of its issuer's settings, of the patient of its resource-id where it has one.

        The user is a Practitioner here where an identifier says so; of others it is not known by what a Consent could name them.
        """
        trusted = self._issuers[assertion.issuer].trusted
        user = _practitioner(connection, assertion, trusted)
        actors, _ = roles.actors(connection, user, micros())
        meant = purposes.of(assertion.purposes, trusted.purposes)
        patient, reach = _confined(connection, assertion, trusted)
        return Decision(
            subject=assertion.issuer,
            scopes=parse_scopes(trusted.scope),
            patient=patient,
            token_id=assertion.id,
            user=user,
            reach=reach,
            actors=actors,
            purposes=meant,
            issuer=assertion.issuer,
            asserted=Asserted(assertion.name_id, assertion.issuer, assertion.user_name),
            writes=frozenset(),
            withheld=withheld(
                connection, user=user, actors=actors, purposes=meant, patients=reach, permits=self._permits, is_unknown=not user
            ),
        )  # fmt: skip

    def _use(self, assertion: Assertion, trusted: TrustedAssertions) -> None:
        """SAML 2.0 core section 2.5.1.5: once. Raises `TokenRefused` where it was used before."""
        until = assertion.not_on_or_after + timedelta(seconds=trusted.clock_skew)
        row = {"client": assertion.issuer, "jti": assertion.id, "expires": int(until.timestamp()) * _SECOND}
        with self._database.write() as connection:
            made = insert(connection, _USED).values(row).on_conflict_do_nothing().returning(_USED.c.jti)
            if connection.execute(made).first() is None:
                raise _refused("it was used before, and is good for one request")


def _signed(data: bytes, issuer: Issuer) -> _Element:
    """What was signed, by one of the issuer's certificates. Raises `TokenRefused`, for strangers always in the same words."""
    token = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    if fault := xua.signature_faults(token):
        raise TokenRefused("FailedAuthentication", fault)
    for key_info in token.findall(f"{{{xua.DS}}}Signature/{{{xua.DS}}}KeyInfo"):  # not signed, and keys are not taken from there
        parent = key_info.getparent()
        assert parent is not None
        parent.remove(key_info)
    for certificate in issuer.certificates:
        if (signed := _by(token, certificate, sha1=issuer.trusted.sha1)) is not None and signed.get("ID") == token.get("ID"):
            return signed
    raise TokenRefused(
        "FailedAuthentication", "the signature is not that of a certificate of its issuer, or by an algorithm that is not taken"
    )


def _by(token: _Element, certificate: x509.Certificate, *, sha1: bool) -> _Element | None:
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=_METHODS | ({SignatureMethod.RSA_SHA1} if sha1 else set()),
        digest_algorithms=_DIGESTS | ({DigestAlgorithm.SHA1} if sha1 else set()),
    )
    try:
        result = XMLVerifier().verify(token, x509_cert=certificate, id_attribute="ID", expect_config=expected)
    except Exception:  # noqa: BLE001 (whatever it is, such as a key of another kind, it is not verified)
        return None
    return None if isinstance(result, list) else result.signed_xml


def _require_conditions(assertion: Assertion, trusted: TrustedAssertions, audience: frozenset[str]) -> None:
    """SAML 2.0 core sections 2.5.1 and 2.7.2. The signer is known by now and may read what is wrong. Raises `TokenRefused`."""
    now, skew = datetime.fromtimestamp(time.time(), UTC), timedelta(seconds=trusted.clock_skew)
    ends = (assertion.not_on_or_after, assertion.confirmed_until, assertion.session_until)
    if any(end is not None and end + skew <= now for end in ends):
        raise _refused("it has expired")
    if any(begins - skew > now for begins in (assertion.not_before, assertion.issued, assertion.authenticated)):
        raise _refused("it is not valid yet")
    if assertion.issued + timedelta(seconds=trusted.lifetime) + skew <= now:
        raise _refused("it was issued too long ago: such assertions are not taken for so long")
    plain = frozenset(each.rstrip("/") for each in audience)
    if not all(plain & {each.rstrip("/") for each in named} for named in assertion.audiences):
        raise _refused("its audience is not this server")
    if trusted.authn_contexts and assertion.authn_context not in trusted.authn_contexts:
        raise _refused("its user was authenticated in a way that is not enough here")


def _confined(
    connection: Connection, assertion: Assertion, trusted: TrustedAssertions
) -> tuple[str | None, frozenset[str] | None]:
    """The patient of the resource-id, and whom the assertion reaches: nobody where it names somebody unknown, or two people; None: everybody."""
    if trusted.resource_id == "ignored" or not assertion.resource_ids:
        return None, None
    found = {_patient(connection, each, trusted) for each in assertion.resource_ids}
    patient = found.pop() if len(found) == 1 else None
    return patient, frozenset([patient] if patient else ())


def _patient(connection: Connection, resource_id: str, trusted: TrustedAssertions) -> str | None:
    """ITI TF-2 section 3.40.4.1.2.2.1: CX, or a bare identifier of `patient_authority`."""
    authority, value = trusted.patient_authority or "", resource_id
    if "^" in resource_id:
        try:
            named = PatientIdentifier.from_cx(resource_id)
        except InvalidIdentifier:
            return None
        authority, value = named.authority.oid, named.value
    found = identities.by_identity(connection, "Patient", f"urn:oid:{authority}", value) if authority else None
    return found and (belonging.replaced_by(connection, found) or found)


def _practitioner(connection: Connection, assertion: Assertion, trusted: TrustedAssertions) -> str:
    """The reference of the one Practitioner who has the user's identifiers, empty where there is none, or several."""
    named = [(f"urn:oid:{root}" if root else practitioners.NPI, value) for root, value in assertion.provider_ids]
    if trusted.practitioner_system:
        named.append((trusted.practitioner_system, assertion.name_id))
    found = {id_ for system, value in named for id_ in practitioners.identified(connection, system, value)}
    return f"Practitioner/{found.pop()}" if len(found) == 1 else ""


def _refused(why: str) -> TokenRefused:
    return TokenRefused("InvalidSecurityToken", f"the assertion does not hold: {why}", f"the assertion does not hold: {why}")
