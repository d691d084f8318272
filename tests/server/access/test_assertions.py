"""Which assertions are believed, cross-checked with xmlsec; attacks on signatures; and the Decision that is made of one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import xmlsec
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from lxml.etree import _Element
from peers import imageshare, saml
from peers.generated import Made, send
from peers.saml import AUDIENCE, ISSUER, Provider, assertion, changed, seconds
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod

from ihe import xua
from ihe.xua import DS, SAML, TokenRefused
from profiles.smart.scopes import Interaction
from server.access.assertions import Assertions
from server.access.decisions import Decision
from server.edges.context import Node
from server.errors import SettingsError
from server.records import resources
from server.records.catalogue import PATIENT
from server.settings import TrustedAssertions

ON_BOTH_ENGINES = True
READ: Final = Interaction.READ


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data", public_url="https://images.example.org") as opened:
        yield opened


def trusting(node: Node, provider: Provider, **settings: Any) -> Assertions:
    named = {"issuer": ISSUER, "certificates": (provider.certificate,), "audience": frozenset({AUDIENCE}), **settings}
    return Assertions(node.settings.model_copy(update={"trusted_assertions": (TrustedAssertions(**named),)}), node.database)


def refused(assertions: Assertions, data: bytes) -> TokenRefused:
    with pytest.raises(TokenRefused) as raised:
        assertions.verified(etree.fromstring(data))
    return raised.value


def xmlsec_verifies(data: bytes, certificate: Path) -> bool:
    """The opinion of libxmlsec1."""
    root = etree.fromstring(data)
    xmlsec.tree.add_ids(root, ["ID"])
    signature = root.find(f"{{{DS}}}Signature")
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_file(str(certificate), xmlsec.constants.KeyDataFormatCertPem)
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


@pytest.mark.parametrize(
    "method",
    [SignatureMethod.RSA_SHA256, SignatureMethod.RSA_SHA384, SignatureMethod.RSA_SHA512, SignatureMethod.SHA256_RSA_MGF1],
)
def test_what_the_issuer_signed_is_believed_here_and_by_xmlsec(node: Node, provider: Provider, method: SignatureMethod) -> None:
    signed = provider.sign(assertion(), method=method)
    found = trusting(node, provider).verified(etree.fromstring(signed))
    assert (found.issuer, found.name_id) == (ISSUER, "dr.house")
    assert xmlsec_verifies(signed, provider.certificate)


def test_an_elliptic_key_is_as_good(node: Node, tmp_path: Path) -> None:
    elliptic = Provider(tmp_path / "elliptic", key=ec.generate_private_key(ec.SECP256R1()))
    signed = elliptic.sign(assertion(), method=SignatureMethod.ECDSA_SHA256)
    assert trusting(node, elliptic).verified(etree.fromstring(signed)).name_id == "dr.house"
    assert xmlsec_verifies(signed, elliptic.certificate)


def test_an_issuer_may_have_a_new_certificate_beside_the_old_one(node: Node, provider: Provider, tmp_path: Path) -> None:
    new = Provider(tmp_path / "new", key=ec.generate_private_key(ec.SECP384R1()))
    assertions = trusting(node, provider, certificates=(new.certificate, provider.certificate))
    for each, method in ((provider, SignatureMethod.RSA_SHA256), (new, SignatureMethod.ECDSA_SHA384)):
        assert assertions.verified(etree.fromstring(each.sign(assertion(), method=method)))


def _rename(root: _Element) -> None:
    name = root.find(f".//{{{SAML}}}NameID")
    assert name is not None
    name.text = "dr.evil"


def _later(root: _Element) -> None:
    conditions = root.find(f"{{{SAML}}}Conditions")
    assert conditions is not None
    conditions.set("NotOnOrAfter", saml.moment(seconds(9999)))


def _role(root: _Element) -> None:
    role = root.find(".//{urn:hl7-org:v3}Role")
    assert role is not None
    role.set("code", "1")


def _digest(root: _Element) -> None:
    value = root.find(f".//{{{DS}}}DigestValue")
    assert value is not None
    value.text = "AAAA" + (value.text or "")[4:]


def _append(root: _Element) -> None:
    root.append(etree.fromstring(f'<s:AttributeStatement xmlns:s="{SAML}"/>'))


@pytest.mark.parametrize("change", [_rename, _later, _role, _digest, _append])
def test_what_was_changed_after_it_was_signed_fails_here_and_in_xmlsec(
    node: Node, provider: Provider, change: Callable[[_Element], object]
) -> None:
    data = changed(provider.sign(assertion()), change)
    found = refused(trusting(node, provider), data)
    assert (found.subcode, found.reason) == (f"{{{xua.WSSE}}}FailedAuthentication", xua._STRANGE)
    assert not xmlsec_verifies(data, provider.certificate)


def _wrapped_in_advice(signed: bytes) -> bytes:
    """XSW: the original hides in an assertion of the attacker's, whose Signature is the original's."""
    evil = etree.fromstring(assertion(id_="_evil", name_id="dr.evil"))
    original = etree.fromstring(signed)
    signature = original.find(f"{{{DS}}}Signature")
    assert signature is not None
    evil.insert(1, signature)
    etree.SubElement(evil, f"{{{SAML}}}Advice").append(original)
    return etree.tostring(evil)


def _wrapped_with_the_id(signed: bytes) -> bytes:
    """XSW: both have the ID that the Reference names."""
    evil = etree.fromstring(assertion(name_id="dr.evil"))
    original = etree.fromstring(signed)
    signature = original.find(f"{{{DS}}}Signature")
    assert signature is not None
    etree.SubElement(evil, f"{{{SAML}}}Advice").append(original)
    evil.insert(1, signature)
    return etree.tostring(evil)


def _wrapped_in_an_object(signed: bytes) -> bytes:
    evil = etree.fromstring(assertion(id_="_evil", name_id="dr.evil"))
    original = etree.fromstring(signed)
    signature = original.find(f"{{{DS}}}Signature")
    assert signature is not None
    evil.insert(1, signature)
    etree.SubElement(signature, f"{{{DS}}}Object").append(original)
    return etree.tostring(evil)


@pytest.mark.parametrize("wrap", [_wrapped_in_advice, _wrapped_with_the_id, _wrapped_in_an_object])
def test_wrapping_makes_nothing_believed(node: Node, provider: Provider, wrap: Callable[[bytes], bytes]) -> None:
    found = refused(trusting(node, provider), wrap(provider.sign(assertion())))
    assert found.subcode == f"{{{xua.WSSE}}}FailedAuthentication"


def test_evidence_within_is_signed_with_it_and_not_read(node: Node, provider: Provider) -> None:
    """NHIN: an assertion about a consent, within an AuthzDecisionStatement."""
    evidence = (
        '<s:AuthzDecisionStatement Decision="Permit" Resource="urn:x"><s:Action Namespace="urn:y">Execute</s:Action><s:Evidence>'
        + assertion(id_="_evidence", issuer="another", name_id="somebody else").decode()
        + "</s:Evidence></s:AuthzDecisionStatement>"
    )
    found = trusting(node, provider).verified(etree.fromstring(provider.sign(assertion(more=evidence))))
    assert (found.issuer, found.name_id) == (ISSUER, "dr.house")


def test_strangers_learn_nothing(node: Node, provider: Provider, stranger: Provider) -> None:
    """Another key, another issuer, none, an expired one that is not signed: one answer."""
    assertions = trusting(node, provider)
    tries = [
        stranger.sign(assertion()),
        provider.sign(assertion(issuer="https://other.example.org")),
        assertion(),
        assertion(until=seconds(-999)),
        provider.sign(assertion()).replace(b"dr.house", b"dr.evil"),
        provider.sign(assertion(attributes={xua.ORGANIZATION: ["x" * 70_000]})),
    ]
    assert {(each.subcode, each.reason) for each in (refused(assertions, data) for data in tries)} == {
        (f"{{{xua.WSSE}}}FailedAuthentication", "the security token could not be authenticated or authorized")
    }


def test_a_key_in_the_message_is_not_looked_at(node: Node, provider: Provider, stranger: Provider) -> None:
    """Somebody else's certificate in KeyInfo helps nobody, and a strange one does not harm."""
    assert "signature" in refused(trusting(node, provider), stranger.sign(assertion())).why

    def nonsense(root: _Element) -> None:
        certificate = root.find(f".//{{{DS}}}X509Certificate")
        assert certificate is not None
        certificate.text = "MI ... mQ="

    assert trusting(node, provider).verified(etree.fromstring(changed(provider.sign(assertion()), nonsense)))


def test_weak_algorithms_are_taken_where_a_partner_has_no_others(node: Node, provider: Provider) -> None:
    weak = provider.sign(assertion(), method=SignatureMethod.RSA_SHA1, digest=DigestAlgorithm.SHA1)
    assert "algorithm" in refused(trusting(node, provider), weak).why
    assert trusting(node, provider, sha1=True).verified(etree.fromstring(weak))


def test_other_canonicalizations_are_not_taken(node: Node, provider: Provider) -> None:
    for method in (
        CanonicalizationMethod.CANONICAL_XML_1_0,
        CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0_WITH_COMMENTS,
    ):
        assert "transforms" in refused(trusting(node, provider), provider.sign(assertion(), c14n=method)).why


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"until": seconds(-120)}, "expired"),
        ({"not_before": seconds(120)}, "not valid yet"),
        ({"issued": seconds(120)}, "not valid yet"),
        ({"audience": ("http://other.example.org",)}, "audience"),
        ({"audience": ()}, "audience"),
        ({"authn": ""}, "AuthnStatement"),
        ({"confirmed": '<s:SubjectConfirmationData NotOnOrAfter="2020-01-01T00:00:00Z"/>'}, "expired"),
        (
            {"authn": f'<s:AuthnStatement AuthnInstant="2026-01-01T00:00:00Z" SessionNotOnOrAfter="2026-01-02T00:00:00Z"><s:AuthnContext><s:AuthnContextClassRef>{saml.PASSWORD}</s:AuthnContextClassRef></s:AuthnContext></s:AuthnStatement>'},
            "expired",
        ),
    ],
)  # fmt: skip
def test_who_signed_reads_what_does_not_hold(node: Node, provider: Provider, made: dict[str, Any], words: str) -> None:
    found = refused(trusting(node, provider), provider.sign(assertion(**made)))
    assert words in found.reason
    assert found.subcode == f"{{{xua.WSSE}}}InvalidSecurityToken"


def test_a_clock_may_differ_a_little(node: Node, provider: Provider) -> None:
    for made in ({"until": seconds(-30)}, {"not_before": seconds(30)}, {"issued": seconds(30)}):
        signed = provider.sign(assertion(**made))
        assert trusting(node, provider).verified(etree.fromstring(signed))
        assert refused(trusting(node, provider, clock_skew=0), signed)


def test_none_holds_forever(node: Node, provider: Provider) -> None:
    """Whatever its issuer says: one that was stolen would be good for years."""
    made = assertion(issued=seconds(-7200), not_before=seconds(-7200), until=seconds(10**8), authn=None)
    assert trusting(node, provider).verified(etree.fromstring(provider.sign(made)))
    assert "too long ago" in refused(trusting(node, provider, lifetime=3600), provider.sign(made)).reason


def test_one_that_was_verified_expires_all_the_same(node: Node, provider: Provider) -> None:
    assertions = trusting(node, provider, clock_skew=0)
    token = etree.fromstring(provider.sign(assertion(until=seconds(1.2))))
    assert assertions.verified(token)
    with pytest.raises(TokenRefused, match="expired"):
        while True:
            assertions.verified(token)


def test_our_own_urls_are_our_audience_where_none_is_named(node: Node, provider: Provider) -> None:
    assertions = trusting(node, provider, audience=frozenset())
    for audience in ("https://images.example.org", "https://images.example.org/xds/registry/"):
        assert assertions.verified(etree.fromstring(provider.sign(assertion(audience=(audience,)))))
    assert "audience" in refused(assertions, provider.sign(assertion(audience=(AUDIENCE,)))).reason


def test_once_is_once_in_every_process(node: Node, provider: Provider) -> None:
    token = etree.fromstring(provider.sign(assertion(id_="_single")))
    many = trusting(node, provider)
    assert many.verified(token)
    assert many.verified(token)
    one, other = trusting(node, provider, once=True), trusting(node, provider, once=True)
    assert one.verified(token)
    for each in (one, other):
        with pytest.raises(TokenRefused, match="used before"):
            each.verified(token)


def test_ways_to_sign_in_may_be_required(node: Node, provider: Provider) -> None:
    signed = provider.sign(assertion())
    assert trusting(node, provider, authn_contexts=frozenset({saml.PASSWORD})).verified(etree.fromstring(signed))
    smartcard = trusting(node, provider, authn_contexts=frozenset({"urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI"}))
    assert "authenticated in a way" in refused(smartcard, signed).reason


def test_a_certificate_that_is_none_stops_the_start(node: Node, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for path in (tmp_path / "none.pem", tmp_path / "absent.pem"):
        with pytest.raises(SettingsError, match=path.name):
            Assertions(
                node.settings.model_copy(
                    update={"trusted_assertions": (TrustedAssertions(issuer="x", certificates=(path,)),)}
                ),
                node.database,
            )  # fmt: skip


# --- the Decision


def decided(node: Node, provider: Provider, attributes: dict[str, list[str]] | None = None, **settings: Any) -> Decision:
    assertions = trusting(node, provider, **settings)
    found = assertions.verified(etree.fromstring(provider.sign(assertion(attributes=attributes or {}))))
    with node.database.read() as connection:
        return assertions.decision(connection, found)


def _patients(node: Node) -> dict[str, str]:
    send(node, Made(study=1, patient="A", name="Alba^Anna"), Made(study=2, patient="B", name="Berg^Bert"))
    imageshare.publish_all(node)
    with node.database.read() as connection:
        return {row.value: row.id for row in connection.execute(PATIENT.select())}


def test_the_decision_has_the_issuers_scopes_and_names_the_user(node: Node, provider: Provider) -> None:
    found = decided(node, provider, scope="user/DocumentReference.rs")
    assert (found.subject, found.token_id, found.issuer, found.user) == (ISSUER, "_a1", ISSUER, "")
    assert found.asserted is not None
    assert found.asserted.user_name == f"GH<dr.house@{ISSUER}>"
    assert found.purposes == {"TREAT"}
    assert found.patients("DocumentReference", READ) is None
    assert found.patients("ImagingStudy", READ) == frozenset()
    assert found.patients("DocumentReference", Interaction.CREATE) == frozenset()
    assert found.writes == frozenset()


def test_a_resource_id_confines(node: Node, provider: Provider) -> None:
    ids, oid = _patients(node), node.installation.patients.oid
    anna = {xua.RESOURCE_ID: [f"A^^^&amp;{oid}&amp;ISO"]}
    found = decided(node, provider, anna)
    assert (found.patient, found.reach) == (ids["A"], frozenset({ids["A"]}))
    assert found.patients("DocumentReference", READ) == {ids["A"]}
    assert decided(node, provider, {xua.RESOURCE_ID: ["A"]}, patient_authority=oid).reach == {ids["A"]}
    element = '<x:InstanceIdentifier xmlns:x="urn:hl7-org:v3" root="1.2.3" extension="A"/>'
    for nobody in (
        [element],
        [""],
        ["<!-- -->"],
        [],
        ["", anna[xua.RESOURCE_ID][0]],
        ["A"],
        ["X^^^&amp;1.2.3&amp;ISO"],
        ["A^^^"],
        [f"A^^^&amp;{oid}&amp;ISO", f"B^^^&amp;{oid}&amp;ISO"],
    ):
        assert decided(node, provider, {xua.RESOURCE_ID: nobody}).reach == frozenset()
    assert decided(node, provider, anna, resource_id="ignored").reach is None


def test_purposes_are_those_of_consents_and_nobody_breaks_the_glass_from_outside(node: Node, provider: Provider) -> None:
    def of(code: str, system: str, **own: str) -> frozenset[str]:
        value = f'<PurposeOfUse xmlns="urn:hl7-org:v3" code="{code}" codeSystem="{system}"/>'
        return decided(node, provider, {xua.PURPOSE_OF_USE: [value]}, purposes=own).purposes

    assert of("HRESCH", "2.16.840.1.113883.5.8") == {"HRESCH"}
    assert of("EMERGENCY", "2.16.840.1.113883.3.18.7.1") == {"ETREAT"}
    assert of("10", "1.0.14265.1") == {"HRESCH"}
    assert of("BTG", "2.16.840.1.113883.5.8") == {"urn:oid:2.16.840.1.113883.5.8|BTG"}
    assert of("NORM", "2.16.756.5") == {"urn:oid:2.16.756.5|NORM"}
    assert of("NORM", "2.16.756.5", **{"NORM^2.16.756.5": "TREAT"}) == {"TREAT"}


def test_a_user_who_is_a_practitioner_here_is_named_so(node: Node, provider: Provider) -> None:
    identifiers = [{"system": "urn:staff", "value": "dr.house"}, {"system": "urn:oid:2.999.1", "value": "77"}]
    with node.database.write() as connection:
        resources.put(connection, {"resourceType": "Practitioner", "id": "house", "identifier": identifiers})
    assert decided(node, provider, practitioner_system="urn:staff").user == "Practitioner/house"
    by_id = {xua.PROVIDER_IDENTIFIER: ['<id xmlns="urn:hl7-org:v3" root="2.999.1" extension="77"/>']}
    assert "Practitioner/house" in decided(node, provider, by_id).actors
    assert decided(node, provider).user == ""
    assert decided(node, provider, practitioner_system="urn:other").user == ""
