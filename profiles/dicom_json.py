"""The DICOM JSON Model: PS3.18 annex F, and the results of QIDO-RS that are made of it.

Made from the raw bytes of a header, without pydicom's conversions: these refuse whole data sets for one dirty value. Here a
value that cannot be read leaves its attribute with its VR and no value, and nothing raises.
"""

import base64
import math
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from profiles import character_sets, part10
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.study import Instance, Series, Study

Attribute = dict[str, object]
Attributes = dict[str, Attribute]

_UTF8: Final = "ISO_IR 192"
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PIXEL_REPRESENTATION: Final = 0x00280103
_CHARACTER_SET: Final = 0x00080005

# PS3.5 table 6.2-1: array type codes of binary numbers, bytes per word of binary strings.
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_BINARY: Final = {"OB": 1, "UN": 1, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_ONE_TEXT: Final = frozenset({"ST", "LT", "UT", "UR"})
_CHARACTER_SETS_APPLY: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SWAPPED: Final = {2: "H", 4: "I", 8: "Q"}
# An attribute of one of these VRs may be given as bulk data: PS3.18 section F.2.2.
_BULK: Final = frozenset({"DS", "IS", "LT", "ST", "UC", "UT", *_NUMBERS, *_BINARY})


def metadata(dataset: Dataset, bulkdata_uri: Callable[[str], str], threshold: int = 1024) -> Attributes:
    """PS3.18 section 10.4.1.1.2: all attributes of an instance, with bulk data by reference.

    `bulkdata_uri` makes the URI of a value from its path: the tag (`7FE00010`), inside sequences with item numbers from 1
    (`54000100/1/54001010`). By reference go pixel data, binary values longer than `threshold` bytes, and values that the header
    left in the file. Keys are upper-case tags in ascending order. Never raises for what the data set holds.
    """
    return _Writer(bulkdata_uri, threshold).dataset(dataset, character_sets.DEFAULT, "", 0)


def level_attributes(dataset: Dataset, level: Level) -> Attributes:
    """PS3.18 tables 10.6.3-3 to -5: those attributes of one level that the data set has, and those of its modules in PS3.3."""
    writer = _Writer(None, sys.maxsize)
    tags = (*REQUIRED[level], *OPTIONAL[level], *MORE[level])
    return writer.some(dataset, (int(tag, 16) for tag in tags))


def query_result(
    level: Level,
    study: Study,
    series: Series | None,
    instance: Instance | None,
    attributes: Mapping[str, Attribute],
    retrieve_url: str,
) -> Attributes:
    """PS3.18 section 10.6.3.3: one result of a search, the stored `attributes` with what the catalogue knows besides.

    `series` is needed from level `series` on, `instance` at level `instance`. The catalogue's identifying values replace stored
    ones, so that a corrected patient is found corrected. Every required attribute is present, without value where unknown.
    """
    result: Attributes = {tag: {"vr": vr} for tag, vr in REQUIRED[level].items()}
    result.update(attributes)
    result["00080056"] = _strings("CS", "ONLINE")
    result["00081190"] = _strings("UR", retrieve_url)
    result["0020000D"] = _strings("UI", study.study_instance_uid)
    if level == "study":
        _overlay(result, _study_values(study))
    if level != "study" and series is not None:
        result["0020000E"] = _strings("UI", series.series_instance_uid)
    if level == "series" and series is not None:
        _overlay(result, _series_values(series))
    if level == "instance" and instance is not None:
        _overlay(result, _instance_values(instance))
    if not result["00080005"].get("Value"):
        result["00080005"] = _strings("CS", _UTF8)
    return dict(sorted(result.items()))


def _overlay(result: Attributes, values: Attributes) -> None:
    result.update({tag: value for tag, value in values.items() if value.get("Value") or tag not in result})


def _study_values(study: Study) -> Attributes:
    patient = study.patient
    modalities = study.modalities or tuple(sorted({series.modality for series in study.series}))
    # A study without Patient ID has its own UID as identifier here; it is not what the images say.
    patient_id = "" if patient.identifier.value == study.study_instance_uid else patient.identifier.value
    return {
        "00080020": _strings("DA", study.date),
        "00080030": _strings("TM", study.time),
        "00080050": _strings("SH", study.accession_number),
        "00080061": _strings("CS", *modalities),
        "00080090": _names([study.referring_physician]),
        "00080201": _strings("SH", study.timezone),
        "00081030": _strings("LO", study.description),
        "00100010": _names([patient.name]),
        "00100020": _strings("LO", patient_id),
        "00100030": _strings("DA", patient.birth_date),
        "00100040": _strings("CS", patient.sex),
        "00200010": _strings("SH", study.study_id),
        "00201206": {"vr": "IS", "Value": [len(study.series)]},
        "00201208": {"vr": "IS", "Value": [study.instance_count]},
    }


def _series_values(series: Series) -> Attributes:
    return {
        "00080060": _strings("CS", series.modality),
        "0008103E": _strings("LO", series.description),
        "00200011": _integer("IS", series.number),
        "00201209": {"vr": "IS", "Value": [len(series.instances)]},
    }


def _instance_values(instance: Instance) -> Attributes:
    return {
        "00080016": _strings("UI", instance.sop_class_uid),
        "00080018": _strings("UI", instance.sop_instance_uid),
        "00083002": _strings("UI", instance.transfer_syntax_uid),
        "00200013": _integer("IS", instance.number),
        "00280008": _integer("IS", instance.frames or None),
        "00280010": _integer("US", instance.rows or None),
        "00280011": _integer("US", instance.columns or None),
    }


def _strings(vr: str, *values: str) -> Attribute:
    return {"vr": vr, "Value": list(values)} if any(values) else {"vr": vr}


def _integer(vr: str, value: int | None) -> Attribute:
    return {"vr": vr} if value is None else {"vr": vr, "Value": [value]}


def _names(values: Iterable[str]) -> Attribute:
    """PS3.18 section F.2.2: person names by component group, empty groups left out."""
    groups = ("Alphabetic", "Ideographic", "Phonetic")
    names = [
        {group: part for group, part in zip(groups, (part.strip() for part in value.split("=")), strict=False) if part} or None
        for value in values
    ]
    return {"vr": "PN", "Value": names} if any(names) else {"vr": "PN"}


class _Writer:
    """Elements to attributes. `bulkdata_uri` None: a value that would go by reference is left out."""

    def __init__(self, bulkdata_uri: Callable[[str], str] | None, threshold: int) -> None:
        self._uri, self._threshold = bulkdata_uri, threshold

    def dataset(self, dataset: Dataset, codecs: tuple[str, ...], path: str, signed: int) -> Attributes:
        """All elements of a data set or item, group lengths left out (PS3.18 section F.2.2)."""
        codecs, signed = _codecs(dataset, codecs), _signed(dataset, signed)
        return {f"{tag:08X}": self.element(dataset, tag, codecs, path, signed) for tag in sorted(dataset._dict) if tag & 0xFFFF}

    def some(self, dataset: Dataset, tags: Iterable[int]) -> Attributes:
        codecs, signed = _codecs(dataset, character_sets.DEFAULT), _signed(dataset, 0)
        return {f"{tag:08X}": self.element(dataset, tag, codecs, "", signed) for tag in sorted(tags) if tag in dataset}

    def element(self, dataset: Dataset, tag: int, codecs: tuple[str, ...], path: str, signed: int) -> Attribute:
        element = part10.stored(dataset, tag)
        if element is None:
            return {"vr": "UN"}
        vr = _vr(dataset, element, signed)
        attribute: Attribute = {"vr": vr}
        try:
            self._fill(attribute, element, vr, codecs, f"{path}{tag:08X}", signed)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, LookupError):
            return {"vr": vr}
        return attribute

    def _fill(
        self,
        attribute: Attribute,
        element: RawDataElement | DataElement,
        vr: str,
        codecs: tuple[str, ...],
        path: str,
        signed: int,
    ) -> None:
        value: object = element.value
        if isinstance(element, RawDataElement) and value is None:
            if element.length:
                self._refer(attribute, vr, path)
        elif vr == "SQ":
            if not isinstance(value, bytes) and isinstance(value, Iterable):
                items = [
                    self.dataset(item, codecs, f"{path}/{number}/", signed)
                    for number, item in enumerate(value, 1)
                    if isinstance(item, Dataset)
                ]
                if items:
                    attribute["Value"] = items
        elif element.tag in _PIXELS and "/" not in path and value:
            self._refer(attribute, vr, path)
        elif vr in _BINARY:
            self._binary(attribute, element, vr, path)
        elif element.tag == _CHARACTER_SET and value:
            attribute["Value"] = [_UTF8]
        elif vr == "PN":
            attribute.update(_names(_texts(value, vr, codecs)))
        else:
            values = _numbers(value, vr, element) if vr in _NUMBERS or vr == "AT" else _words(value, vr, codecs)
            if any(one is not None for one in values):
                attribute["Value"] = values

    def _binary(self, attribute: Attribute, element: RawDataElement | DataElement, vr: str, path: str) -> None:
        """PS3.18 sections F.2.6, F.2.7: a binary value by reference or in place."""
        value: object = element.value
        if not isinstance(value, bytes) or not value:
            return
        if len(value) > self._threshold:
            self._refer(attribute, vr, path)
            return
        little = not isinstance(element, RawDataElement) or element.is_little_endian
        attribute["InlineBinary"] = base64.b64encode(_little_endian(value, _BINARY[vr], little)).decode("ascii")

    def _refer(self, attribute: Attribute, vr: str, path: str) -> None:
        if self._uri is not None and (vr in _BULK or path in {f"{tag:08X}" for tag in _PIXELS}):
            attribute["BulkDataURI"] = self._uri(path)


def _codecs(dataset: Dataset, inherited: tuple[str, ...]) -> tuple[str, ...]:
    element = part10.stored(dataset, _CHARACTER_SET)
    return character_sets.encodings(element.value) if element is not None and isinstance(element.value, bytes) else inherited


def _signed(dataset: Dataset, inherited: int) -> int:
    """Pixel Representation (0028,0103), which decides between US and SS (PS3.5 annex A.1)."""
    element = part10.stored(dataset, _PIXEL_REPRESENTATION)
    if element is None or element.value is None:
        return inherited
    value: object = element.value
    return int(any(value)) if isinstance(value, bytes) else int(value == 1)


def _vr(dataset: Dataset, element: RawDataElement | DataElement, signed: int) -> str:
    """The VR that an attribute has in JSON; never one of pydicom's ambiguous ones."""
    vr = element.VR
    if vr is None or vr == "UN":
        known = part10.represented(dataset, element.tag)
        # PS3.5 section 6.2.2 note 5: a standard element that came as UN may get its VR back.
        vr = known if vr is None or not element.tag >> 16 & 1 else vr
    if vr in ("US or SS", "US or SS or OW", "US or OW"):
        if vr == "US or SS":
            return "SS" if signed else "US"
        return "OW"
    return "OW" if vr == "OB or OW" else str(vr)


def _little_endian(value: bytes, width: int, little: bool) -> bytes:
    """PS3.18 section F.2.7: InlineBinary is little endian."""
    if little or width == 1 or len(value) % width:
        return value
    words = array(_SWAPPED[width], value)
    words.byteswap()
    return words.tobytes()


def _texts(value: object, vr: str, codecs: tuple[str, ...]) -> list[str]:
    if isinstance(value, bytes):
        codecs = codecs if vr in _CHARACTER_SETS_APPLY else character_sets.DEFAULT
        text = character_sets.decode(value, codecs, person_name=vr == "PN")
        return [text] if vr in _ONE_TEXT else text.split("\\")
    if value is None:
        return []
    if isinstance(value, str | PersonName) or not isinstance(value, Iterable):
        return [str(value)]
    return ["" if one is None else str(one) for one in value]


def _words(value: object, vr: str, codecs: tuple[str, ...]) -> list[object]:
    """Values of the text VRs: strings, and for IS and DS numbers; None where one is empty or no number."""
    texts = _texts(value, vr, codecs)
    if vr in ("IS", "DS"):
        return [_number(text, vr) for text in texts]
    if vr in _ONE_TEXT:
        return [text.rstrip(" \0") or None for text in texts]
    return [text.strip(" \0") or None for text in texts]


def _number(text: str, vr: str) -> int | float | None:
    text = text.strip(" \0")
    if not text or "_" in text:
        return None
    try:
        number = float(text)
        if vr == "IS":
            return int(text) if text.lstrip("+-").isdigit() else int(number)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(value: object, vr: str, element: RawDataElement | DataElement) -> list[object]:
    """Values of the binary VRs as numbers, of AT as tags; numbers that JSON has not (infinity, NaN) become None."""
    if isinstance(value, bytes) and isinstance(element, RawDataElement):
        words = array("H" if vr == "AT" else _NUMBERS[vr])
        words.frombytes(value[: len(value) - len(value) % words.itemsize])
        if element.is_little_endian != (sys.byteorder == "little"):
            words.byteswap()
        if vr == "AT":
            return [f"{group:04X}{number:04X}" for group, number in zip(words[::2], words[1::2], strict=False)]
        return [one if math.isfinite(one) else None for one in words]
    if value is None or value == "":
        return []
    several = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    if vr == "AT":
        return [f"{one:08X}" for one in several if isinstance(one, int)]
    return [one if isinstance(one, int | float) and math.isfinite(one) else None for one in several]
