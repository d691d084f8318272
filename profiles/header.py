"""A DICOM header as a `Study` value: what every face of a study is projected from (PS3.3 sections C.7.1 to C.7.3, C.12.1).

Strict about the four UIDs that make a study addressable, lenient about all else: real files hold values that are too long,
of another VR, multi-valued or absurd, and a study with a strange date is still a study.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import BinaryIO, Final, Literal

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from profiles import character_sets, part10
from profiles.identifiers import AssigningAuthority, InvalidIdentifier, PatientIdentifier, lenient_uid, uid, uuid_oid
from profiles.part10 import HeaderError
from profiles.study import Instance, Patient, Series, Study
from profiles.vocabulary import UNIVERSAL_ID_ISO, UNIVERSAL_ID_UUID

__all__ = [
    "IDENTITY_TAGS", "INSTANCE_TAGS", "TAGS", "HeaderError", "PatientDomains", "extract", "extract_instance", "read",
]  # fmt: skip

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SERIES_INSTANCE_UID: Final = 0x0020000E
_REQUIRED_IN: Final = {_STUDY_INSTANCE_UID: "PS3.3 section C.7.2.1", _SERIES_INSTANCE_UID: "PS3.3 section C.7.3.1"}
_PIXELS: Final = (0x7FE00010, 0x7FE00008, 0x7FE00009)
_MODALITY_ABSENT: Final = "OT"

IDENTITY_TAGS: Final = (0x00080005, 0x00100020, 0x00100021, 0x00100024, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID)
"""What decides which patient, study and series an instance belongs to: equal bytes of these, equal identifiers."""

INSTANCE_TAGS: Final = (
    0x00080005, _SOP_CLASS_UID, _SOP_INSTANCE_UID, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x0040A043, 0x00420010,
    0x00700080, 0x00700081, *sorted(_PIXELS),
)  # fmt: skip
"""What `extract_instance` looks at, ascending."""

TAGS: Final = tuple(
    sorted({
        *IDENTITY_TAGS, *INSTANCE_TAGS, 0x00080020, 0x00080021, 0x00080030, 0x00080031, 0x00080050, 0x00080051, 0x00080060,
        0x00080080, 0x00080090, 0x00080201, 0x00081030, 0x0008103E, 0x00100010, 0x00100030, 0x00100040, 0x00180015, 0x00200010,
        0x00200011, 0x00200060,
    })
)  # fmt: skip
"""What `extract` looks at, ascending."""

_DATE = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6})\d*)?)?)?")
_ZONE = re.compile(r"([+-])(\d{2}):?(\d{2})")
_NUMBER = re.compile(r"([+-]?\d{1,12})(?:\.\d*)?")
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class PatientDomains:
    """Which assigning authority a patient id belongs to when the images say little about it.

    `root` is the installation's OID, `default` the authority of ids without issuer, `unidentified` that of studies without
    patient id, `named` maps issuer names (0010,0021) to authorities. `believed` is False for images that anybody may have made: whoever
    they say has assigned their patient ids, they are `default`'s.
    """

    root: str
    default: AssigningAuthority
    unidentified: AssigningAuthority
    named: Mapping[str, AssigningAuthority] = field(default_factory=dict)
    believed: bool = True

    def authority(self, namespace: str, universal_id: str, universal_id_type: str) -> AssigningAuthority:
        """PS3.3 section 10.14: the authority of an issuer given by name, by universal id, by both or not at all.

        In this order: the universal id (an OID, or a UUID as OID), a name that is itself an OID, a configured name, a
        derived OID for any other name, the default.
        """
        if not self.believed:
            return self.default
        oid = _oid(universal_id, universal_id_type) or _oid(namespace, UNIVERSAL_ID_ISO)
        if oid:
            known = (self.default, self.unidentified, *self.named.values())
            name = "" if namespace == oid else namespace
            return next((authority for authority in known if authority.oid == oid), AssigningAuthority(oid, name))
        if not namespace:
            return self.default
        return self.named.get(namespace) or AssigningAuthority.derived(self.root, namespace)


def read(file: BinaryIO) -> tuple[Dataset, str, int]:
    """PS3.10 section 7.1: a DICOM file's header, its Transfer Syntax UID, and the byte offset of its Data Set.

    `file` is binary, buffered and seekable. Pixel data and long binary values stay in the file (`profiles.part10.Part10`
    says how). Raises `HeaderError` for what is not a complete DICOM file within the limits of `profiles.part10`.
    """
    parsed = part10.parse(file)
    return parsed.dataset, parsed.transfer_syntax_uid, parsed.dataset_offset


def extract(dataset: Dataset, transfer_syntax_uid: str, domains: PatientDomains) -> Study:
    """PS3.3 sections C.7.1 to C.7.3, C.12.1: one header as a Study with exactly one Series with exactly one Instance.

    Raises `HeaderError` where one of the SOP Class, SOP Instance, Study or Series Instance UIDs is missing or malformed.
    A header without Patient ID gets its study's UID as identifier in `domains.unidentified`: two such studies are never
    taken for one patient's.
    """
    header = _Header(dataset)
    instance = _instance(header, transfer_syntax_uid)
    modality = header.code(0x00080060) or _MODALITY_ABSENT
    series = Series(
        series_instance_uid=header.required_uid(_SERIES_INSTANCE_UID),
        modality=modality,
        number=header.number(0x00200011),
        description=header.text(0x0008103E),
        body_part=header.code(0x00180015),
        laterality=header.code(0x00200060),
        date=_date(header.text(0x00080021)),
        time=_time(header.text(0x00080031)),
        instances=(instance,),
    )
    study_uid = header.required_uid(_STUDY_INSTANCE_UID)
    return Study(
        study_instance_uid=study_uid,
        patient=_patient(header, study_uid, domains),
        study_id=header.text(0x00200010),
        accession_number=header.whole(0x00080050),
        accession_authority=_accession_authority(header),
        date=_date(header.text(0x00080020)),
        time=_time(header.text(0x00080030)),
        timezone=_timezone(header.text(0x00080201)),
        description=header.text(0x00081030),
        referring_physician=header.text(0x00080090),
        institution=header.text(0x00080080),
        series=(series,),
        modalities=(modality,),
    )


def extract_instance(dataset: Dataset, transfer_syntax_uid: str) -> Instance:
    """PS3.3 section C.12.1: what `extract` finds of the instance itself; it looks only at `INSTANCE_TAGS`. Raises `HeaderError`."""
    return _instance(_Header(dataset), transfer_syntax_uid)


def _instance(header: "_Header", transfer_syntax_uid: str) -> Instance:
    return Instance(
        sop_instance_uid=header.required_uid(_SOP_INSTANCE_UID),
        sop_class_uid=header.required_uid(_SOP_CLASS_UID),
        transfer_syntax_uid=transfer_syntax_uid,
        number=header.number(0x00200013),
        rows=max(0, header.number(0x00280010) or 0),
        columns=max(0, header.number(0x00280011) or 0),
        frames=_frames(header),
        title=_title(header),
    )


def _patient(header: "_Header", study_uid: str, domains: PatientDomains) -> Patient:
    value = header.whole(0x00100020)
    if value:
        universal, kind = "", ""
        for item in header.items(0x00100024):
            universal, kind = item.text(0x00400032), item.text(0x00400033)
            if universal:
                break
        identifier = PatientIdentifier(value, domains.authority(header.text(0x00100021), universal, kind))
    else:
        identifier = PatientIdentifier(study_uid, domains.unidentified)
    sex = header.text(0x00100040).upper()
    return Patient(
        identifier=identifier,
        name=header.text(0x00100010),
        birth_date=_date(header.text(0x00100030)),
        sex=sex if sex in ("M", "F", "O") else "",
    )


def _accession_authority(header: "_Header") -> str:
    for item in header.items(0x00080051):
        if oid := _oid(item.text(0x00400032), item.text(0x00400033)):
            return oid
    return ""


def _frames(header: "_Header") -> int:
    pixels = any(tag in header.dataset for tag in _PIXELS)
    if not pixels and not (header.number(0x00280010) and header.number(0x00280011)):
        return 0
    return max(1, header.number(0x00280008) or 1)


def _title(header: "_Header") -> str:
    """What a document, presentation state or segmentation calls itself: its title code, Document Title, or Content Label."""
    for item in header.items(0x0040A043):
        if meaning := item.text(0x00080104):
            return meaning
    return header.text(0x00420010) or header.text(0x00700081) or header.text(0x00700080)


class _Header:
    """Values of a data set as clean text and numbers, whatever state they are in."""

    def __init__(self, dataset: Dataset, codecs: tuple[str, ...] = character_sets.DEFAULT) -> None:
        self.dataset = dataset
        own = self._value(0x00080005)
        self._codecs = character_sets.encodings(own) if isinstance(own, bytes) and own else codecs

    def _value(self, tag: int) -> object:
        """Raw bytes of an element that was read from a file, else pydicom's value; None where absent or left in the file."""
        element = part10.stored(self.dataset, tag)
        return None if element is None else element.value

    def whole(self, tag: int) -> str:
        """All of a value as text on one line, backslashes included: identifiers that are cut would meet."""
        element = part10.stored(self.dataset, tag)
        if element is None or element.value is None:
            return ""
        value: object = element.value
        if isinstance(value, bytes):
            name = element.VR == "PN" or (element.VR is None and part10.represented(self.dataset, tag) == "PN")
            text = character_sets.decode(value, self._codecs, person_name=name)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            text = "\\".join(str(part) for part in value)
        else:
            text = str(value)
        return _CONTROL.sub(" ", text).strip()

    def text(self, tag: int) -> str:
        """The first value that is not empty, as text on one line."""
        return next((part for part in map(str.strip, self.whole(tag).split("\\")) if part), "")

    def code(self, tag: int) -> str:
        """The first value as a Code String (PS3.5 table 6.2-1), empty where it is none."""
        text = self.text(tag).upper()
        return text if _CODE.fullmatch(text) else ""

    def number(self, tag: int) -> int | None:
        """The first value as a 32-bit integer: binary (US, SS, UL, SL) or text (IS, also with decimals)."""
        element = part10.stored(self.dataset, tag)
        if element is None or element.value is None:
            return None
        value, vr = element.value, element.VR
        if isinstance(value, bytes) and isinstance(element, RawDataElement):
            vr = vr if vr and vr != "UN" else part10.represented(self.dataset, tag)
            if vr in ("US", "SS", "UL", "SL"):
                width = 2 if vr in ("US", "SS") else 4
                order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
                return int.from_bytes(value[:width], order, signed=vr[0] == "S") if len(value) >= width else None
        found = _NUMBER.fullmatch(self.text(tag))
        number = int(found.group(1)) if found else None
        return number if number is not None and -(2**31) <= number < 2**31 else None

    def items(self, tag: int) -> "list[_Header]":
        """The items of a sequence; none where the element is something else."""
        value = self._value(tag)
        if not isinstance(value, Iterable):
            return []
        return [_Header(item, self._codecs) for item in value if isinstance(item, Dataset)]

    def required_uid(self, tag: int) -> str:
        """PS3.5 section 9.1: a UID without which nothing can be stored. Raises `HeaderError`."""
        value = self.whole(tag)
        if not value:
            where = _REQUIRED_IN.get(tag, "PS3.3 section C.12.1")
            raise HeaderError(f"{part10.keyword(tag)} is missing or empty; it is required ({where}, type 1)", tag)
        try:
            return lenient_uid(value)
        except InvalidIdentifier as error:
            raise HeaderError(f"{part10.keyword(tag)}: {error}", tag) from error


def _oid(value: str, kind: str) -> str:
    """`value` as an OID where it is one, or can be one: ISO, a UUID (ITU-T X.667), `urn:oid:`. Else empty."""
    text = value.strip().removeprefix("urn:oid:")
    kind = kind.strip().upper()
    if kind == UNIVERSAL_ID_UUID:
        try:
            return uuid_oid(uuid.UUID(text))
        except ValueError:
            return ""
    try:
        return uid(text) if kind in ("", UNIVERSAL_ID_ISO, "URI") and text.count(".") >= 2 else ""
    except InvalidIdentifier:
        return ""


def _date(text: str) -> str:
    """A DA value (PS3.5 table 6.2-1), also in the forms of ACR-NEMA; empty where it is no date of a living patient's files."""
    found = _DATE.match(text)
    if not found:
        return ""
    year, month, day = (int(part) for part in found.groups())
    try:
        date(year, month, day)
    except ValueError:
        return ""
    return f"{year:04}{month:02}{day:02}" if 1800 <= year < 2200 else ""


def _time(text: str) -> str:
    """A TM value (PS3.5 table 6.2-1), also with colons; empty where it is no time of day."""
    found = _TIME.fullmatch(text)
    if not found:
        return ""
    hours, minutes, seconds, fraction = found.groups()
    if int(hours) > 23 or int(minutes or 0) > 59 or int(seconds or 0) > 60:
        return ""
    return hours + (minutes or "") + (seconds or "") + (f".{fraction}" if fraction else "")


def _timezone(text: str) -> str:
    """Timezone Offset From UTC (PS3.3 section C.12.1.1.8): -1200 to +1400."""
    found = _ZONE.fullmatch(text)
    if not found:
        return ""
    sign, hours, minutes = found.groups()
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)
    return f"{sign}{hours}{minutes}" if int(minutes) < 60 and -720 <= offset <= 840 else ""
