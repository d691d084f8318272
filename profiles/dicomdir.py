"""DICOMDIR: the Media Storage Directory of a File-set (PS3.10 section 8, PS3.3 annex F), from what the catalogue has.

Records come from DICOM JSON Model objects, so no file is opened. A key that its module demands and an instance lacks is made up
as dcmtk's `dcmmkdir` does with `--invent`: a directory with a date of 1900 is read, one without is not.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from profiles.data_set_writer import element, encode, part10_head
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, KEY_OBJECT_SELECTION

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

Attributes = Mapping[str, object]
_Keys = tuple[tuple[str, str, bool], ...]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# PS3.3 table F.4-1 by SOP Class; what is not here is an IMAGE where it has pixels, and else RAW DATA.
TYPES: Final = {
    KEY_OBJECT_SELECTION: "KEY OBJECT DOC",
    **{f"{_STORAGE}11.{n}": "PRESENTATION" for n in range(1, 13)},
    f"{_STORAGE}131": "PRESENTATION",
    **{f"{_STORAGE}88.{n}": "SR DOCUMENT" for n in (11, 22, 33, 34, 35, 40, 50, 65, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76)},
    **{f"{_STORAGE}{n}": "SR DOCUMENT" for n in ("78.6", "79.1")},
    **{f"{_STORAGE}104.{n}": "ENCAP DOC" for n in range(1, 6)},
    **{f"{_STORAGE}9.{n}": "WAVEFORM" for n in (
        "1.1", "1.2", "1.3", "1.4", "2.1", "3.1", "4.1", "4.2", "5.1", "6.1", "6.2", "7.1", "7.2", "7.3", "7.4", "8.1",
    )},
    f"{_STORAGE}481.2": "RT DOSE",
    f"{_STORAGE}481.3": "RT STRUCTURE SET",
    **{f"{_STORAGE}481.{n}": "RT PLAN" for n in (5, 8)},
    **{f"{_STORAGE}481.{n}": "RT TREAT RECORD" for n in (4, 6, 7, 9)},
    f"{_STORAGE}4.2": "SPECTROSCOPY",
    **{f"{_STORAGE}66.{n}": "REGISTRATION" for n in (1, 3)},
    f"{_STORAGE}66.2": "FIDUCIAL",
    f"{_STORAGE}66.5": "SURFACE",
    f"{_STORAGE}66.6": "TRACT",
    f"{_STORAGE}67": "VALUE MAP",
}  # fmt: skip

# PS3.3 section F.5: keys of each record, (tag, VR, whether a value is demanded).
_NUMBER: Final = ("00200013", "IS", True)
_CONTENT: Final[_Keys] = (("00080023", "DA", True), ("00080033", "TM", True), _NUMBER)
_LABELLED: Final[_Keys] = (*_CONTENT, ("00700080", "CS", True), ("00700081", "LO", False), ("00700084", "PN", False))
KEYS: Final[dict[str, _Keys]] = {
    "PATIENT": (("00100010", "PN", False), ("00100020", "LO", True)),
    "STUDY": (
        ("00080020", "DA", True), ("00080030", "TM", True), ("00080050", "SH", False), ("00081030", "LO", False),
        ("0020000D", "UI", True), ("00200010", "SH", True),
    ),
    "SERIES": (("00080060", "CS", True), ("0020000E", "UI", True), ("00200011", "IS", True)),
    "IMAGE": (_NUMBER,),
    "RAW DATA": _CONTENT,
    "KEY OBJECT DOC": (*_CONTENT, ("0040A043", "SQ", True)),
    "SR DOCUMENT": (*_CONTENT, ("0040A491", "CS", True), ("0040A493", "CS", True), ("0040A043", "SQ", True)),
    "PRESENTATION": (
        ("00700080", "CS", True), ("00700081", "LO", False), ("00700082", "DA", True), ("00700083", "TM", True),
        ("00700084", "PN", False), _NUMBER,
    ),
    "ENCAP DOC": (
        ("00080023", "DA", False), ("00080033", "TM", False), _NUMBER, ("0040A043", "SQ", False), ("00420010", "ST", False),
        ("00420012", "LO", True),
    ),
    "WAVEFORM": _CONTENT,
    "RT DOSE": (_NUMBER, ("3004000A", "CS", True)),
    "RT STRUCTURE SET": (_NUMBER, ("30060002", "SH", True), ("30060008", "DA", False), ("30060009", "TM", False)),
    "RT PLAN": (_NUMBER, ("300A0002", "SH", True), ("300A0006", "DA", False), ("300A0007", "TM", False)),
    "RT TREAT RECORD": (_NUMBER, ("30080250", "DA", False), ("30080251", "TM", False)),
    "SPECTROSCOPY": (
        *_CONTENT, ("00080008", "CS", True), ("00280008", "IS", True), ("00280010", "US", True), ("00280011", "US", True),
        ("00289001", "UL", True), ("00289002", "UL", True),
    ),
    "REGISTRATION": _LABELLED, "FIDUCIAL": _LABELLED, "VALUE MAP": _LABELLED, "SURFACE": _LABELLED, "TRACT": _LABELLED,
}  # fmt: skip
# Type 1C or 3: kept where present. For a viewer that sorts and lays out before it opens a file (PS3.11 tables E.3-1, E.3-2).
_OPTIONAL: Final[dict[str, tuple[str, ...]]] = {
    "PATIENT": ("00100030", "00100040"),
    "SERIES": ("0008103E", "00080080"),
    "IMAGE": ("00080008", "00200032", "00200037", "00200052", "00280008", "00280010", "00280011", "00280030"),
    "PRESENTATION": ("00081115",),
    "ENCAP DOC": ("0040E001",),
}
_INVENTED: Final[dict[str, object]] = {
    "DA": "19000101", "TM": "000000", "SH": "0", "LO": "UNKNOWN", "CS": "UNKNOWN", "IS": 0, "US": 1, "UL": 1,
    "0040A491": "PARTIAL", "0040A493": "UNVERIFIED",
}  # fmt: skip
_UNTITLED: Final = {
    "00080100": {"vr": "SH", "Value": ["111150"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Imaging Report"]},
}

_VERIFIERS, _VERIFIED = "0040A073", "0040A030"

NEEDED: Final = frozenset(
    {_VERIFIERS} | {tag for keys in KEYS.values() for tag, _, _ in keys} | {tag for tags in _OPTIONAL.values() for tag in tags}
)
"""The attributes of an instance that a directory may name, as keys of a DICOM JSON Model object."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of the set. `file_id` are the components of its File ID; `attributes` a model object with what `NEEDED` names."""

    file_id: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attributes: Attributes


@dataclass(slots=True)
class _Record:
    type: str
    keys: bytes
    reference: bytes = b""
    below: "dict[str, _Record]" = field(default_factory=dict)
    at: int = 0
    next: int = 0


def file_ids(series_of: Sequence[str]) -> list[tuple[str, ...]]:
    """PS3.10 section 8.2: a File ID for each file of one study, given the series of each; a folder a series, eight letters at most."""
    numbers: dict[str, int] = {}
    counts: dict[str, int] = {}
    found: list[tuple[str, ...]] = []
    for series in series_of:
        number = numbers.setdefault(series, len(numbers) + 1)
        counts[series] = counts.get(series, 0) + 1
        found.append(("DICOM", f"SE{number:06}", f"IM{counts[series]:06}"))
    return found


def dicomdir(files: Sequence[File], uid: str) -> bytes:
    """PS3.3 section F.3: the DICOMDIR file of these files, in their order; `uid` is its Media Storage SOP Instance UID.

    Raises `profiles.data_set_writer.ModelError` where attributes are no DICOM JSON Model.
    """
    root: dict[str, _Record] = {}
    for file in files:
        patient = _under(root, "PATIENT", "00100020", file.attributes)
        study = _under(patient.below, "STUDY", "0020000D", file.attributes)
        series = _under(study.below, "SERIES", "0020000E", file.attributes)
        type_ = _record_type(file)
        series.below[file.sop_instance_uid] = _Record(type_, _keys(type_, file.attributes), _reference(file))
    head = part10_head(MEDIA_STORAGE_DIRECTORY, uid, EXPLICIT_VR_LITTLE_ENDIAN)
    records: list[_Record] = []
    end = _place(root, records, len(head) + len(_before(0, 0, 0)))
    first, last = (records[0].at, list(root.values())[-1].at) if records else (0, 0)
    return b"".join((head, _before(first, last, end - len(head) - len(_before(0, 0, 0))), *map(_item, records)))


def _under(above: dict[str, _Record], type_: str, named_by: str, attributes: Attributes) -> _Record:
    name = str(_first(attributes, named_by))
    found = above.get(name)
    if found is None:
        found = above[name] = _Record(type_, _keys(type_, attributes))
    return found


def _record_type(file: File) -> str:
    return TYPES.get(file.sop_class_uid) or ("IMAGE" if _first(file.attributes, "00280010") else "RAW DATA")


def _keys(type_: str, attributes: Attributes) -> bytes:
    keys: dict[str, object] = {tag: attributes[tag] for tag in _OPTIONAL.get(type_, ()) if _first(attributes, tag) is not None}
    if type_ == "SR DOCUMENT" and (verified := _last_verified(attributes)):
        keys[_VERIFIED] = {"vr": "DT", "Value": [verified]}
    for tag, vr, demanded in KEYS[type_]:
        value = _first(attributes, tag, vr)
        if value is None and demanded:
            value = _UNTITLED if vr == "SQ" else _INVENTED.get(tag, _INVENTED.get(vr))
        keys[tag] = {"vr": vr} if value is None else {"vr": vr, "Value": [value]}
    return b"".join(piece for piece in encode(keys, {}) if isinstance(piece, bytes))


def _first(attributes: Attributes, tag: str, vr: str = "") -> object:
    """The first value of an attribute; None where there is none, or it is of another VR."""
    attribute = attributes.get(tag)
    if not isinstance(attribute, dict) or (vr and attribute.get("vr") != vr):
        return None
    values = attribute.get("Value")
    return values[0] if isinstance(values, list) and values else None


def _last_verified(attributes: Attributes) -> str:
    """PS3.3 section F.5 (SR Document): Verification DateTime, the latest of a verified document's observers; empty where it is not verified."""
    observers = attributes.get(_VERIFIERS)
    if _first(attributes, "0040A493") != "VERIFIED" or not isinstance(observers, dict):
        return ""
    times = (_first(observer, _VERIFIED) for observer in observers.get("Value", []) if isinstance(observer, dict))
    return max((time for time in times if isinstance(time, str)), default="")


def _reference(file: File) -> bytes:
    return b"".join(
        (
            element(0x00041500, "CS", "\\".join(file.file_id).encode("ascii")),
            element(0x00041510, "UI", file.sop_class_uid.encode("ascii")),
            element(0x00041511, "UI", file.sop_instance_uid.encode("ascii")),
            element(0x00041512, "UI", file.transfer_syntax_uid.encode("ascii")),
        )
    )


def _place(level: dict[str, _Record], records: list[_Record], at: int) -> int:
    """Gives each record of a level, and what is below it, its place in the file; returns where they end."""
    before: _Record | None = None
    for record in level.values():
        record.at = at
        if before is not None:
            before.next = at
        records.append(record)
        at = _place(record.below, records, at + len(_item(record)))
        before = record
    return at


def _item(record: _Record) -> bytes:
    """PS3.3 table F.3-3: a Directory Record."""
    lower = next(iter(record.below.values())).at if record.below else 0
    content = b"".join(
        (
            element(0x00041400, "UL", struct.pack("<L", record.next)),
            element(0x00041410, "US", b"\xff\xff"),
            element(0x00041420, "UL", struct.pack("<L", lower)),
            element(0x00041430, "CS", record.type.encode("ascii")),
            record.reference,
            record.keys,
        )
    )
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def _before(first: int, last: int, length: int) -> bytes:
    """PS3.3 tables F.3-1 and F.3-2: File-set Identification and what precedes the records, which are `length` bytes."""
    return b"".join(
        (
            element(0x00041130, "CS", b"IMAGESHARE"),
            element(0x00041200, "UL", struct.pack("<L", first)),
            element(0x00041202, "UL", struct.pack("<L", last)),
            element(0x00041212, "US", b"\0\0"),
            struct.pack("<HH2sHL", 0x0004, 0x1220, b"SQ", 0, length),
        )
    )
