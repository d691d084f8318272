"""Provide X-User Assertion (ITI-40): a SAML 2.0 assertion in the wsse:Security header of a SOAP message, as a value.

ITI TF-2 section 3.40.4.1.2. `token` finds the one assertion of a header, `signature_faults` says whether its signature has the one shape that
is taken (SAML 2.0 core section 5.4), `read` makes a value of what the verifier says was signed, and of nothing else. Keys, clocks and trust are
the caller's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lxml import etree
from lxml.etree import _Element

from ihe.soap import SoapFault
from profiles.document import Code

SAML: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
DS: Final = "http://www.w3.org/2000/09/xmldsig#"
WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
ASSERTION: Final = f"{{{SAML}}}Assertion"
BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED: Final = f"{DS}enveloped-signature"

# ITI TF-2 section 3.40.4.1.2: names of attributes
SUBJECT_ID: Final = "urn:oasis:names:tc:xspa:1.0:subject:subject-id"
ORGANIZATION: Final = "urn:oasis:names:tc:xspa:1.0:subject:organization"
ORGANIZATION_ID: Final = "urn:oasis:names:tc:xspa:1.0:subject:organization-id"
HOME_COMMUNITY_ID: Final = "urn:ihe:iti:xca:2010:homeCommunityId"
NHIN_HOME_COMMUNITY_ID: Final = "urn:nhin:names:saml:homeCommunityId"
"""What many send instead."""
NPI: Final = "urn:oasis:names:tc:xspa:1.0:subject:npi"
PROVIDER_IDENTIFIER: Final = "urn:ihe:iti:xua:2017:subject:provider-identifier"
ROLE: Final = "urn:oasis:names:tc:xacml:2.0:subject:role"
PURPOSE_OF_USE: Final = "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse"
RESOURCE_ID: Final = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"
CONSENT_DOCUMENT: Final = "urn:ihe:iti:bppc:2007:docid"
PRIVACY_POLICY: Final = "urn:ihe:iti:xua:2012:acp"

_WSU: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_HL7: Final = "urn:hl7-org:v3"
_PARTS: Final = frozenset(f"{{{DS}}}{name}" for name in ("SignedInfo", "SignatureValue", "KeyInfo"))
"""What a signature consists of; an Object would be content that nobody asked for."""
_CONDITIONS: Final = frozenset(f"{{{SAML}}}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction"))
"""ITI TF-2 section 3.40.4.1.2: the first has to hold, the others may be ignored. One that is not known cannot be said to hold."""
_CODED: Final[Mapping[str, tuple[str, ...]]] = {ROLE: ("Role",), PURPOSE_OF_USE: ("PurposeOfUse", "PurposeForUse")}
"""The element of the v3 namespace that has the code; the second name is that of older NHIN specifications."""
_ID_ATTRIBUTES: Final = frozenset({"id", "assertionid"})
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")
_LONGEST: Final = 1024
_STRANGE: Final = "the security token could not be authenticated or authorized"


class TokenRefused(SoapFault):
    """WS-Security 1.1 section 12: the Security header is refused. `subcode` is a local name of wsse; the fault says no more than `reason`.

    `why` is for the trail: what was wrong, without a word of the token.
    """

    def __init__(self, subcode: str, why: str, reason: str = _STRANGE) -> None:
        super().__init__("Sender", reason, f"{{{WSSE}}}{subcode}")
        self.why = why


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a signed assertion says. Moments have a zone. `audiences` has the URIs of each AudienceRestriction; all of these must hold.

    `confirmed_until` is the end of the bearer's confirmation where that has one. `roles`, `purposes` are of the schemes that they name (OIDs),
    `provider_ids` pairs of authority (empty: an NPI) and identifier, `resource_ids` CX, or what somebody else understands (an HL7 II is empty here), `policies` URIs of consent documents and privacy policies.
    """

    id: str
    issuer: str
    name_id: str
    alias: str
    issued: datetime
    not_before: datetime
    not_on_or_after: datetime
    confirmed_until: datetime | None
    audiences: tuple[frozenset[str], ...]
    authenticated: datetime
    session_until: datetime | None
    authn_context: str
    subject_name: str = ""
    organization: str = ""
    organization_id: str = ""
    home_community_id: str = ""
    roles: tuple[Code, ...] = ()
    purposes: tuple[Code, ...] = ()
    provider_ids: tuple[tuple[str, str], ...] = ()
    resource_ids: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()

    @property
    def user_name(self) -> str:
        """ITI TF-2 section 3.40.4.2: how audit messages call the user, `alias<user@issuer>`."""
        return f"{self.alias}<{self.name_id}@{self.issuer}>"


def token(security: _Element) -> _Element | None:
    """WSS SAML Token Profile 1.1 section 3.4: the one assertion of a Security header; None where the header has none at all.

    An assertion anywhere else in the header, or a second one, is refused: which of them was meant nobody could tell. Raises `TokenRefused`.
    """
    found = [each for each in security if each.tag == ASSERTION]
    within = sum(1 for each in security.iter(ASSERTION)) - sum(1 for top in found for _ in top.iter(ASSERTION))
    if len(found) > 1 or within:
        raise TokenRefused("InvalidSecurity", "the Security header has more than one assertion, or one where none belongs")
    if not found and any(each.tag != f"{{{_WSU}}}Timestamp" for each in security):
        raise TokenRefused("UnsupportedSecurityToken", "the security token is no SAML 2.0 assertion")
    return found[0] if found else None


def issuer(assertion: _Element) -> str:
    """Who an assertion says has made it. It is a claim, good for choosing a key and for nothing else."""
    return _text(assertion.find(f"{{{SAML}}}Issuer"))


def signature_faults(assertion: _Element) -> str:
    """SAML 2.0 core section 5.4: what is wrong with the shape of an assertion's signature, in words for the trail; empty where nothing is.

    One enveloped signature, a child of the assertion, with one Reference, to the assertion's own ID, which nothing else has; exclusive
    canonicalization and no other transform. Whether the signature is right is not looked at.
    """
    signatures = assertion.findall(f"{{{DS}}}Signature")
    if len(signatures) != 1:
        return "the assertion is not signed" if not signatures else "the assertion has several signatures"
    (signature,) = signatures
    own = assertion.get("ID", "")
    if not own or sum(1 for value in _ids(assertion) if value == own) != 1:
        return "the assertion has no ID of its own"
    if any(each.tag not in _PARTS for each in signature):
        return "the signature has parts that it may not have"
    references = signature.findall(f"{{{DS}}}SignedInfo/{{{DS}}}Reference")
    if len(references) != 1 or references[0].get("URI") != f"#{own}":
        return "the signature is not over this assertion"
    canonical = signature.find(f"{{{DS}}}SignedInfo/{{{DS}}}CanonicalizationMethod")
    transforms = [each.get("Algorithm") for each in references[0].iterfind(f"{{{DS}}}Transforms/{{{DS}}}Transform")]
    if canonical is None or canonical.get("Algorithm") != EXCLUSIVE_C14N or transforms != [ENVELOPED, EXCLUSIVE_C14N]:
        return "the signature is made by transforms that are not taken"
    return ""


def read(signed: _Element) -> Assertion:
    """ITI TF-2 section 3.40.4.1.2: the value of an assertion whose signature is verified: `signed` is what was signed. Raises `TokenRefused`."""
    if signed.tag != ASSERTION or signed.get("Version") != "2.0":
        raise _invalid("it is no SAML 2.0 assertion")
    conditions = _one(signed, "Conditions")
    alias, name_id, confirmed_until = _subject(_one(signed, "Subject"))
    authenticated, session_until, authn_context = _authentication(signed)
    values: dict[str, list[_Element]] = {}
    for attribute in signed.iterfind(f"{{{SAML}}}AttributeStatement/{{{SAML}}}Attribute"):
        values.setdefault(attribute.get("Name", ""), []).extend(attribute.iterfind(f"{{{SAML}}}AttributeValue"))
    first = {name: _text(found[0]) for name, found in values.items() if found}
    return Assertion(
        id=_bounded(signed.get("ID", ""), "ID"),
        issuer=_bounded(issuer(signed), "Issuer"),
        name_id=name_id,
        alias=alias,
        issued=_moment(signed, "IssueInstant"),
        not_before=_moment(conditions, "NotBefore"),
        not_on_or_after=_moment(conditions, "NotOnOrAfter"),
        confirmed_until=confirmed_until,
        audiences=tuple(_audiences(conditions)),
        authenticated=authenticated,
        session_until=session_until,
        authn_context=authn_context,
        subject_name=first.get(SUBJECT_ID, ""),
        organization=first.get(ORGANIZATION, ""),
        organization_id=first.get(ORGANIZATION_ID, ""),
        home_community_id=first.get(HOME_COMMUNITY_ID, first.get(NHIN_HOME_COMMUNITY_ID, "")),
        roles=tuple(_codes(values, ROLE)),
        purposes=tuple(_codes(values, PURPOSE_OF_USE)),
        provider_ids=tuple(_provider_ids(values)),
        resource_ids=tuple(_text(value) for value in values.get(RESOURCE_ID, ())) or (("",) if RESOURCE_ID in values else ()),
        policies=(*_texts(values, CONSENT_DOCUMENT), *_texts(values, PRIVACY_POLICY)),
    )


def _subject(subject: _Element) -> tuple[str, str, datetime | None]:
    """SAML 2.0 core section 2.4.1: alias and name of the subject, and until when a bearer is confirmed."""
    name = _one(subject, "NameID")
    bearers = [each for each in subject.iterfind(f"{{{SAML}}}SubjectConfirmation") if each.get("Method") == BEARER]
    if not bearers:
        raise _invalid("it has no SubjectConfirmation by the method bearer, the only one that is taken")
    ends = [_optional_moment(each, "NotOnOrAfter") for each in bearers[0].iterfind(f"{{{SAML}}}SubjectConfirmationData")]
    alias = name.get("SPProvidedID", "")
    return alias[:_LONGEST], _bounded(_text(name), "NameID"), next(iter(ends), None)


def _authentication(signed: _Element) -> tuple[datetime, datetime | None, str]:
    """When the subject was authenticated, until when that holds, and how: the AuthnContextClassRef, or the AuthnContextDeclRef."""
    statements = signed.findall(f"{{{SAML}}}AuthnStatement")
    if not statements:
        raise _invalid("it has no AuthnStatement (ITI TF-2 section 3.40.4.1.2)")
    contexts = [
        _text(found)
        for name in ("AuthnContextClassRef", "AuthnContextDeclRef")
        for found in statements[0].iterfind(f"{{{SAML}}}AuthnContext/{{{SAML}}}{name}")
    ]
    if not any(contexts) or any(":" not in each or " " in each for each in contexts):
        raise _invalid("its AuthnStatement has no AuthnContextClassRef or AuthnContextDeclRef that is a URI")
    return _moment(statements[0], "AuthnInstant"), _optional_moment(statements[0], "SessionNotOnOrAfter"), contexts[0]


def _audiences(conditions: _Element) -> Iterator[frozenset[str]]:
    """SAML 2.0 core section 2.5.1.4 with erratum E46: of each restriction one audience has to be meant, of several all have to hold."""
    found = conditions.findall(f"{{{SAML}}}AudienceRestriction")
    if any(each.tag not in _CONDITIONS for each in conditions):
        raise _invalid("it has a condition that is not known here")
    if not found:
        raise _invalid("its Conditions have no AudienceRestriction (ITI TF-2 section 3.40.4.1.2)")
    for restriction in found:
        yield frozenset(_text(each) for each in restriction.iterfind(f"{{{SAML}}}Audience")) - {""}


def _codes(values: Mapping[str, list[_Element]], attribute: str) -> Iterator[Code]:
    """ITI TF-2 sections 3.40.4.1.2.1 and 3.40.4.1.2.3: elements of type CE. What is something else is no value of the attribute."""
    for value in values.get(attribute, ()):
        for name in _CODED[attribute]:
            for found in value.iterfind(f"{{{_HL7}}}{name}"):
                if found.get("code") and found.get("codeSystem"):
                    yield Code(found.get("code", ""), found.get("codeSystem", ""), found.get("displayName", ""))


def _provider_ids(values: Mapping[str, list[_Element]]) -> Iterator[tuple[str, str]]:
    for each in _texts(values, NPI):
        yield "", each
    for value in values.get(PROVIDER_IDENTIFIER, ()):
        for found in value.iterfind(f"{{{_HL7}}}id"):
            if found.get("root") and found.get("extension"):
                yield found.get("root", ""), found.get("extension", "")


def _texts(values: Mapping[str, list[_Element]], attribute: str) -> Iterator[str]:
    return (text for value in values.get(attribute, ()) if (text := _text(value)))


def _ids(root: _Element) -> Iterator[str]:
    """The values of all attributes that anybody could take for an ID."""
    for element in root.iter(etree.Element):
        for name, value in element.attrib.items():
            if etree.QName(name).localname.lower() in _ID_ATTRIBUTES:
                yield str(value)


def _one(parent: _Element, name: str) -> _Element:
    found = parent.findall(f"{{{SAML}}}{name}")
    if len(found) != 1:
        raise _invalid(f"it has {len(found)} elements {name} where one belongs")
    return found[0]


def _moment(element: _Element, attribute: str) -> datetime:
    found = _optional_moment(element, attribute)
    if found is None:
        raise _invalid(f"it has no {attribute}")
    return found


def _optional_moment(element: _Element, attribute: str) -> datetime | None:
    """XML Schema dateTime; SAML 2.0 core section 1.3.3 has UTC where no zone is said. Raises `TokenRefused` for what is none."""
    text = element.get(attribute)
    if text is None:
        return None
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError(attribute)
        whole = datetime.fromisoformat(f"{found[1]}.{(found[2] or '0')[:6]:0<6}{(found[3] or 'Z').replace('Z', '+00:00')}")
        return whole.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid(f"its {attribute} is no date and time") from None


def _text(element: _Element | None) -> str:
    """The whole text, comments or not: half a name is another name."""
    return "" if element is None else "".join(str(part) for part in element.itertext(etree.Element)).strip()


def _bounded(text: str, name: str) -> str:
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        raise _invalid(f"its {name} is missing, too long or not printable")
    return text


def _invalid(why: str) -> TokenRefused:
    return TokenRefused("InvalidSecurityToken", f"the assertion is not valid: {why}", f"the assertion is not valid: {why}")
