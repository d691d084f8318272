"""Content negotiation: PS3.18 section 8.7 over RFC 9110 section 12.5.1.

Nothing is transcoded yet, so one rule holds for instances and frames, in one part or in many: without a
`transfer-syntax` parameter, and with `transfer-syntax=*`, they are sent as stored, and the header of each part says which
transfer syntax that is; a named one is acceptable where it is the stored one, and else the answer is 406. A bulk value is judged
alike, but is octets only and has no such label.

Where the client names none, PS3.18 section 8.7.3.5.2 has Explicit VR Little Endian as the default. We send what is stored
even then: an answer that its reader can tell is of more use than 406.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from ihe.multipart import media_type
from profiles.vocabulary import DICOM_JSON, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM
from server.errors import NotAcceptable

DICOM: Final = "application/dicom"
JSON: Final = "application/json"
MULTIPART: Final = "multipart/related"

_ELEMENT = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')
_ANY = ("*/*", "")
# Names that clients still use from before IANA registered the types.
_OLD_NAMES: Final = {"image/x-jls": "image/jls", "image/x-dicom-rle": "image/dicom-rle", "image/jpg": "image/jpeg"}
_MOST = 100


@dataclass(frozen=True, slots=True)
class Range:
    """One element of Accept. `part` is the type of the parts where `type` is multipart; `syntax` is empty where none is named."""

    type: str
    part: str
    syntax: str

    @property
    def is_multipart(self) -> bool:
        return self.type in (MULTIPART, "multipart/*", *_ANY)

    def takes(self, type_: str) -> bool:
        """Whether an answer (or, in a multipart one, a part) may have this media type."""
        wanted = self.part if self.type in (MULTIPART, "multipart/*") else self.type
        return wanted in _ANY or wanted == type_ or (wanted.endswith(("/*", "/")) and type_.startswith(wanted.rstrip("*")))


@dataclass(frozen=True, slots=True)
class Form:
    """What was agreed: multipart or a single part, and the media type of the parts."""

    multipart: bool
    type: str


def ranges(request: Request) -> list[Range]:
    """What the client takes, most wanted first: the `accept` query parameter (PS3.18 section 8.3.3.1), else the header, else all."""
    text = request.query_params.get("accept", "").replace("dicom ", "dicom+") or ",".join(request.headers.getlist("accept"))
    found: list[tuple[float, Range]] = []
    for element in _ELEMENT.findall(text)[:_MOST]:
        if not element.strip():
            continue
        parsed = media_type(element.strip())
        quality = _quality(parsed.parameters.get("q", "1"))
        part = parsed.parameters.get("type", "*/*").strip().lower()
        syntax = parsed.parameters.get("transfer-syntax", "").strip()
        if quality > 0:
            found.append((quality, Range(_OLD_NAMES.get(parsed.type, parsed.type), _OLD_NAMES.get(part, part), syntax)))
    if not text.strip():
        return [Range("*/*", "*/*", "")]
    return [each for _, each in sorted(found, key=lambda pair: -pair[0])]


def json(request: Request) -> str:
    """The media type of a JSON answer. Raises `NotAcceptable`; DICOM's XML is not offered."""
    for wanted in ranges(request):
        if wanted.type in (DICOM_JSON, JSON):
            return wanted.type
        if wanted.type in ("*/*", "application/*"):
            return DICOM_JSON
    raise NotAcceptable(f"this resource is offered as {DICOM_JSON}")


def instances(request: Request, stored: Iterable[str], *, single: bool) -> Form:
    """How whole instances of the transfer syntaxes `stored` are sent; `single` where there may be one without multipart."""
    needed = set(stored)
    wanted = ranges(request)
    for multipart in _by_preference(wanted, DICOM, single=single):
        taken = {each.syntax for each in wanted if each.takes(DICOM) and (each.is_multipart if multipart else each.type == DICOM)}
        if taken & {"", "*"} or needed <= taken:
            return Form(multipart, DICOM)
    raise NotAcceptable(
        f'instances are offered as {MULTIPART}; type="{DICOM}" in the transfer syntax that they are stored in (transfer-syntax=*)'
    )


def frames(request: Request, stored_type: str, stored_syntax: str, *, single: bool) -> Form:
    """How frames, or a bulk value, of a media type and transfer syntax are sent; `single` where there may be one without multipart."""
    for each in ranges(request):
        if not each.is_multipart and not single:
            continue
        if each.syntax not in ("", "*") and native(each.syntax) != stored_syntax:
            continue
        # Clients that want compressed frames whatever they are ask for octet streams.
        for type_ in (stored_type, OCTET_STREAM):
            if each.takes(type_):
                return Form(each.is_multipart, type_)
    raise NotAcceptable(f"this is offered as {stored_type}, in the transfer syntax that it is stored in (transfer-syntax=*)")


def image(request: Request, offered: tuple[str, ...]) -> str:
    """The media type of a rendered image, one of `offered`, the first by default (PS3.18 section 8.7.4)."""
    for each in ranges(request):
        for type_ in offered:
            if each.type in (type_, "image/*", *_ANY):
                return type_
    raise NotAcceptable(f"rendered images are offered as {', '.join(offered)}")


def native(syntax: str) -> str:
    """The transfer syntax that native frames are labelled with: pixels have no VR, so implicit and explicit are the same."""
    return EXPLICIT_VR_LITTLE_ENDIAN if syntax == IMPLICIT_VR_LITTLE_ENDIAN else syntax


def _by_preference(wanted: list[Range], type_: str, *, single: bool) -> list[bool]:
    order: list[bool] = []
    for each in wanted:
        if each.takes(type_) and (each.is_multipart or (single and each.type == type_)) and each.is_multipart not in order:
            order.append(each.is_multipart)
    return order


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
