"""Specific Character Set (0008,0005): DICOM bytes to text (PS3.5 section 6.1, PS3.3 section C.12.1.1.2).

Real files name their character set wrongly or not at all, so nothing here raises: a byte that does not decode becomes
U+FFFD, an unknown term counts as the default repertoire.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from pydicom.charset import decode_bytes, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

DEFAULT: tuple[str, ...] = ("iso8859",)

_TERMS = {term.upper().replace(" ", "_").replace("-", "_"): codec for term, codec in python_encoding.items()}


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
        return decode_bytes(raw, codecs, PN_DELIMS if person_name else TEXT_VR_DELIMS)
    except (UnicodeError, LookupError, Warning):
        return raw.decode(codecs[0], "replace")
