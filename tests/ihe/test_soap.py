from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ihe import mtom, soap
from ihe.soap import ANONYMOUS, ENV, ENV_11, SECURITY, WSA, SoapFault

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
ID = "urn:uuid:6d296e90-e5dc-43d0-b455-7c1f3eb35d83"


def envelope(header: str = "", body: str = "<x/>", env: str = ENV) -> bytes:
    return (
        f'<e:Envelope xmlns:e="{env}" xmlns:a="{WSA}"><e:Header>{header}</e:Header><e:Body>{body}</e:Body></e:Envelope>'.encode()
    )


ACTION = '<a:Action e:mustUnderstand="1">urn:x</a:Action>'


def test_what_is_rendered_is_parsed() -> None:
    read = soap.parse(soap.render("urn:x", "urn:uuid:1", etree.Element("x"), ID))
    assert (read.action, read.relates_to, read.message_id, read.to, read.reply_to) == ("urn:x", "urn:uuid:1", ID, "", "")
    assert soap.response_of(read).tag == "x"


def test_a_request_wants_its_answer_on_the_same_connection() -> None:
    read = soap.parse(soap.render_request("urn:x", etree.Element("x"), ID, "https://partner/xds"))
    assert (read.to, read.reply_to, read.relates_to) == ("https://partner/xds", ANONYMOUS, "")
    soap.require_anonymous(read)


@pytest.mark.parametrize(
    ("data", "code", "subcode"),
    [
        (b"not xml", "Sender", ""),
        (b"<x/>", "Sender", ""),
        (envelope(ACTION, env=ENV_11), "VersionMismatch", ""),
        (envelope(""), "Sender", "MessageAddressingHeaderRequired"),
        (envelope(ACTION * 2), "Sender", "InvalidAddressingHeader"),
        (envelope(ACTION, body=""), "Sender", ""),
        (envelope(ACTION, body="<x/><y/>"), "Sender", ""),
        (envelope(f"{ACTION}</e:Header><e:Header>"), "Sender", ""),
        (envelope(ACTION, body="<x/></e:Body><e:Body><y/>"), "Sender", ""),
        (envelope(ACTION).replace(b"</e:Envelope>", b"<x/></e:Envelope>"), "Sender", ""),
        (envelope(f"{ACTION}</e:Header><x/><e:Header>"), "Sender", ""),
        (envelope(ACTION + '<h xmlns="urn:h" e:mustUnderstand="true"/>'), "MustUnderstand", ""),
        (b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>" + envelope(ACTION, body="<x>&y;</x>"), "Sender", ""),
    ],
)
def test_faults(data: bytes, code: str, subcode: str) -> None:
    with pytest.raises(SoapFault) as raised:
        soap.parse(data)
    fault = raised.value
    assert (fault.code, fault.subcode) == (code, subcode)
    assert fault.http_status == (400 if code == "Sender" else 500)
    read = soap.parse(soap.render_fault(fault, "urn:uuid:1", ID))
    assert read.action == soap.fault_action(fault)
    assert read.relates_to == "urn:uuid:1"
    with pytest.raises(SoapFault) as again:
        soap.response_of(read)
    assert (again.value.code, again.value.subcode, again.value.reason) == (code, subcode, fault.reason)


def test_a_message_over_the_limit_is_refused() -> None:
    with pytest.raises(SoapFault, match="the limit is 10"):
        soap.parse(envelope(ACTION), limit=10)


def test_headers_that_are_not_understood_are_named() -> None:
    with pytest.raises(SoapFault) as raised:
        soap.parse(envelope(ACTION + '<h xmlns="urn:h" e:mustUnderstand="1"/>'))
    assert raised.value.not_understood == ("{urn:h}h",)
    named = etree.fromstring(soap.render_fault(raised.value, "", ID)).find(f".//{{{ENV}}}NotUnderstood")
    assert named is not None
    assert named.get("qname") == "h:h"
    assert named.nsmap["h"] == "urn:h"


def test_a_version_mismatch_names_the_supported_envelope() -> None:
    rendered = etree.fromstring(soap.render_fault(SoapFault("VersionMismatch", "x"), "", ID))
    supported = rendered.find(f"{{{ENV}}}Header/{{{ENV}}}Upgrade/{{{ENV}}}SupportedEnvelope")
    assert supported is not None
    assert supported.get("qname") == "env:Envelope"


def test_headers_for_other_roles_and_optional_ones_pass() -> None:
    header = ACTION + f'<h xmlns="urn:h" e:mustUnderstand="1" e:role="{ENV}/role/none"/><h xmlns="urn:h" e:mustUnderstand="0"/>'
    assert soap.parse(envelope(header)).action == "urn:x"


def test_the_security_header_is_handed_on_where_it_is_understood() -> None:
    namespace = SECURITY[1:].partition("}")[0]
    data = envelope(ACTION + f'<s:Security xmlns:s="{namespace}" e:mustUnderstand="1"/>')
    security = soap.parse(data, understood={SECURITY}).security
    assert security is not None
    with pytest.raises(SoapFault):
        soap.parse(data)


def test_action_and_reply_address_are_checked() -> None:
    read = soap.parse(envelope(ACTION + "<a:ReplyTo><a:Address>http://elsewhere/</a:Address></a:ReplyTo>"))
    assert soap.require_action(read, "urn:y", "urn:x") == "urn:x"
    with pytest.raises(SoapFault) as action:
        soap.require_action(read, "urn:y")
    assert action.value.subcode == "ActionNotSupported"
    with pytest.raises(SoapFault) as reply:
        soap.require_anonymous(read)
    assert reply.value.subcode == "OnlyAnonymousAddressSupported"


def test_request_format() -> None:
    assert soap.request_format(soap.content_type("urn:x")) == soap.RequestFormat(False, "urn:x")
    assert soap.request_format(mtom.content_type("b", "urn:x")) == soap.RequestFormat(True, "urn:x")
    for other in ("text/xml", "multipart/related; type=text/xml; boundary=b", "multipart/form-data; boundary=b", ""):
        with pytest.raises(SoapFault):
            soap.request_format(other)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_faulted(data: bytes) -> None:
    with pytest.raises(SoapFault):
        soap.parse(data)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_envelopes_and_faults_are_valid() -> None:
    schema = etree.XMLSchema(etree.parse(SHARED / "ipf/hl7v3/schema/soap-1.2-envelope.xsd"))
    mismatch, header = SoapFault("VersionMismatch", "x"), SoapFault("Sender", "x", "MessageAddressingHeaderRequired")
    foreign = SoapFault("MustUnderstand", "x", not_understood=("{urn:h}h", "{urn:i}i"))
    schema.assertValid(etree.fromstring(soap.render_request("urn:x", etree.Element("x"), ID, "https://partner/")))
    for fault in (mismatch, header, foreign):
        schema.assertValid(etree.fromstring(soap.render_fault(fault, ID, ID)))
