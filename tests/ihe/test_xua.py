"""Assertions as values: what ITI TF-2 section 3.40.4.1.2 asks for, and which headers and shapes of signatures are none."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import _Element
from peers import saml
from peers.saml import Provider, assertion, changed

from ihe import soap, xml, xua
from ihe.xua import DS, SAML, WSSE, TokenRefused
from profiles.document import Code

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")


def read(data: bytes) -> xua.Assertion:
    return xua.read(xml.parse(data, 1 << 20))


def security(*tokens: bytes) -> _Element:
    return xml.parse(b'<w:Security xmlns:w="' + WSSE.encode() + b'">' + b"".join(tokens) + b"</w:Security>", 1 << 20)


def test_everything_that_an_assertion_says_is_read() -> None:
    attributes = {
        xua.ORGANIZATION: ["Clinic"],
        xua.ORGANIZATION_ID: ["urn:oid:1.2.3"],
        xua.HOME_COMMUNITY_ID: ["urn:oid:1.2.4"],
        xua.NPI: ["1234567890"],
        xua.PROVIDER_IDENTIFIER: ['<id xmlns="urn:hl7-org:v3" root="2.999.1" extension="77"/>'],
        xua.RESOURCE_ID: ["A^^^&amp;1.2.5&amp;ISO"],
        xua.CONSENT_DOCUMENT: ["urn:oid:1.2.6"],
        xua.PRIVACY_POLICY: ["urn:oid:1.2.7"],
        xua.ROLE: [saml.PHYSICIAN, '<Garbage xmlns="urn:x" code="1" codeSystem="2"/>'],
    }
    found = read(assertion(attributes=attributes))
    assert (found.id, found.issuer, found.name_id, found.alias) == ("_a1", saml.ISSUER, "dr.house", "GH")
    assert found.user_name == f"GH<dr.house@{saml.ISSUER}>"
    assert (found.subject_name, found.organization, found.organization_id) == ("Gregory House", "Clinic", "urn:oid:1.2.3")
    assert found.home_community_id == "urn:oid:1.2.4"
    assert found.roles == (Code("309343006", "2.16.840.1.113883.6.96", "Physician"),)
    assert found.purposes == (Code("TREATMENT", "2.16.840.1.113883.3.18.7.1", "Treatment"),)
    assert found.provider_ids == (("", "1234567890"), ("2.999.1", "77"))
    assert found.resource_ids == ("A^^^&1.2.5&ISO",)
    assert found.policies == ("urn:oid:1.2.6", "urn:oid:1.2.7")
    assert (found.audiences, found.authn_context) == ((frozenset({saml.AUDIENCE}),), saml.PASSWORD)
    assert found.not_on_or_after - found.not_before == dt.timedelta(seconds=300)


def test_values_may_be_in_several_attributes_and_statements() -> None:
    """ITI TF-2 section 3.40.4.1.2: repetition at both levels."""
    second = saml.PHYSICIAN.replace("309343006", "46255001")
    more = f'<s:AttributeStatement><s:Attribute Name="{xua.ROLE}"><s:AttributeValue>{second}</s:AttributeValue></s:Attribute></s:AttributeStatement>'
    found = read(
        assertion(attributes={xua.PURPOSE_OF_USE: [saml.TREATMENT, saml.TREATMENT.replace("TREATMENT", "PAYMENT")]}, more=more)
    )
    assert [each.code for each in found.roles] == ["309343006", "46255001"]
    assert [each.code for each in found.purposes] == ["TREATMENT", "PAYMENT"]


def test_several_restrictions_all_have_to_hold() -> None:
    data = assertion(audience=("urn:a", "urn:b")).replace(
        b"</s:Conditions>", b"<s:AudienceRestriction><s:Audience>urn:c</s:Audience></s:AudienceRestriction></s:Conditions>"
    )
    assert read(data).audiences == (frozenset({"urn:a", "urn:b"}), frozenset({"urn:c"}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (assertion(authn=""), "AuthnStatement"),
        (assertion(authn='<s:AuthnStatement AuthnInstant="2026-01-01T00:00:00Z"/>'), "AuthnContextClassRef"),
        (assertion().replace(saml.PASSWORD.encode(), b"by hand"), "AuthnContextClassRef"),
        (assertion().replace(b'AuthnInstant="', b'AuthnInstant="x'), "AuthnInstant"),
        (assertion(confirmation="urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"), "bearer"),
        (assertion(name_id=""), "NameID"),
        (assertion().replace(b'Version="2.0"', b'Version="1.1"'), "SAML 2.0"),
        (assertion().replace(b"NotOnOrAfter", b"Other"), "NotOnOrAfter"),
        (assertion().replace(b"AudienceRestriction", b"OneTimeUse"), "AudienceRestriction"),
        (assertion().replace(b"<s:AudienceRestriction>", b"<s:Condition/><s:AudienceRestriction>"), "condition"),
        (
            assertion().replace(b"<s:Conditions", b'<s:Conditions NotBefore="2026-01-01T00:00:00Z"/><s:Conditions'),
            "2 elements Conditions",
        ),
        (assertion().replace(b"IssueInstant", b"X"), "IssueInstant"),
        (assertion(id_=""), "ID"),
    ],
)
def test_what_is_no_assertion_of_xua(data: bytes, words: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        read(data)
    assert words in refused.value.why
    assert refused.value.subcode == f"{{{WSSE}}}InvalidSecurityToken"


@needs_shared
def test_the_sample_of_ipf_has_no_authn_statement_and_all_else_is_read() -> None:
    sample = xml.parse((SHARED / "ipf" / "platform-xds-test" / "saml2-assertion-for-xua.xml").read_bytes(), 1 << 20)
    token = xua.token(sample)
    assert token is not None
    assert (xua.issuer(token), xua.signature_faults(token)) == ("demo.com", "")
    with pytest.raises(TokenRefused, match="AuthnStatement"):
        xua.read(token)
    statement = (
        f'<s:AuthnStatement xmlns:s="{SAML}" AuthnInstant="2011-03-29T09:44:41Z"><s:AuthnContext><s:AuthnContextClassRef>'
        f"{saml.PASSWORD}</s:AuthnContextClassRef></s:AuthnContext></s:AuthnStatement>"
    )
    token.append(etree.fromstring(statement))
    found = xua.read(token)
    assert found.user_name == "alias2<lipse@demo.com>"
    assert found.subject_name == "Dr. Klaus-Peter Kohlrabi"
    assert [each.code for each in found.roles] == ["ELE", "HCP", "GYN"]
    assert [each.scheme for each in found.purposes][:2] == ["1.0.14265.12", "1.0.14265.13"]


def test_a_header_has_one_assertion_and_no_other_token() -> None:
    one = assertion()
    found = xua.token(security(one))
    assert found is not None
    assert found.get("ID") == "_a1"
    assert xua.token(security()) is None
    for tokens, subcode in (
        ((one, assertion(id_="_a2")), "InvalidSecurity"),
        ((one, b"<x>" + one + b"</x>"), "InvalidSecurity"),
        ((b"<x>" + one + b"</x>",), "InvalidSecurity"),
        ((b"<UsernameToken/>",), "UnsupportedSecurityToken"),
    ):
        with pytest.raises(TokenRefused) as refused:
            xua.token(security(*tokens))
        assert refused.value.subcode == f"{{{WSSE}}}{subcode}"


def _move_signature(root: _Element) -> None:
    signature = root.find(f"{{{DS}}}Signature")
    statement = root.find(f"{{{SAML}}}AttributeStatement")
    assert signature is not None
    assert statement is not None
    statement.append(signature)


def _add_object(root: _Element) -> None:
    signature = root.find(f"{{{DS}}}Signature")
    assert signature is not None
    etree.SubElement(signature, f"{{{DS}}}Object").append(etree.fromstring(assertion(id_="_other")))


def _twice(root: _Element) -> None:
    root.append(etree.fromstring(etree.tostring(root.find(f"{{{DS}}}Signature"))))  # type: ignore[arg-type]


def _same_id(root: _Element) -> None:
    statement = root.find(f"{{{SAML}}}AttributeStatement")
    assert statement is not None
    statement.set("Id", "_a1")


def _two_references(root: _Element) -> None:
    info, reference = root.find(f".//{{{DS}}}SignedInfo"), root.find(f".//{{{DS}}}Reference")
    assert info is not None
    info.append(etree.fromstring(etree.tostring(reference)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: None, ""),
        (lambda root: root.remove(root[1]), "not signed"),
        (_move_signature, "not signed"),
        (_twice, "several"),
        (_add_object, "parts"),
        (_same_id, "ID of its own"),
        (_two_references, "not over this assertion"),
        (lambda root: root.set("ID", "_other"), "not over this assertion"),
        (lambda root: root.find(f".//{{{DS}}}Reference").set("URI", ""), "not over this assertion"),
        (lambda root: root.find(f".//{{{DS}}}CanonicalizationMethod").set("Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"), "transforms"),
        (lambda root: root.find(f".//{{{DS}}}Transform").set("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116"), "transforms"),
        (lambda root: root.findall(f".//{{{DS}}}Transform")[1].set("Algorithm", xua.EXCLUSIVE_C14N + "WithComments"), "transforms"),
    ],
)  # fmt: skip
def test_shapes_of_signatures(provider: Provider, change: Callable[[_Element], object], words: str) -> None:
    found = xua.signature_faults(etree.fromstring(changed(provider.sign(assertion()), change)))
    assert words in found
    assert bool(found) == bool(words)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"))


def test_a_comment_does_not_cut_a_name() -> None:
    commented = assertion(name_id="admin<!-- -->.evil")
    assert read(commented).name_id == "admin.evil"
    assert xua.read(etree.fromstring(commented)).name_id == "admin.evil"


def test_the_fault_is_that_of_ws_security() -> None:
    """WS-Security 1.1 section 12, in the form of SOAP 1.2."""
    refused = TokenRefused("FailedAuthentication", "the trail alone has this")
    body = soap.render_fault(refused, "urn:uuid:1", "urn:uuid:2")
    assert b"the trail alone" not in body
    value = etree.fromstring(body).find(f".//{{{soap.ENV}}}Subcode/{{{soap.ENV}}}Value")
    assert value is not None
    prefix, _, name = (value.text or "").partition(":")
    assert (value.nsmap[prefix], name) == (WSSE, "FailedAuthentication")
    assert soap.fault_action(refused) == f"{soap.WSA}/soap/fault"


def test_two_security_headers_are_refused() -> None:
    one = f'<w:Security xmlns:w="{WSSE}"/>'.encode()
    message = soap.render_request("urn:x", etree.Element("x"), "urn:uuid:1", "")
    two = message.replace(b"</env:Header>", one + one + b"</env:Header>")
    with pytest.raises(soap.SoapFault, match="more than once"):
        soap.parse(two, understood={soap.SECURITY})


@given(
    st.datetimes(min_value=dt.datetime(1900, 1, 1), max_value=dt.datetime(2999, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 9),
)
def test_moments_in_every_zone_and_precision(when: dt.datetime, minutes: int, digits: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=minutes))
    text = when.replace(microsecond=0).isoformat() + (f".{'123456789'[:digits]}" if digits else "")
    sign, rest = ("-" if minutes < 0 else "+"), abs(minutes)
    data = assertion().replace(b' IssueInstant="', f' IssueInstant="{text}{sign}{rest // 60:02}:{rest % 60:02}" X="'.encode(), 1)
    expected = when.replace(microsecond=int("123456"[:digits].ljust(6, "0")) if digits else 0, tzinfo=zone)
    assert read(data).issued == expected


@given(st.binary(max_size=300), st.text(max_size=60))
def test_whatever_it_is_it_is_read_or_refused(cut: bytes, text: str) -> None:
    good = assertion(name_id="N")
    place = len(cut) * 7 % len(good)
    for data in (
        good[:place] + cut + good[place:],
        good.replace(b">N<", f">{xml.clean(text).replace('<', '').replace('&', '')}<".encode()),
    ):
        try:
            found = read(data)
        except (xml.XmlError, TokenRefused):
            continue
        assert found.name_id
