"""An X-Assertion Provider of a test: SAML 2.0 assertions about users, good ones and others, and messages that carry them."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from lxml import etree
from lxml.etree import _Element
from peers.authority import Authority, Key
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

from ihe import xua
from ihe.xua import SAML

ISSUER: Final = "https://idp.partner.example.org"
AUDIENCE: Final = "https://images.example.org/xds"
PASSWORD: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
TREATMENT: Final = (
    '<PurposeOfUse xmlns="urn:hl7-org:v3" code="TREATMENT" codeSystem="2.16.840.1.113883.3.18.7.1" displayName="Treatment"/>'
)
PHYSICIAN: Final = '<Role xmlns="urn:hl7-org:v3" code="309343006" codeSystem="2.16.840.1.113883.6.96" displayName="Physician"/>'
NOW: Final = dt.timedelta()


def moment(offset: dt.timedelta, now: dt.datetime | None = None) -> str:
    return ((now or dt.datetime.now(dt.UTC)) + offset).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def seconds(number: float) -> dt.timedelta:
    return dt.timedelta(seconds=number)


def assertion(
    *,
    id_: str = "_a1",
    issuer: str = ISSUER,
    name_id: str = "dr.house",
    issued: dt.timedelta = NOW,
    not_before: dt.timedelta = NOW,
    until: dt.timedelta = seconds(300),
    audience: Sequence[str] = (AUDIENCE,),
    authn: str | None = None,
    attributes: Mapping[str, Sequence[str]] = {},
    more: str = "",
    confirmation: str = xua.BEARER,
    confirmed: str = "",
) -> bytes:
    """Without a signature. `attributes` are names with their values, as XML; `more` is XML at the end, `authn` replaces the AuthnStatement."""
    now = dt.datetime.now(dt.UTC)
    if authn is None:
        authn = (
            f'<s:AuthnStatement AuthnInstant="{moment(issued, now)}"><s:AuthnContext><s:AuthnContextClassRef>{PASSWORD}'
            "</s:AuthnContextClassRef></s:AuthnContext></s:AuthnStatement>"
        )
    held = {xua.SUBJECT_ID: ["Gregory House"], xua.PURPOSE_OF_USE: [TREATMENT], xua.ROLE: [PHYSICIAN], **attributes}
    said = "".join(
        f'<s:Attribute Name="{name}">'
        + "".join(f"<s:AttributeValue>{each}</s:AttributeValue>" for each in values)
        + "</s:Attribute>"
        for name, values in held.items()
    )
    audiences = "".join(f"<s:Audience>{each}</s:Audience>" for each in audience)
    return (
        f'<s:Assertion xmlns:s="{SAML}" ID="{id_}" Version="2.0" IssueInstant="{moment(issued, now)}"><s:Issuer>{issuer}</s:Issuer>'
        f'<s:Subject><s:NameID SPProvidedID="GH">{name_id}</s:NameID><s:SubjectConfirmation Method="{confirmation}">{confirmed}'
        f'</s:SubjectConfirmation></s:Subject><s:Conditions NotBefore="{moment(not_before, now)}" NotOnOrAfter="{moment(until, now)}">'
        f"<s:AudienceRestriction>{audiences}</s:AudienceRestriction></s:Conditions>{authn}"
        f"<s:AttributeStatement>{said}</s:AttributeStatement>{more}</s:Assertion>"
    ).encode()


class Provider:
    """Signs with a key of its own; `certificate` is the PEM file that who trusts it has."""

    def __init__(self, folder: Path, name: str = "provider", key: Key | None = None) -> None:
        self._authority = Authority(folder, name)
        self.certificate, key_file = self._authority.issue(name, key)
        self._key = key_file.read_bytes()

    @property
    def key(self) -> Key:
        loaded = serialization.load_pem_private_key(self._key, None)
        assert not isinstance(loaded, bytes)
        return loaded  # type: ignore[return-value]

    def sign(
        self,
        unsigned: bytes,
        *,
        method: SignatureMethod = SignatureMethod.RSA_SHA256,
        digest: DigestAlgorithm = DigestAlgorithm.SHA256,
        c14n: CanonicalizationMethod = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        reference: str = "",
    ) -> bytes:
        """An enveloped signature, after the Issuer, where SAML has it."""
        root = etree.fromstring(unsigned)
        signer = _Signer(SignatureConstructionMethod.enveloped, method, digest, c14n)
        place = etree.SubElement(root, f"{{{xua.DS}}}Signature", Id="placeholder", nsmap={"ds": xua.DS})
        root.insert(1, place)
        signed = signer.sign(
            root,
            key=self._key,
            cert=self.certificate.read_text(),
            reference_uri=reference or str(root.get("ID")),
            id_attribute="ID",
        )
        return etree.tostring(signed)


class _Signer(XMLSigner):
    """Weak algorithms too: they are what is to be refused."""

    def check_deprecated_methods(self) -> None:
        return


def with_security(message: bytes, *tokens: bytes, must_understand: bool = True) -> bytes:
    """The SOAP message with a Security header that has these tokens."""
    needed = ' xmlns:m="http://www.w3.org/2003/05/soap-envelope" m:mustUnderstand="1"' if must_understand else ""
    header = f'<w:Security xmlns:w="{xua.WSSE}"{needed}>'.encode() + b"".join(tokens) + b"</w:Security>"
    return message.replace(b"</env:Header>", header + b"</env:Header>", 1)


def changed(signed: bytes, change: Callable[[_Element], object]) -> bytes:
    """What became of a signed assertion in somebody's hands."""
    root = etree.fromstring(signed)
    change(root)
    return etree.tostring(root)
