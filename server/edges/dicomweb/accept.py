"""Content negotiation: PS3.18 section 8.7 over RFC 9110 section 12.5.1.

The most wanted media range that can be met decides; among those wanted alike, one that needs no transcoding. What a range says
with its `transfer-syntax` parameter (PS3.18 section 8.7.3.5.2):

- one that is named is met as stored or by transcoding (`server.work.transcode`);
- `*` is met as stored, and the header of each part says in which syntax;
- none, with a media type that is named in full, is that type's default: Explicit VR Little Endian for application/dicom and
  application/octet-stream. What cannot be decoded here is sent as stored even then: an answer that its reader can tell is of more
  use than 406;
- none, with a wildcard or without any Accept, leaves it to us: as stored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final

from starlette.requests import Request

from ihe.multipart import media_type
from profiles.frames import media_type as media_type_of
from profiles.transfer_syntaxes import DECODED, ENCODED
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM
from server.errors import NotAcceptable
from server.work.transcode import acceptable

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
    quality: float = 1.0

    @property
    def is_multipart(self) -> bool:
        return self.type in (MULTIPART, "multipart/*", *_ANY)

    def takes(self, type_: str) -> bool:
        """Whether an answer (or, in a multipart one, a part) may have this media type."""
        wanted = self.part if self.type in (MULTIPART, "multipart/*") else self.type
        return wanted in _ANY or wanted == type_ or (wanted.endswith(("/*", "/")) and type_.startswith(wanted.rstrip("*")))

    def names(self, type_: str) -> bool:
        """Whether it does so without a wildcard."""
        return (self.part if self.type in (MULTIPART, "multipart/*") else self.type) == type_

    def syntax_of(self, type_: str) -> str:
        """The transfer syntax that it asks for: `*` also where it names neither syntax nor media type."""
        return self.syntax or ("" if self.names(type_) else "*")


@dataclass(frozen=True, slots=True)
class Form:
    """What was agreed: multipart or a single part, the media type of the parts, and the transfer syntax that frames are sent in."""

    multipart: bool
    type: str
    syntax: str = ""
    tiers: tuple[tuple[str, ...], ...] = ()

    def syntax_for(self, stored: str, *, pixels: bool) -> str | None:
        """The transfer syntax to send a whole instance in; None where it cannot be had in any that is wanted."""
        for tier in self.tiers:
            if "*" in tier:
                return stored
            found = acceptable(stored, [syntax or EXPLICIT_VR_LITTLE_ENDIAN for syntax in tier], pixels=pixels)
            if found is not None:
                return found
        return stored if any("" in tier for tier in self.tiers) else None


def ranges(request: Request) -> list[Range]:
    """What the client takes, most wanted first: the `accept` query parameter (PS3.18 section 8.3.3.1), else the header, else all."""
    return _ranges(
        request.query_params.get("accept", "").replace("dicom ", "dicom+") or ",".join(request.headers.getlist("accept"))
    )


@lru_cache(maxsize=256)
def _ranges(text: str) -> list[Range]:
    """Clients say the same each time."""
    found: list[tuple[float, Range]] = []
    for element in _ELEMENT.findall(text)[:_MOST]:
        if not element.strip():
            continue
        parsed = media_type(element.strip())
        quality = _quality(parsed.parameters.get("q", "1"))
        part = parsed.parameters.get("type", "*/*").strip().lower()
        syntax = parsed.parameters.get("transfer-syntax", "").strip()
        if quality > 0:
            found.append((quality, Range(_OLD_NAMES.get(parsed.type, parsed.type), _OLD_NAMES.get(part, part), syntax, quality)))
    if not text.strip():
        return [Range("*/*", "*/*", "")]
    return [each for _, each in sorted(found, key=lambda pair: -pair[0])]


def instances(request: Request, stored: Iterable[tuple[str, bool]], *, single: bool) -> Form:
    """How whole instances are sent; `single` where there may be one without multipart. `stored` are transfer syntaxes, and whether with pixels."""
    needed = set(stored)
    wanted = ranges(request)
    for multipart in _by_preference(wanted, DICOM, single=single):
        taken = [each for each in wanted if each.takes(DICOM) and (each.is_multipart if multipart else each.type == DICOM)]
        tiers = [tuple(each.syntax_of(DICOM) for each in group) for _, group in groupby(taken, lambda each: each.quality)]
        form = Form(multipart, DICOM, tiers=tuple(tiers))
        if all(form.syntax_for(syntax, pixels=pixels) for syntax, pixels in needed):
            return form
    raise NotAcceptable(
        f'instances are offered as {MULTIPART}; type="{DICOM}" in the transfer syntax that they are stored in (transfer-syntax=*)'
        f" and, where their pixels can be decoded, in {', '.join(ENCODED)}"
    )


def frames(request: Request, stored_type: str, stored: str, *, single: bool, transcodes: bool = True) -> Form:
    """How frames, or a bulk value, of a media type and transfer syntax are sent; `single` where there may be one without multipart."""
    wanted = [each for each in ranges(request) if each.is_multipart or single]
    for _, group in groupby(wanted, lambda each: each.quality):
        alike = list(group)
        for choose in (_as_stored, _transcoded) if transcodes else (_as_stored,):
            for each in alike:
                if found := choose(each, stored_type, stored):
                    return Form(each.is_multipart, *found)
    for each in wanted:  # a default that cannot be had
        if each.takes(OCTET_STREAM) and not each.syntax:
            return Form(each.is_multipart, OCTET_STREAM, stored)
    raise NotAcceptable(f"this is offered as {stored_type}, in the transfer syntax that it is stored in (transfer-syntax=*)")


def _as_stored(each: Range, stored_type: str, stored: str) -> tuple[str, str] | None:
    # Clients that want compressed frames whatever they are ask for octet streams of any transfer syntax.
    for type_ in (stored_type, OCTET_STREAM):
        if each.takes(type_):
            syntax = each.syntax_of(type_)
            if syntax == "*" or native(syntax) == stored or (not syntax and type_ == stored_type and type_ != OCTET_STREAM):
                return type_, stored
    return None


def _transcoded(each: Range, _: str, stored: str) -> tuple[str, str] | None:
    if stored not in DECODED:
        return None
    for syntax in ENCODED:
        type_ = media_type_of(syntax)
        if each.takes(type_) and (each.syntax == syntax or (each.syntax in ("", "*") and each.names(type_))):
            return type_, native(syntax)
    return None


def image(request: Request, offered: tuple[str, ...]) -> str:
    """The media type of a rendered image, one of `offered`, the first by default (PS3.18 section 8.7.4)."""
    return images(request, offered).type


def images(request: Request, offered: tuple[str, ...], *, several: bool = False) -> Form:
    """As `image`; with `several` images the answer is multipart, and else where the client asks for that."""
    for each in ranges(request):
        for type_ in offered:
            multipart = each.type in (MULTIPART, "multipart/*")
            if each.takes(type_) and (multipart or not several or each.type in (*_ANY, "image/*")):
                return Form(multipart or several, type_)
    names = [f'{MULTIPART}; type="{type_}"' for type_ in offered] if several else offered
    raise NotAcceptable(f"rendered images are offered as {', '.join(names)}")


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
