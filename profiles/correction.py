"""Correcting what an instance says of its patient and study, with every other byte left as it is (PS3.4 section B.4.1.3, coercion).

A correction is attributes in the DICOM JSON Model (PS3.18 annex F) by tag. In the file each takes the place of the element of
its tag, or is put where its tag belongs; pixel data, private elements and all else are copied.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from struct import pack
from typing import BinaryIO, Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from profiles import character_sets, part10
from profiles.byte_source import MAX_INFLATED, HeaderError
from profiles.dicom_json import Attribute, Attributes
from profiles.study import Patient, Study
from profiles.vocabulary import (
    DEFLATED_TRANSFER_SYNTAXES,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

CORRECTABLE: Final = {
    "00080020": "DA", "00080030": "TM", "00080050": "SH", "00080090": "PN", "00081030": "LO",
    "00100010": "PN", "00100020": "LO", "00100021": "LO", "00100024": "SQ", "00100030": "DA", "00100040": "CS",
    "0020000D": "UI", "00200010": "SH",
}  # fmt: skip
"""Attributes of PS3.3 sections C.7.1.1, C.7.2.1 that a correction may have, with their VR. A sequence can only be removed."""

_CHARACTER_SET: Final = 0x00080005
_UTF8: Final = b"ISO_IR 192"
_TEXT: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_LONG: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_CHUNK: Final = 1 << 18


class CannotCorrect(ValueError):
    """The file cannot say what the correction wants. The message holds no value."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """Bytes `start` to `end` of the Data Set become `data`."""

    start: int
    end: int
    data: bytes


def patient_attributes(patient: Patient, default_authority: str) -> Attributes:
    """PS3.3 table C.7-1: the patient as every instance of hers must say it.

    `default_authority` is the OID of identifiers that come without an issuer; any other is named in Issuer of Patient ID.
    """
    authority = patient.identifier.authority
    issuer = "" if authority.oid == default_authority else authority.namespace or authority.oid
    name = {
        group: text
        for group, text in zip(("Alphabetic", "Ideographic", "Phonetic"), patient.name.split("="), strict=False)
        if text
    }
    return {
        "00100010": {"vr": "PN", **({"Value": [name]} if name else {})},
        "00100020": _one("LO", patient.identifier.value),
        "00100021": _one("LO", issuer),
        "00100024": {"vr": "SQ"},
        "00100030": _one("DA", patient.birth_date),
        "00100040": _one("CS", patient.sex),
    }


def study_attributes(study: Study) -> Attributes:
    """PS3.3 table C.7-3: the study's own attributes as a correction."""
    name = {
        group: text
        for group, text in zip(("Alphabetic", "Ideographic", "Phonetic"), study.referring_physician.split("="), strict=False)
        if text
    }
    return {
        "00080020": _one("DA", study.date),
        "00080030": _one("TM", study.time),
        "00080050": _one("SH", study.accession_number),
        "00080090": {"vr": "PN", **({"Value": [name]} if name else {})},
        "00081030": _one("LO", study.description),
        "00200010": _one("SH", study.study_id),
    }


def text(attribute: Attribute) -> str:
    """The first value as text; a PN with its component groups joined by `=`."""
    values = attribute.get("Value")
    value: object = values[0] if isinstance(values, list) and values else ""
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return str(value)


def checked(attributes: object) -> Attributes:
    """Attributes that somebody gave, if they are a correction. Raises `CannotCorrect` naming the attribute at fault."""
    if not isinstance(attributes, dict) or not attributes:
        raise CannotCorrect("a correction is a JSON object of attributes in the DICOM JSON Model (PS3.18 annex F)")
    for tag, attribute in attributes.items():
        vr = CORRECTABLE.get(tag)
        if vr is None:
            raise CannotCorrect(f"attribute {str(tag)[:16]} cannot be corrected; these can: {', '.join(CORRECTABLE)}")
        if not isinstance(attribute, dict) or attribute.get("vr") != vr or len(attribute.get("Value") or []) > (vr != "SQ"):
            raise CannotCorrect(f"attribute {tag} has vr {vr} and at most one Value")
        value = text(attribute)
        if "\\" in value or not value.isprintable() or len(value) > (194 if vr == "PN" else 64):
            raise CannotCorrect(f"attribute {tag} has a value that VR {vr} cannot have (PS3.5 table 6.2-1)")
    return attributes


def json_corrected(metadata: Mapping[str, Attribute], attributes: Mapping[str, Attribute]) -> Attributes:
    """The same correction of an instance's DICOM JSON. A sequence without items removes the attribute."""
    kept = {tag: value for tag, value in metadata.items() if tag not in attributes}
    kept.update((tag, value) for tag, value in attributes.items() if value["vr"] != "SQ")
    return dict(sorted(kept.items()))


def corrected(file: BinaryIO, attributes: Mapping[str, Attribute]) -> Iterator[bytes]:
    """The Part 10 file with `attributes` in place of its own, in chunks. The File Meta Information stays.

    Values are written in the file's own character sets; where these cannot say a value and all text of the file is ASCII, it
    becomes UTF-8. Raises `CannotCorrect` where that is not possible either, `HeaderError` for what is no DICOM file.
    """
    parsed = part10.parse(file)
    if parsed.transfer_syntax_uid in DEFLATED_TRANSFER_SYNTAXES:
        yield from _deflated(file, parsed, attributes)
        return
    position = 0
    for edit in _edits(parsed.dataset, parsed.transfer_syntax_uid, attributes, parsed.dataset_offset):
        yield from _copied(file, position, edit.start)
        yield edit.data
        position = edit.end
    yield from _copied(file, position, None)


def _deflated(file: BinaryIO, parsed: part10.Part10, attributes: Mapping[str, Attribute]) -> Iterator[bytes]:
    """PS3.5 section A.5: inflated, corrected and deflated again."""
    file.seek(parsed.dataset_offset)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflate.decompress(file.read(), MAX_INFLATED)
    if inflate.unconsumed_tail:
        raise HeaderError("the deflated data set inflates to more than is taken")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    yield from _copied(file, 0, parsed.dataset_offset)
    source, position = BytesIO(body), 0
    for edit in _edits(parsed.dataset, EXPLICIT_VR_LITTLE_ENDIAN, attributes, 0):
        for piece in (*_copied(source, position, edit.start), edit.data):
            yield deflate.compress(piece)
        position = edit.end
    for piece in _copied(source, position, None):
        yield deflate.compress(piece)
    tail = deflate.flush()
    yield tail


def _edits(dataset: Dataset, syntax: str, attributes: Mapping[str, Attribute], start: int) -> list[_Edit]:
    """In the order of their tags, which is that of the file."""
    codecs, becomes_utf8 = _codecs(dataset, attributes)
    wanted: dict[int, tuple[str, bytes] | None] = {}
    for name, attribute in attributes.items():
        vr = str(attribute["vr"])
        wanted[int(name, 16)] = None if vr == "SQ" else (vr, _encoded(attribute, codecs))
    if becomes_utf8:
        wanted[_CHARACTER_SET] = ("CS", _UTF8)
    # Group lengths would be wrong; they are retired (PS3.5 section 7.2).
    wanted.update({tag & 0xFFFF0000: None for tag in tuple(wanted)})
    tags = sorted(int(tag) for tag in dataset._dict)
    starts = {tag: _start(dataset, tag, syntax) for tag in tags}
    edits = []
    for tag in sorted(wanted):
        value = wanted[tag]
        after = next((other for other in tags if other > tag), None)
        end = starts[after] if after is not None else None
        if tag in starts:
            begin = starts[tag]
            if end is None:
                raise CannotCorrect("an attribute of patient or study is the last of the data set")
        elif value is None:
            continue
        else:
            if end is None:
                raise CannotCorrect("the data set ends before its patient and study")
            begin = end
        edits.append(_Edit(begin, end, _element(tag, *value, syntax) if value is not None else b""))
    if any(one.start < start for one in edits):
        raise CannotCorrect("the elements of the data set are not in the order of their tags (PS3.5 section 7.1)")
    if any(a.end > b.start for a, b in pairwise(edits)):
        raise CannotCorrect("the elements of the data set are not in the order of their tags (PS3.5 section 7.1)")
    return edits


def _start(dataset: Dataset, tag: int, syntax: str) -> int:
    """Where the element begins in the file: before its value stand tag, VR and length (PS3.5 section 7.1)."""
    element = part10.stored(dataset, tag)
    assert element is not None
    if isinstance(element, RawDataElement):
        return element.value_tell - (8 if element.is_implicit_VR or element.VR not in _LONG else 12)
    return int(element.file_tell or 0) - (8 if syntax == IMPLICIT_VR_LITTLE_ENDIAN else 12)


def _codecs(dataset: Dataset, attributes: Mapping[str, Attribute]) -> tuple[tuple[str, ...], bool]:
    element = part10.stored(dataset, _CHARACTER_SET)
    codecs = character_sets.DEFAULT
    if element is not None and isinstance(element.value, bytes):
        codecs = character_sets.encodings(element.value)
    if all(character_sets.encode(text(each), codecs, person_name=each["vr"] == "PN") is not None for each in attributes.values()):
        return codecs, False
    if not _is_ascii(dataset):
        raise CannotCorrect("the character set of the images cannot say the corrected value")
    return ("UTF8",), True


def _is_ascii(dataset: Dataset) -> bool:
    """Whether all text of the data set and its items is ASCII without escape sequences."""
    for tag in dataset._dict:
        element = part10.stored(dataset, tag)
        value: object = getattr(element, "value", None)
        if isinstance(element, RawDataElement):
            text_vr = (element.VR or part10.represented(dataset, tag)) in _TEXT
            if isinstance(value, bytes) and text_vr and (not value.isascii() or b"\x1b" in value):
                return False
        elif isinstance(value, Iterable) and not all(_is_ascii(item) for item in value if isinstance(item, Dataset)):
            return False
    return True


def _encoded(attribute: Attribute, codecs: tuple[str, ...]) -> bytes:
    vr = str(attribute["vr"])
    value = character_sets.encode(text(attribute), codecs, person_name=vr == "PN")
    assert value is not None
    return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)


def _element(tag: int, vr: str, value: bytes, syntax: str) -> bytes:
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    head = pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT_VR_LITTLE_ENDIAN:
        return head + pack("<I", len(value)) + value
    return head + vr.encode("ascii") + pack(f"{order}H", len(value)) + value


def _copied(file: BinaryIO, start: int, end: int | None) -> Iterator[bytes]:
    file.seek(start)
    left = end - start if end is not None else None
    while left is None or left > 0:
        data = file.read(_CHUNK if left is None else min(_CHUNK, left))
        if not data:
            return
        if left is not None:
            left -= len(data)
        yield data


def _one(vr: str, value: str) -> Attribute:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}
