"""SOAP 1.2 with WS-Addressing 1.0, as ITI TF-2 appendix V profiles them: envelope in, envelope out, faults.

Bytes in, values out; no transport. A message whose body carries attachments comes as MTOM: `request_format` tells which.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from lxml import etree
from lxml.etree import _Element

from ihe import mtom, multipart, xml

ENV: Final = "http://www.w3.org/2003/05/soap-envelope"
ENV_11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
WSA: Final = "http://www.w3.org/2005/08/addressing"
ANONYMOUS: Final = f"{WSA}/anonymous"
SECURITY: Final = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}Security"
LIMIT: Final = 16_777_216

_XML = "http://www.w3.org/XML/1998/namespace"
_PREFIXES = {"env": ENV, "wsa": WSA}
_FOR_US = frozenset(("", f"{ENV}/role/next", f"{ENV}/role/ultimateReceiver"))
_HTTP_STATUS = {"Sender": 400}


class SoapFault(Exception):
    """SOAP 1.2 part 1 section 5.4: a message that cannot be processed.

    `code` is `VersionMismatch`, `MustUnderstand`, `Sender` or `Receiver`; `subcode` a local name of WS-Addressing
    (SOAP binding section 6) or `{namespace}name` of another one, empty if none; `not_understood` the headers as `{namespace}name`.
    """

    def __init__(self, code: str, reason: str, subcode: str = "", not_understood: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.subcode = subcode
        self.not_understood = not_understood

    @property
    def http_status(self) -> int:
        """SOAP 1.2 part 2 table 20: 400 for Sender, 500 for the others."""
        return _HTTP_STATUS.get(self.code, 500)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message: its addressing headers (empty where absent), its payload (the Body's element), its Security header."""

    action: str
    message_id: str
    relates_to: str
    to: str
    reply_to: str
    body: _Element
    security: _Element | None = None


@dataclass(frozen=True, slots=True)
class RequestFormat:
    """What a Content-Type says of a SOAP request: MTOM or plain, and its action parameter (empty if none)."""

    mtom: bool
    action: str


def request_format(content_type: str) -> RequestFormat:
    """Plain `application/soap+xml` or MTOM. Raises `SoapFault` (an HTTP server answers 415) for anything else."""
    parsed = multipart.media_type(content_type)
    action = parsed.parameters.get("action", "")
    if parsed.type == mtom.SOAP_TYPE:
        return RequestFormat(False, action)
    if parsed.type == "multipart/related" and parsed.parameters.get("type", mtom.XOP_TYPE).lower() == mtom.XOP_TYPE:
        return RequestFormat(True, action)
    raise SoapFault("Sender", f"the Content-Type must be {mtom.SOAP_TYPE}, or multipart/related with type {mtom.XOP_TYPE}")


def parse(data: bytes, *, limit: int = LIMIT, understood: AbstractSet[str] = frozenset()) -> Envelope:
    """SOAP 1.2 part 1 section 5 and WS-Addressing SOAP binding: `data` as an envelope, at most `limit` bytes.

    `understood` are headers beyond WS-Addressing that the caller processes, as `{namespace}name` (`SECURITY`).
    Raises `SoapFault`.
    """
    try:
        root = xml.parse(data, limit)
    except xml.XmlError as error:
        raise SoapFault("Sender", str(error)) from None
    if root.tag != f"{{{ENV}}}Envelope":
        if xml.local_name(root) == "Envelope":
            raise SoapFault("VersionMismatch", f"the envelope must be of SOAP 1.2, namespace {ENV}")
        raise SoapFault("Sender", "the message is not a SOAP envelope")
    header, body = _parts(root)
    headers = [] if header is None else [block for block in header if _is_for_us(block)]
    _check_understood(headers, understood)
    if body is None or len(body) != 1:
        raise SoapFault("Sender", "the envelope must have a Body with exactly one element")
    action = _address(headers, "Action")
    if not action:
        raise SoapFault("Sender", "the header wsa:Action is missing", "MessageAddressingHeaderRequired")
    return Envelope(
        action=action,
        message_id=_address(headers, "MessageID"),
        relates_to=_address(headers, "RelatesTo"),
        to=_address(headers, "To"),
        reply_to=_address(headers, "ReplyTo"),
        body=body[0],
        security=_security(headers),
    )


def _parts(envelope: _Element) -> tuple[_Element | None, _Element | None]:
    """SOAP 1.2 part 1 section 5.1: one Header at most, then one Body, and nothing else. What would read another of two must not be found here."""
    named = [str(part.tag) for part in envelope]
    header, body = f"{{{ENV}}}Header", f"{{{ENV}}}Body"
    if named not in ([header, body], [body], [header], []):
        raise SoapFault(
            "Sender", "the envelope must have at most one Header, then one Body, and nothing else (SOAP 1.2 part 1 section 5)"
        )
    return envelope.find(header), envelope.find(body)


def _is_for_us(block: _Element) -> bool:
    return block.get(f"{{{ENV}}}role", "") in _FOR_US


def _check_understood(headers: list[_Element], understood: AbstractSet[str]) -> None:
    unknown = tuple(
        str(block.tag)
        for block in headers
        if block.get(f"{{{ENV}}}mustUnderstand") in ("1", "true")
        and xml.namespace_of(block) != WSA
        and str(block.tag) not in understood
    )
    if unknown:
        raise SoapFault("MustUnderstand", "a mandatory header is not understood", not_understood=unknown)


def _security(headers: list[_Element]) -> _Element | None:
    """WS-Security 1.1 section 5: of the headers for one receiver one alone may be a Security header."""
    found = [block for block in headers if block.tag == SECURITY]
    if len(found) > 1:
        raise SoapFault("Sender", "the header wsse:Security stands more than once")
    return found[0] if found else None


def _address(headers: list[_Element], name: str) -> str:
    found = [block for block in headers if block.tag == f"{{{WSA}}}{name}"]
    if len(found) > 1 and name != "RelatesTo":
        raise SoapFault("Sender", f"the header wsa:{name} stands more than once", "InvalidAddressingHeader")
    if not found:
        return ""
    return xml.text_of(found[0], "Address") if name == "ReplyTo" else (found[0].text or "").strip()


def require_action(envelope: Envelope, *actions: str) -> str:
    """The envelope's action, if it is one of `actions`. Raises `SoapFault` ActionNotSupported (WS-Addressing 6.4.4)."""
    if envelope.action not in actions:
        raise SoapFault("Sender", "the wsa:Action is not one that this endpoint supports", "ActionNotSupported")
    return envelope.action


def require_anonymous(envelope: Envelope) -> None:
    """Raises `SoapFault` OnlyAnonymousAddressSupported where the answer is wanted at another address (WS-Addressing 6.4.1.7)."""
    if envelope.reply_to not in ("", ANONYMOUS):
        raise SoapFault(
            "Sender", "wsa:ReplyTo must be anonymous: the answer comes on the same connection", "OnlyAnonymousAddressSupported"
        )


def render(action: str, relates_to: str, body: _Element | bytes, message_id: str, *, to: str = "", reply_to: str = "") -> bytes:
    """ITI TF-2 appendix V.3.2: an envelope around `body`, as UTF-8 bytes.

    `message_id` is a new `urn:uuid:`, `relates_to` the request's MessageID (empty in a request). An element is moved; bytes are one that was
    written already, in UTF-8 and without an XML declaration.
    """
    envelope, header = _envelope(action, relates_to, message_id)
    if to:
        etree.SubElement(header, f"{{{WSA}}}To").text = to
    if reply_to:
        etree.SubElement(etree.SubElement(header, f"{{{WSA}}}ReplyTo"), f"{{{WSA}}}Address").text = reply_to
    holding = etree.SubElement(envelope, f"{{{ENV}}}Body")
    if isinstance(body, bytes):
        before, empty, after = _serialize(envelope).partition(b"<env:Body/>")
        return b"".join((before, empty[:-2], b">", body, b"</env:Body>", after))
    holding.append(body)
    return _serialize(envelope)


def render_request(action: str, body: _Element, message_id: str, to: str) -> bytes:
    """A request whose answer is wanted on the same connection."""
    return render(action, "", body, message_id, to=to, reply_to=ANONYMOUS)


def fault_action(fault: SoapFault) -> str:
    """WS-Addressing SOAP binding section 6: the action of a fault message."""
    return f"{WSA}/fault" if _subcode(fault)[0] == WSA else f"{WSA}/soap/fault"


def render_fault(fault: SoapFault, relates_to: str, message_id: str) -> bytes:
    """SOAP 1.2 part 1 section 5.4: `fault` as an envelope, with Upgrade or NotUnderstood headers where they belong."""
    envelope, header = _envelope(fault_action(fault), relates_to, message_id)
    if fault.code == "VersionMismatch":
        upgrade = etree.SubElement(header, f"{{{ENV}}}Upgrade")
        etree.SubElement(upgrade, f"{{{ENV}}}SupportedEnvelope", qname="env:Envelope")
    for name in fault.not_understood:
        qname = etree.QName(name)
        prefixes = {"h": qname.namespace} if qname.namespace else None
        etree.SubElement(
            header,
            f"{{{ENV}}}NotUnderstood",
            qname=f"h:{qname.localname}" if qname.namespace else qname.localname,
            nsmap=prefixes,
        )
    element = etree.SubElement(etree.SubElement(envelope, f"{{{ENV}}}Body"), f"{{{ENV}}}Fault")
    code = etree.SubElement(element, f"{{{ENV}}}Code")
    etree.SubElement(code, f"{{{ENV}}}Value").text = f"env:{fault.code}"
    if fault.subcode:
        subcode, (namespace, name) = etree.SubElement(code, f"{{{ENV}}}Subcode"), _subcode(fault)
        prefix = "wsa" if namespace == WSA else "s"
        etree.SubElement(subcode, f"{{{ENV}}}Value", nsmap={prefix: namespace}).text = f"{prefix}:{name}"
    text = etree.SubElement(etree.SubElement(element, f"{{{ENV}}}Reason"), f"{{{ENV}}}Text")
    text.set(f"{{{_XML}}}lang", "en")
    text.text = xml.clean(fault.reason)
    return _serialize(envelope)


def _subcode(fault: SoapFault) -> tuple[str, str]:
    """Namespace and local name of the subcode; both empty where there is none."""
    namespace, _, name = fault.subcode.removeprefix("{").rpartition("}")
    return (namespace or WSA, name) if name else ("", "")


def response_of(envelope: Envelope) -> _Element:
    """The payload of an answer. Raises the `SoapFault` that the answer carries, if it is one."""
    if envelope.body.tag != f"{{{ENV}}}Fault":
        return envelope.body
    code = envelope.body.findtext(f"{{{ENV}}}Code/{{{ENV}}}Value") or ""
    subcode = envelope.body.findtext(f"{{{ENV}}}Code/{{{ENV}}}Subcode/{{{ENV}}}Value") or ""
    reason = envelope.body.findtext(f"{{{ENV}}}Reason/{{{ENV}}}Text") or ""
    raise SoapFault(code.strip().rpartition(":")[2] or "Receiver", reason.strip(), subcode.strip().rpartition(":")[2])


def content_type(action: str) -> str:
    """The Content-Type header of a plain SOAP 1.2 message (RFC 3902)."""
    return f'{mtom.SOAP_TYPE}; charset=UTF-8; action="{action}"'


def _envelope(action: str, relates_to: str, message_id: str) -> tuple[_Element, _Element]:
    envelope = etree.Element(f"{{{ENV}}}Envelope", nsmap=_PREFIXES)
    header = etree.SubElement(envelope, f"{{{ENV}}}Header")
    block = etree.SubElement(header, f"{{{WSA}}}Action")
    block.set(f"{{{ENV}}}mustUnderstand", "true")
    block.text = action
    etree.SubElement(header, f"{{{WSA}}}MessageID").text = message_id
    if relates_to:
        etree.SubElement(header, f"{{{WSA}}}RelatesTo").text = relates_to
    return envelope, header


def _serialize(envelope: _Element) -> bytes:
    return etree.tostring(envelope, encoding="UTF-8", xml_declaration=True)
