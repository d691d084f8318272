"""Which attributes a QIDO-RS result has at each level: PS3.18 tables 10.6.3-3, 10.6.3-4 and 10.6.3-5, as data.

`REQUIRED` ones are in every result, empty where the instance has no value; `OPTIONAL` ones are what users of work lists
and viewers ask for besides. Those that are computed, not stored, are in `profiles.dicom_json.query_result`.
"""

from collections.abc import Mapping
from typing import Final, Literal

Level = Literal["study", "series", "instance"]

# tag: VR
_STUDY_REQUIRED: Final[Mapping[str, str]] = {
    "00080005": "CS",  # Specific Character Set
    "00080020": "DA",  # Study Date
    "00080030": "TM",  # Study Time
    "00080050": "SH",  # Accession Number
    "00080090": "PN",  # Referring Physician's Name
    "00080201": "SH",  # Timezone Offset From UTC
    "00100010": "PN",  # Patient's Name
    "00100020": "LO",  # Patient ID
    "00100030": "DA",  # Patient's Birth Date
    "00100040": "CS",  # Patient's Sex
    "0020000D": "UI",  # Study Instance UID
    "00200010": "SH",  # Study ID
}
_STUDY_OPTIONAL: Final = (
    "00080051",  # Issuer of Accession Number Sequence
    "00080080",  # Institution Name
    "00081030",  # Study Description
    "00081032",  # Procedure Code Sequence
    "00081060",  # Name of Physician(s) Reading Study
    "00100021",  # Issuer of Patient ID
    "00100024",  # Issuer of Patient ID Qualifiers Sequence
    "00100032",  # Patient's Birth Time
    "00101002",  # Other Patient IDs Sequence
    "00101010",  # Patient's Age
    "00101020",  # Patient's Size
    "00101030",  # Patient's Weight
)
_SERIES_REQUIRED: Final[Mapping[str, str]] = {
    "00080005": "CS",  # Specific Character Set
    "00080060": "CS",  # Modality
    "00080201": "SH",  # Timezone Offset From UTC
    "0008103E": "LO",  # Series Description
    "0020000E": "UI",  # Series Instance UID
    "00200011": "IS",  # Series Number
    "00400244": "DA",  # Performed Procedure Step Start Date
    "00400245": "TM",  # Performed Procedure Step Start Time
    "00400275": "SQ",  # Request Attributes Sequence
}
_SERIES_OPTIONAL: Final = (
    "00080021",  # Series Date
    "00080031",  # Series Time
    "00080070",  # Manufacturer
    "00081010",  # Station Name
    "00081090",  # Manufacturer's Model Name
    "00180015",  # Body Part Examined
    "00181030",  # Protocol Name
    "00185100",  # Patient Position
    "00200060",  # Laterality
)
_INSTANCE_REQUIRED: Final[Mapping[str, str]] = {
    "00080005": "CS",  # Specific Character Set
    "00080016": "UI",  # SOP Class UID
    "00080018": "UI",  # SOP Instance UID
    "00080201": "SH",  # Timezone Offset From UTC
    "00200013": "IS",  # Instance Number
    "00280008": "IS",  # Number of Frames
    "00280010": "US",  # Rows
    "00280011": "US",  # Columns
    "00280100": "US",  # Bits Allocated
}
_INSTANCE_OPTIONAL: Final = (
    "00080008",  # Image Type
    "00080012",  # Instance Creation Date
    "00080013",  # Instance Creation Time
    "00080022",  # Acquisition Date
    "00080032",  # Acquisition Time
    "00080023",  # Content Date
    "00080033",  # Content Time
    "00180050",  # Slice Thickness
    "00200012",  # Acquisition Number
    "00200032",  # Image Position (Patient)
    "00200037",  # Image Orientation (Patient)
    "00200052",  # Frame of Reference UID
    "00201041",  # Slice Location
    "00280002",  # Samples per Pixel
    "00280004",  # Photometric Interpretation
    "00280030",  # Pixel Spacing
    "0040A043",  # Concept Name Code Sequence
    "0040A491",  # Completion Flag
    "0040A493",  # Verification Flag
    "00420010",  # Document Title
    "00700080",  # Content Label
    "00700081",  # Content Description
)

REQUIRED: Final[Mapping[Level, Mapping[str, str]]] = {
    "study": _STUDY_REQUIRED,
    "series": _SERIES_REQUIRED,
    "instance": _INSTANCE_REQUIRED,
}
OPTIONAL: Final[Mapping[Level, tuple[str, ...]]] = {
    "study": _STUDY_OPTIONAL,
    "series": _SERIES_OPTIONAL,
    "instance": _INSTANCE_OPTIONAL,
}
