"""Which attributes a QIDO-RS result has at each level: PS3.18 tables 10.6.3-3, 10.6.3-4 and 10.6.3-5, as data.

`REQUIRED` ones are in every result, empty where the instance has no value; `OPTIONAL` ones are what users of work lists
and viewers ask for besides, sent where they have a value. `MORE` are the rest of a level's modules (PS3.3), kept to be matched and sent on
request; of an instance that is all of its metadata. Those that are computed, not stored, are in `profiles.dicom_json.query_result`.
"""

from collections.abc import Mapping
from typing import Final, Literal

Level = Literal["patient", "study", "series", "instance"]

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
# PS3.3 sections C.7.1.1 Patient, C.7.1.3 Clinical Trial Subject, C.7.2.1 General Study, C.7.2.2 Patient Study, C.7.2.3 Clinical Trial Study
_STUDY_MORE: Final = (
    "00080096",  # Referring Physician Identification Sequence
    "0008009C",  # Consulting Physician's Name
    "0008009D",  # Consulting Physician Identification Sequence
    "00081048",  # Physician(s) of Record
    "00081049",  # Physician(s) of Record Identification Sequence
    "00081062",  # Physician(s) Reading Study Identification Sequence
    "00081080",  # Admitting Diagnoses Description
    "00081084",  # Admitting Diagnoses Code Sequence
    "00081110",  # Referenced Study Sequence
    "00100022",  # Type of Patient ID
    "00100026",  # Source Patient Group Identification Sequence
    "00100027",  # Group of Patients Identification Sequence
    "00100033",  # Patient's Birth Date in Alternative Calendar
    "00100034",  # Patient's Death Date in Alternative Calendar
    "00100035",  # Patient's Alternative Calendar
    "00100200",  # Quality Control Subject
    "00100212",  # Strain Description
    "00100213",  # Strain Nomenclature
    "00100214",  # Strain Stock Number
    "00100215",  # Strain Source Registry Code Sequence
    "00100216",  # Strain Stock Sequence
    "00100217",  # Strain Source
    "00100218",  # Strain Additional Information
    "00100221",  # Genetic Modifications Sequence
    "00100222",  # Genetic Modifications Description
    "00100223",  # Genetic Modifications Nomenclature
    "00100229",  # Genetic Modifications Code Sequence
    "00101001",  # Other Patient Names
    "00101005",  # Patient's Birth Name
    "00101021",  # Patient's Size Code Sequence
    "00101022",  # Patient's Body Mass Index
    "00101023",  # Measured AP Dimension
    "00101024",  # Measured Lateral Dimension
    "00101060",  # Patient's Mother's Birth Name
    "00102000",  # Medical Alerts
    "00102110",  # Allergies
    "00102160",  # Ethnic Group
    "00102180",  # Occupation
    "001021A0",  # Smoking Status
    "001021B0",  # Additional Patient History
    "001021C0",  # Pregnancy Status
    "001021D0",  # Last Menstrual Date
    "00102201",  # Patient Species Description
    "00102202",  # Patient Species Code Sequence
    "00102203",  # Patient's Sex Neutered
    "00102292",  # Patient Breed Description
    "00102293",  # Patient Breed Code Sequence
    "00102294",  # Breed Registration Sequence
    "00102295",  # Breed Registration Number
    "00102296",  # Breed Registry Code Sequence
    "00102297",  # Responsible Person
    "00102298",  # Responsible Person Role
    "00102299",  # Responsible Organization
    "00104000",  # Patient Comments
    "00120010",  # Clinical Trial Sponsor Name
    "00120020",  # Clinical Trial Protocol ID
    "00120021",  # Clinical Trial Protocol Name
    "00120030",  # Clinical Trial Site ID
    "00120031",  # Clinical Trial Site Name
    "00120040",  # Clinical Trial Subject ID
    "00120042",  # Clinical Trial Subject Reading ID
    "00120050",  # Clinical Trial Time Point ID
    "00120051",  # Clinical Trial Time Point Description
    "00120060",  # Clinical Trial Coordinating Center Name
    "00120062",  # Patient Identity Removed
    "00120063",  # De-identification Method
    "00120064",  # De-identification Method Code Sequence
    "00120081",  # Clinical Trial Protocol Ethics Committee Name
    "00120082",  # Clinical Trial Protocol Ethics Committee Approval Number
    "00120083",  # Consent for Clinical Trial Use Sequence
    "00321033",  # Requesting Service
    "00321034",  # Requesting Service Code Sequence
    "00380010",  # Admission ID
    "00380014",  # Issuer of Admission ID Sequence
    "00380060",  # Service Episode ID
    "00380062",  # Service Episode Description
    "00380064",  # Issuer of Service Episode ID Sequence
    "00401012",  # Reason For Performed Procedure Code Sequence
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
# PS3.3 sections C.7.3.1 General Series, C.7.3.2 Clinical Trial Series, C.7.5.1 General Equipment
_SERIES_MORE: Final = (
    "00080081",  # Institution Address
    "0008103F",  # Series Description Code Sequence
    "00081040",  # Institutional Department Name
    "00081041",  # Institutional Department Type Code Sequence
    "00081050",  # Performing Physician's Name
    "00081052",  # Performing Physician Identification Sequence
    "00081070",  # Operators' Name
    "00081072",  # Operator Identification Sequence
    "00081111",  # Referenced Performed Procedure Step Sequence
    "00081250",  # Related Series Sequence
    "00102210",  # Anatomical Orientation Type
    "00120071",  # Clinical Trial Series ID
    "00120072",  # Clinical Trial Series Description
    "00181000",  # Device Serial Number
    "00181002",  # Device UID
    "00181008",  # Gantry ID
    "0018100A",  # UDI Sequence
    "00181020",  # Software Versions
    "00181050",  # Spatial Resolution
    "00181200",  # Date of Last Calibration
    "00181201",  # Time of Last Calibration
    "00201040",  # Position Reference Indicator
    "00280108",  # Smallest Pixel Value in Series
    "00280109",  # Largest Pixel Value in Series
    "00280120",  # Pixel Padding Value
    "00400250",  # Performed Procedure Step End Date
    "00400251",  # Performed Procedure Step End Time
    "00400253",  # Performed Procedure Step ID
    "00400254",  # Performed Procedure Step Description
    "00400260",  # Performed Protocol Code Sequence
    "00400280",  # Comments on the Performed Procedure Step
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
MORE: Final[Mapping[Level, tuple[str, ...]]] = {"study": _STUDY_MORE, "series": _SERIES_MORE, "instance": ()}
