"""Modalities: the defined terms of Modality (0008,0060) with their meanings, and those that a study has."""

from profiles.document import Code
from profiles.study import Study
from profiles.vocabulary import DCM_OID

# Modality that an object without one is said to have: PS3.3 C.7.3.1.1.1, OT
OTHER = "OT"

# PS3.16 CID 29 (acquisition) and CID 32 (everything else that a series may hold)
_MEANINGS: dict[str, str] = {
    "ANN": "Annotation",
    "AR": "Autorefraction",
    "ASMT": "Content Assessment Result",
    "AU": "Audio",
    "BDUS": "Ultrasound Bone Densitometry",
    "BI": "Biomagnetic Imaging",
    "BMD": "Bone Mineral Densitometry",
    "CFM": "Confocal Microscopy",
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "CTPROTOCOL": "CT Protocol",
    "DG": "Diaphanography",
    "DMS": "Dermoscopy",
    "DOC": "Document",
    "DX": "Digital Radiography",
    "ECG": "Electrocardiography",
    "EEG": "Electroencephalography",
    "EMG": "Electromyography",
    "EOG": "Electrooculography",
    "EPS": "Cardiac Electrophysiology",
    "ES": "Endoscopy",
    "FID": "Spatial Fiducials",
    "GM": "General Microscopy",
    "HC": "Hard Copy",
    "HD": "Hemodynamic Waveform",
    "IO": "Intra-oral Radiography",
    "IOL": "Intraocular Lens Calculation",
    "IVOCT": "Intravascular Optical Coherence Tomography",
    "IVUS": "Intravascular Ultrasound",
    "KER": "Keratometry",
    "KO": "Key Object Selection",
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
    "OT": "Other Modality",
    "PA": "Photoacoustic",
    "PLAN": "Plan",
    "POS": "Position Sensor",
    "PR": "Presentation State",
    "PT": "Positron emission tomography",
    "PX": "Panoramic X-Ray",
    "REG": "Registration",
    "RESP": "Respiratory Waveform",
    "RF": "Radiofluoroscopy",
    "RG": "Radiographic imaging",
    "RTDOSE": "RT Dose",
    "RTIMAGE": "RT Image",
    "RTPLAN": "RT Plan",
    "RTRECORD": "RT Treatment Record",
    "RTSTRUCT": "RT Structure Set",
    "RWV": "Real World Value Map",
    "SEG": "Segmentation",
    "SM": "Slide Microscopy",
    "SMR": "Stereometric Relationship",
    "SR": "Structured Report Document",
    "SRF": "Subjective Refraction",
    "TEXTUREMAP": "Texture Map",
    "TG": "Thermography",
    "US": "Ultrasound",
    "VA": "Visual Acuity",
    "XA": "X-Ray Angiography",
    "XC": "External-camera Photography",
}


def modality(value: str) -> Code:
    """PS3.3 C.7.3.1.1.1: the DCM code of a Modality as written; an empty one is `OT`. An unknown term has no meaning text."""
    term = " ".join(value.split()) or OTHER
    return Code(term, DCM_OID, _MEANINGS.get(term, ""))


def study_modalities(study: Study) -> tuple[str, ...]:
    """Modalities in Study (0008,0061): each term once, in the order of the series; of the study itself where it has no series."""
    terms = (series.modality for series in study.series) if study.series else iter(study.modalities)
    return tuple(dict.fromkeys(modality(term).code for term in terms))


def meanings() -> dict[str, str]:
    """The whole table, for a reader or a test: defined term -> code meaning."""
    return dict(_MEANINGS)
