"""Modalities: the defined terms of Modality (0008,0060) with their meanings, and those that a study was acquired with."""

from profiles.document import Code
from profiles.study import Study
from profiles.vocabulary import DCM_OID

# Modality that an object without one is said to have: PS3.3 C.7.3.1.1.1, OT
OTHER = "OT"

# PS3.16 CID 29, Acquisition Modality
_ACQUISITION: dict[str, str] = {
    "AR": "Autorefraction",
    "BDUS": "Ultrasound Bone Densitometry",
    "BI": "Biomagnetic Imaging",
    "BMD": "Bone Mineral Densitometry",
    "CFM": "Confocal Microscopy",
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DG": "Diaphanography",
    "DMS": "Dermoscopy",
    "DX": "Digital Radiography",
    "ECG": "Electrocardiography",
    "EEG": "Electroencephalography",
    "EMG": "Electromyography",
    "EOG": "Electrooculography",
    "EPS": "Cardiac Electrophysiology",
    "ES": "Endoscopy",
    "GM": "General Microscopy",
    "HD": "Hemodynamic Waveform",
    "IO": "Intra-oral Radiography",
    "IVOCT": "Intravascular Optical Coherence Tomography",
    "IVUS": "Intravascular Ultrasound",
    "KER": "Keratometry",
    "LEN": "Lensometry",
    "LS": "Laser Scan",
    "MG": "Mammography",
    "MR": "Magnetic Resonance",
    "NM": "Nuclear Medicine",
    "OAM": "Ophthalmic Axial Measurements",
    "OCT": "Optical Coherence Tomography",
    "OP": "Ophthalmic Photography",
    "OPM": "Ophthalmic Mapping",
    "OPT": "Ophthalmic Tomography",
    "OPTBSV": "Ophthalmic Tomography B-scan Volume Analysis",
    "OPTENF": "Ophthalmic Tomography En Face",
    "OPV": "Ophthalmic Visual Field",
    "OSS": "Optical Surface Scanner",
    "PA": "Photoacoustic",
    "POS": "Position Sensor",
    "PT": "Positron emission tomography",
    "PX": "Panoramic X-Ray",
    "RESP": "Respiratory Waveform",
    "RF": "Radiofluoroscopy",
    "RG": "Radiographic imaging",
    "RTIMAGE": "RT Image",
    "SM": "Slide Microscopy",
    "SRF": "Subjective Refraction",
    "TG": "Thermography",
    "US": "Ultrasound",
    "VA": "Visual Acuity",
    "XA": "X-Ray Angiography",
    "XC": "External-camera Photography",
}

# PS3.16 CID 32, Non-Acquisition Modality, and ANN of PS3.3 section C.7.3.1.1.1: everything else that a series may hold
_OTHER: dict[str, str] = {
    "ANN": "Annotation",
    "ASMT": "Content Assessment Result",
    "AU": "Audio",
    "CTPROTOCOL": "CT Protocol",
    "DOC": "Document",
    "FID": "Spatial Fiducials",
    "HC": "Hard Copy",
    "IOL": "Intraocular Lens Calculation",
    "KO": "Key Object Selection",
    "OT": "Other Modality",
    "PLAN": "Plan",
    "PR": "Presentation State",
    "REG": "Registration",
    "RTDOSE": "RT Dose",
    "RTPLAN": "RT Plan",
    "RTRECORD": "RT Treatment Record",
    "RTSTRUCT": "RT Structure Set",
    "RWV": "Real World Value Map",
    "SEG": "Segmentation",
    "SMR": "Stereometric Relationship",
    "SR": "Structured Report Document",
    "TEXTUREMAP": "Texture Map",
}

_MEANINGS = {**_ACQUISITION, **_OTHER}


def modality(value: str) -> Code:
    """PS3.3 C.7.3.1.1.1: the DCM code of a Modality as written; an empty one is `OT`. An unknown term has no meaning text."""
    term = " ".join(value.split()) or OTHER
    return Code(term, DCM_OID, _MEANINGS.get(term, ""))


def acquisition_modalities(study: Study) -> tuple[str, ...]:
    """FHIR R4 section 8.30.4, ImagingStudy.modality: those of the series' modalities that acquire (PS3.16 CID 29), each once.

    All that there is (in the order of the series) where none does: a study of key objects or reports still has to be found by
    something. What the study itself says counts where it has no series.
    """
    written = (series.modality for series in study.series) if study.series else iter(study.modalities)
    terms = tuple(dict.fromkeys(modality(term).code for term in written))
    return tuple(term for term in terms if term in _ACQUISITION) or terms


def meanings() -> dict[str, str]:
    """The whole table, for a reader or a test: defined term -> code meaning."""
    return dict(_MEANINGS)


def acquisition() -> frozenset[str]:
    """The terms of PS3.16 CID 29, for a reader or a test."""
    return frozenset(_ACQUISITION)
