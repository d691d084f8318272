"""XUA at the SOAP addresses: assertions as NIST's tests have them, what each gets, and what the trail says of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lxml import etree
from peers import imageshare, saml
from peers.saml import AUDIENCE, Provider, assertion, seconds, with_security
from peers.shows import shows
from peers.xds import LOOPBACK, REGISTRY, REPOSITORY, SOURCE, Archive, cx, fault, instance

from ihe import iti18, soap, xua
from ihe.ebrs import SUCCESS
from ihe.find_documents import FindDocuments
from server.settings import Partner, TrustedAssertions

ON_BOTH_ENGINES = True
FAR = ("192.0.2.7", 50000)
PUBLIC = "https://images.example.org"
PLAIN = {"Content-Type": "application/soap+xml; charset=UTF-8"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"))


def trusted(provider: Provider, **settings: Any) -> TrustedAssertions:
    return TrustedAssertions(
        **{"issuer": saml.ISSUER, "certificates": (provider.certificate,), "audience": frozenset({AUDIENCE}), **settings}
    )


@pytest.fixture
def archive(tmp_path: Path, provider: Provider) -> Iterator[Archive]:
    """A server with a public name, which trusts the provider. It has two patients' studies."""
    with imageshare.node(tmp_path / "data", public_url=PUBLIC, trusted_assertions=(trusted(provider),)) as node:
        made = Archive(node)
        made.send(instance("P1", "2.25.1", "2.25.1.1"), instance("P2", "2.25.2", "2.25.2.1"))
        yield made


def asking(archive: Archive, patient: str = "P1") -> bytes:
    return soap.render_request(iti18.REQUEST_ACTION, iti18.request(FindDocuments(cx(archive, patient)).query()), "urn:uuid:1", "")


def post(archive: Archive, message: bytes, *, path: str = REGISTRY, **headers: str) -> httpx2.Response:
    return archive.client(FAR, PUBLIC).post(path, content=message, headers={**PLAIN, **headers})


def found(response: httpx2.Response) -> int:
    answer = iti18.parse_response(soap.response_of(soap.parse(response.content)))
    assert (response.status_code, answer.status) == (200, SUCCESS)
    return len(answer.entries)


def subcode(response: httpx2.Response) -> str:
    """The fault's, with its namespace."""
    fault(response, 400)
    value = etree.fromstring(response.content).find(f".//{{{soap.ENV}}}Subcode/{{{soap.ENV}}}Value")
    assert value is not None
    prefix, _, name = (value.text or "").partition(":")
    assert value.nsmap[prefix] == xua.WSSE
    return name


SECOND_ROLE = '<Role xmlns="urn:hl7-org:v3" code="46255001" codeSystem="2.16.840.1.113883.6.96" displayName="Pharmacist"/>'
KERBEROS = (
    '<s:AuthnStatement AuthnInstant="2026-01-01T00:00:00Z"><s:AuthnContext><s:AuthnContextClassRef>'
    "urn:oasis:names:tc:SAML:2.0:ac:classes:Kerberos</s:AuthnContextClassRef></s:AuthnContext></s:AuthnStatement>"
)
CONSENT = {xua.CONSENT_DOCUMENT: ["urn:oid:1.2.3.4"], xua.PRIVACY_POLICY: ["urn:oid:1.2.3.5"]}

# The users of NIST's tests (11897_*, 11966_*, 11990_*) with what their assertions are
TAKEN: dict[str, dict[str, Any]] = {
    "valid": {},
    "withauthzconsent": {"attributes": CONSENT},
    "secondrole": {"attributes": {xua.ROLE: [saml.PHYSICIAN, SECOND_ROLE]}},
    "secondpurposeofuse": {"attributes": {xua.PURPOSE_OF_USE: [saml.TREATMENT, saml.TREATMENT.replace("TREATMENT", "PAYMENT")]}},
    "secondauthncontext": {"authn": KERBEROS},
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "expired": (
        {"issued": seconds(-900), "not_before": seconds(-900), "until": seconds(-600)},
        "InvalidSecurityToken",
        "expired",
    ),
    "notyetvalid": ({"not_before": seconds(600), "until": seconds(900)}, "InvalidSecurityToken", "not valid yet"),
    "unknownaudience": ({"audience": ("urn:nobody",)}, "InvalidSecurityToken", "audience"),
    "invalidauthnstatement": ({"authn": '<s:AuthnStatement AuthnInstant="now"/>'}, "InvalidSecurityToken", "AuthnStatement"),
    "noauthnstatement": ({"authn": ""}, "InvalidSecurityToken", "AuthnStatement"),
}


@pytest.mark.parametrize("user", TAKEN)
@shows("transaction", "ITI-40 X-Service Provider")
def test_assertions_that_open(archive: Archive, provider: Provider, user: str) -> None:
    assert found(post(archive, with_security(asking(archive), provider.sign(assertion(**TAKEN[user]))))) == 1


@pytest.mark.parametrize("user", REFUSED)
@shows("transaction", "ITI-40 X-Service Provider")
def test_assertions_that_do_not(archive: Archive, provider: Provider, user: str) -> None:
    made, name, words = REFUSED[user]
    before = len(archive.trail("ITI-18"))
    response = post(archive, with_security(asking(archive), provider.sign(assertion(**made))))
    assert subcode(response) == name
    (event,) = archive.trail("ITI-18")[before:]
    assert event.outcome == "4"
    assert words in event.why
    (login,) = archive.trail("110122")
    assert (login.outcome, login.body["type"]["code"]) == ("4", "110114")
    assert words in login.why


def test_unsigned_and_none_at_all(archive: Archive) -> None:
    unsigned = post(archive, with_security(asking(archive), assertion()))
    assert subcode(unsigned) == "FailedAuthentication"
    assert b"signed" not in unsigned.content
    assert archive.trail("ITI-18")[-1].why == "the assertion is not signed"
    assert subcode(post(archive, asking(archive))) == "SecurityTokenUnavailable"
    assert subcode(post(archive, with_security(asking(archive)))) == "SecurityTokenUnavailable"


def test_two_are_not_one(archive: Archive, provider: Provider) -> None:
    good, other = provider.sign(assertion()), provider.sign(assertion(id_="_a2", name_id="somebody else"))
    assert subcode(post(archive, with_security(asking(archive), good, other))) == "InvalidSecurity"
    assert subcode(post(archive, with_security(asking(archive), good, b"<x>" + other + b"</x>"))) == "InvalidSecurity"


@pytest.mark.parametrize("path", [REGISTRY, REPOSITORY, SOURCE])
def test_every_address_asks_for_one(archive: Archive, provider: Provider, path: str) -> None:
    action = {
        REGISTRY: iti18.REQUEST_ACTION,
        REPOSITORY: "urn:ihe:iti:2007:RetrieveDocumentSet",
        SOURCE: "urn:ihe:rad:2009:RetrieveImagingDocumentSet",
    }[path]
    message = soap.render_request(action, etree.Element("nonsense"), "urn:uuid:1", "")
    assert subcode(post(archive, message, path=path)) == "SecurityTokenUnavailable"
    assert post(archive, with_security(message, provider.sign(assertion())), path=path).status_code == 200


def test_the_trail_names_the_user_as_xua_has_it(archive: Archive, provider: Provider) -> None:
    """ITI TF-2 sections 3.40.4.2 and 3.40.4.1.2.3.1."""
    found(post(archive, with_security(asking(archive), provider.sign(assertion()))))
    (event,) = archive.trail("ITI-18")
    client, _, user = event.body["agent"]
    assert client["who"]["identifier"]["value"] == saml.ISSUER
    assert user["who"]["identifier"] == {"system": saml.ISSUER, "value": "dr.house"}
    assert (user["name"], user["requestor"]) == (f"GH<dr.house@{saml.ISSUER}>", True)
    assert user["policy"] == ["_a1"]
    assert user["purposeOfUse"] == [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}
    ]


def test_a_resource_id_opens_one_patient_at_every_door(archive: Archive, provider: Provider) -> None:
    own = cx(archive, "P1").replace("&", "&amp;")
    token = provider.sign(assertion(attributes={xua.RESOURCE_ID: [own]}))
    assert found(post(archive, with_security(asking(archive, "P1"), token))) == 1
    assert found(post(archive, with_security(asking(archive, "P2"), token))) == 0
    assert [(each.outcome, bool(each.patient)) for each in archive.trail("ITI-18")] == [("0", True), ("4", True)]


def test_who_trusts_nobody_understands_no_security_header(tmp_path: Path, provider: Provider) -> None:
    with imageshare.node(tmp_path / "data") as node:
        archive = Archive(node)
        client, message, token = archive.client(), asking(archive), provider.sign(assertion())
        needed = client.post(REGISTRY, content=with_security(message, token), headers=PLAIN)
        assert fault(needed, 500).code == "MustUnderstand"
        ignored = client.post(REGISTRY, content=with_security(message, token, must_understand=False), headers=PLAIN)
        assert ignored.status_code == 200


def test_a_program_on_this_machine_may_bring_one_and_a_bad_one_is_refused(tmp_path: Path, provider: Provider) -> None:
    with imageshare.node(tmp_path / "data", trusted_assertions=(trusted(provider),)) as node:
        archive = Archive(node)
        archive.send(instance("P1"))

        def ask(*tokens: bytes) -> httpx2.Response:
            message = with_security(asking(archive), *tokens) if tokens else asking(archive)
            return archive.client().post(REGISTRY, content=message, headers=PLAIN)

        assert found(ask()) == 1
        assert found(ask(provider.sign(assertion()))) == 1
        assert archive.trail("ITI-18")[-1].body["agent"][0]["who"]["identifier"]["value"] == saml.ISSUER
        assert subcode(ask(provider.sign(assertion(until=seconds(-999))))) == "InvalidSecurityToken"


def test_it_can_be_required_of_everybody(tmp_path: Path, provider: Provider) -> None:
    with imageshare.node(tmp_path / "data", trusted_assertions=(trusted(provider),), soap_assertions="required") as node:
        archive = Archive(node)
        assert (
            subcode(archive.client(LOOPBACK).post(REGISTRY, content=asking(archive), headers=PLAIN)) == "SecurityTokenUnavailable"
        )


def test_tokens_are_taken_too(archive: Archive) -> None:
    token = archive.node.tokens.issue(client="ehr", scope="system/*.rs")
    assert found(post(archive, asking(archive), Authorization=f"Bearer {token}")) == 1
    assert archive.trail("ITI-18")[-1].body["agent"][0]["who"]["identifier"]["value"] == "ehr"
    narrow = archive.node.tokens.issue(client="ehr", scope="system/Observation.rs")
    assert found(post(archive, asking(archive), Authorization=f"Bearer {narrow}")) == 0
    wrong = post(archive, asking(archive), Authorization="Bearer nonsense")
    fault(wrong, 401)
    assert wrong.headers["www-authenticate"] == "Bearer"


def test_a_certificate_that_nobody_knows_opens_nothing(tmp_path: Path, provider: Provider) -> None:
    """The header fields by which a proxy would tell of one are not looked at."""
    partner = Partner(name="clinic", certificates=(provider.certificate,), scope="system/*.rs")
    with imageshare.node(tmp_path / "data", public_url=PUBLIC, partners=(partner,)) as node:
        shown: Callable[[str], dict[str, str]] = lambda name: {name: provider.certificate.read_text().replace("\n", "")}  # noqa: E731
        for name in ("X-Client-Cert", "X-SSL-Cert", "X-Forwarded-Client-Cert", "Client-Cert"):
            fault(post(Archive(node), asking(Archive(node)), **shown(name)), 403)


def test_who_is_known_by_nothing_but_the_message_sends_no_large_one(archive: Archive) -> None:
    """It is in memory before the assertion in it can be looked at."""
    message = asking(archive)
    assert fault(post(archive, message + b" " * (4 << 20)), 413).code == "Sender"
    pieces = (message, *[b" " * (1 << 20)] * 5)
    sent = archive.client(FAR, PUBLIC).post(REGISTRY, content=iter(pieces), headers=PLAIN)
    assert fault(sent, 413).code == "Sender"
