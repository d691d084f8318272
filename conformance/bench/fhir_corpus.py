"""What the FHIR suite stores: patients with studies of one image, and studies of a thousand. The same number makes the same resource."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from profiles.identifiers import uuid_oid
from profiles.vocabulary import ACCESSION_IDENTIFIER_TYPE, DCM_SYSTEM, DICOM_UID_SYSTEM, URI_SYSTEM, V2_IDENTIFIER_TYPE

Json = dict[str, Any]

MODALITIES: Final = ("CT", "MR", "DX", "US", "MG", "NM", "PT", "XA")
_SOP_CLASSES: Final = {
    "CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1", "MG": "1.2.840.10008.5.1.4.1.1.1.2", "NM": "1.2.840.10008.5.1.4.1.1.20",
    "PT": "1.2.840.10008.5.1.4.1.1.128", "XA": "1.2.840.10008.5.1.4.1.1.12.1",
}  # fmt: skip
_BEGIN: Final = datetime(2006, 1, 1, tzinfo=UTC)
_DAYS: Final = 7305
"""Twenty years, of which `_STRIDE` is no divisor: neighbours are years apart, and every day has as many studies."""
_STRIDE: Final = 7919
_NAMESAKES: Final = 10
_SERIES: Final = 5
MARKER: Final = b"bench-0000000000"
"""Stands in the large study where `varied` puts a number."""


def patient_id(number: int) -> str:
    return f"bench-{number}"


def family(number: int) -> str:
    """Ten patients have the same."""
    return f"Bench{number // _NAMESAKES:07}"


def patient(number: int) -> Json:
    """FHIR R4 section 8.1, Patient `number`."""
    return {
        "resourceType": "Patient",
        "id": patient_id(number),
        "identifier": [{"system": "urn:example:bench", "value": f"B{number:07}"}],
        "name": [{"family": family(number), "given": [f"Given{number % 97}"]}],
        "gender": ("female", "male")[number % 2],
        "birthDate": f"{1930 + number % 80}-{1 + number % 12:02}-{1 + number % 28:02}",
    }


def modality(number: int) -> str:
    """Each of eight is that of one in eight studies, whatever stride one takes through them."""
    return MODALITIES[(5 * number + number // 8) % 8]


def started(number: int) -> str:
    """A FHIR dateTime."""
    return (_BEGIN + timedelta(days=number * _STRIDE % _DAYS, minutes=number % 1440)).isoformat()


def study_identifier(number: int) -> str:
    """The Study Instance UID, as the value of an Identifier of system `urn:dicom:uid`."""
    return f"urn:oid:{_uid(f'study-{number}')}"


def study(number: int, subject: str) -> Json:
    """FHIR R4 section 8.30, ImagingStudy `number` with one series of one instance; `subject` is a reference to its patient."""
    coding = {"system": DCM_SYSTEM, "code": modality(number)}
    instance = {"uid": _uid(f"instance-{number}"), "sopClass": _sop_class(coding["code"]), "number": 1}
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": DICOM_UID_SYSTEM, "value": study_identifier(number)}, _accession(number)],
        "status": "available",
        "modality": [coding],
        "subject": {"reference": subject},
        "started": started(number),
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "description": f"Examination {number % 40}",
        "series": [
            {"uid": _uid(f"series-{number}"), "number": 1, "modality": coding, "numberOfInstances": 1, "instance": [instance]}
        ],
    }


def large_study(name: str, subject: str, instances: int = 1000) -> bytes:
    """ImagingStudy `name` with `instances` instances in five series, as JSON of 188 bytes an instance, near enough; see `MARKER`."""
    each = instances // _SERIES
    resource = study(0, subject) | {
        "id": name,
        "identifier": [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{_uid(name)}"}],
        "description": MARKER.decode(),
        "numberOfSeries": _SERIES,
        "numberOfInstances": _SERIES * each,
        "series": [
            {
                "uid": _uid(f"{name}-{series}"),
                "number": series + 1,
                "modality": {"system": DCM_SYSTEM, "code": "CT"},
                "numberOfInstances": each,
                "instance": [_instance(name, series, place) for place in range(each)],
            }
            for series in range(_SERIES)
        ],
    }
    return orjson.dumps(resource)


def varied(large: bytes, number: int) -> bytes:
    """The large study with another description, of the same length."""
    return large.replace(MARKER, b"bench-%010d" % number)


def entry(method: str, url: str, resource: Json, full_url: str = "") -> Json:
    """One request of a Bundle."""
    return {**({"fullUrl": full_url} if full_url else {}), "resource": resource, "request": {"method": method, "url": url}}


def transaction(entries: Iterable[Json]) -> bytes:
    """FHIR R4 section 3.1.0.11: the Bundle, as JSON."""
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})


def family_of_studies(numbers: Sequence[int]) -> bytes:
    """A transaction of a Patient for each fifth of `numbers` and of a study for each of the others, which refers to its `urn:uuid:`."""
    entries: list[Json] = []
    subject = ""
    for place, number in enumerate(numbers):
        if place % 5 == 0:
            subject = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'patient-{number}')}"
            new = {name: value for name, value in patient(number).items() if name != "id"}
            entries.append(entry("POST", "Patient", new, subject))
        else:
            entries.append(entry("POST", "ImagingStudy", study(number, subject)))
    return transaction(entries)


def _instance(name: str, series: int, place: int) -> Json:
    return {
        "uid": _uid(f"{name}-{series}-{place}"),
        "sopClass": _sop_class("CT"),
        "number": place + 1,
        "title": r"ORIGINAL\PRIMARY\AXIAL",
    }


def _sop_class(code: str) -> Json:
    return {"system": URI_SYSTEM, "code": f"urn:oid:{_SOP_CLASSES[code]}"}


def _accession(number: int) -> Json:
    type_ = {"coding": [{"system": V2_IDENTIFIER_TYPE, "code": ACCESSION_IDENTIFIER_TYPE}]}
    return {"type": type_, "system": "urn:example:bench:accession", "value": f"A{number:08}"}


def _uid(name: str) -> str:
    return uuid_oid(uuid.uuid5(uuid.NAMESPACE_OID, f"bench-{name}"))
