"""Specific Character Set (0008,0005): DICOM bytes to text and back (PS3.5 section 6.1, PS3.3 section C.12.1.1.2).

Real files name their character set wrongly or not at all, so nothing here raises: a byte that does not decode becomes
U+FFFD, an unknown term counts as the default repertoire.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pydicom.charset import _encode_string_impl, _encode_string_parts, decode_bytes, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

DEFAULT: tuple[str, ...] = ("iso8859",)

_TERMS = {term.upper().replace(" ", "_").replace("-", "_"): codec for term, codec in python_encoding.items()}

_PLAIN = frozenset(
    {"UTF8", "GB18030", "GBK", "latin_1", "iso8859_2", "iso8859_3", "iso8859_4", "iso_ir_126", "iso_ir_127", "iso_ir_138", "iso_ir_144",
     "iso_ir_148", "iso_ir_166"}
)  # fmt: skip
"""Codecs that say by themselves, without code extensions, what their Defined Term does."""
_DELIMITERS = {False: re.compile(r"([\\\r\n\t\f])"), True: re.compile(r"([\\^=])")}
_RUNS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
_BACK, _ROMAN, _GB2312 = b"\x1b(B", b"\x1b(J", b"\x1b$)A"
# Sets that take the place of ASCII until it is called back: JIS X 0208, JIS X 0212
_IN_G0 = (b"\x1b$B", b"\x1b$(D")


@lru_cache(maxsize=256)
def encodings(terms: bytes) -> tuple[str, ...]:
    """The Python codecs of a raw value of Specific Character Set, in order; never empty. Spelling slips are forgiven."""
    return of_terms(terms.decode("ascii", "replace").split("\\"))


def of_terms(terms: Iterable[str]) -> tuple[str, ...]:
    """As `encodings`, from terms that are already text."""
    codecs = [_TERMS.get(_normalised(term), DEFAULT[0]) for term in terms]
    return tuple(codecs) or DEFAULT


def _normalised(term: str) -> str:
    return term.strip(" \0").upper().replace(" ", "_").replace("-", "_")


def decode(raw: bytes, codecs: Sequence[str], *, person_name: bool = False) -> str:
    """`raw` as text, trailing padding removed. The backslash between values is still in it: decode first, then split,
    because a two-byte character may hold the byte 5C.
    """
    raw = raw.rstrip(b" \0")
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    if b"\x1b" not in raw:
        return raw.decode(codecs[0], "replace")
    try:
        text = decode_bytes(raw, codecs, PN_DELIMS if person_name else TEXT_VR_DELIMS)
        return text.replace(_GB2312.decode("ascii"), "")  # pydicom leaves it in
    except (UnicodeError, LookupError, Warning):
        return raw.decode(codecs[0], "replace")


def encode(text: str, codecs: Sequence[str], *, person_name: bool = False) -> bytes | None:
    """The reverse of `decode`, escape sequences included (PS3.5 section 6.1.2.5); None where these codecs cannot say all of it.

    `text` may hold several values, joined by backslashes. The default repertoire is ASCII here, whatever `decode` forgives.
    """
    if text.isascii():
        return text.encode("ascii")
    if len(codecs) == 1 and codecs[0] in _PLAIN:
        try:
            return text.encode(codecs[0])
        except UnicodeEncodeError:
            return None
    # Code extensions end at a delimiter (PS3.5 section 6.1.2.5.3), so each piece between two of them is encoded by itself.
    allowed = ["ascii" if codec == DEFAULT[0] else codec for codec in codecs]
    try:
        pieces = [_piece(piece, allowed) for piece in _DELIMITERS[person_name].split(text)]
    except ValueError:
        return None
    encoded = b"".join(pieces)
    return encoded if decode(encoded, codecs, person_name=person_name) == text.rstrip(" \0") else None


def _piece(text: str, codecs: list[str]) -> bytes:
    """Text without delimiters: runs of ASCII as they are, the others by the codec that can say them, ASCII called back after each."""
    parts = []
    for run in _RUNS.findall(text):
        if run.isascii():
            parts.append(run.encode("ascii"))
            continue
        encoded = _encode_string_parts(run, codecs) if len(codecs) > 1 else _encode_string_impl(run, codecs[0])
        if b"\x1b" not in encoded and "iso_ir_58" in codecs[1:]:
            encoded = _GB2312 + encoded  # pydicom leaves it out
        tail = _BACK if any(escape in encoded for escape in _IN_G0) and not encoded.endswith((_BACK, _ROMAN)) else b""
        parts.append(encoded + tail)
    return b"".join(parts)
