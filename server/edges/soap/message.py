"""The request's bytes, and the envelope in them: plain SOAP 1.2 or MTOM, whichever the client sends."""

from collections.abc import Set as AbstractSet

from lxml import etree
from starlette.requests import Request

from ihe import mtom, soap
from ihe.multipart import MultipartError
from ihe.soap import Envelope, SoapFault
from server.errors import TooLarge, UnsupportedMediaType

_PARTS = 100


def check_media_type(request: Request) -> None:
    """SOAP 1.2 part 2 section 7.1.4: raises `UnsupportedMediaType` (415) for a body that is not SOAP, before it is read."""
    try:
        soap.request_format(request.headers.get("content-type", ""))
    except SoapFault as fault:
        raise UnsupportedMediaType(fault.reason) from None
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("a compressed body is not taken: send it without Content-Encoding")


async def received(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises `TooLarge` (413) as soon as that is known."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(f"a SOAP message may have at most {limit} bytes here")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise TooLarge(f"a SOAP message may have at most {limit} bytes here")
    return bytes(body)


def envelope(content_type: str, body: bytes, understood: AbstractSet[str] = frozenset()) -> Envelope:
    """SOAP 1.2 part 1 section 5: the envelope in `body`, of which also the headers `understood` are processed. Raises `SoapFault`.

    The action of the Content-Type is not looked at, though WS-Addressing wants it to be that of the envelope: zeep sends
    `None` there with every WSDL that names no soapAction, as IHE's do, and wsa:Action alone says what is meant.
    """
    form = soap.request_format(content_type)
    found = soap.parse(_root(content_type, body) if form.mtom else body, limit=len(body), understood=understood)
    soap.require_anonymous(found)
    return found


def _root(content_type: str, body: bytes) -> bytes:
    """The root part of an MTOM message that is whole. Attachments are skipped: no transaction here has any use for one."""
    try:
        reader = mtom.Reader(content_type, root_limit=len(body), part_limit=_PARTS)
        events = reader.feed(body)
        reader.close()
    except MultipartError as error:
        raise SoapFault("Sender", str(error)) from None
    return next(event.data for event in events if isinstance(event, mtom.Root))


def source(envelope: Envelope) -> bytes:
    """The payload as XML on its own, in UTF-8, for the trail."""
    return etree.tostring(envelope.body, encoding="UTF-8", xml_declaration=False)
