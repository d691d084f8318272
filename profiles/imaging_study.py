"""Study to FHIR R4 ImagingStudy and Endpoint, as SMART Imaging Access wants them.

One study is one resource with every series and instance. The studies that real equipment writes are not clean, so text
is kept as it is, and what a FHIR type cannot carry (a negative number, a time that is none) is left out.
"""

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any, Final

from profiles import anatomy, modalities, timestamps
from profiles.document import Code
from profiles.patient import Json, display_name
from profiles.study import Instance, Series, Study
from profiles.vocabulary import (
    ACCESSION_IDENTIFIER_TYPE,
    DCM_SYSTEM,
    DICOM,
    DICOM_UID_SYSTEM,
    ENDPOINT_CONNECTION_TYPE,
    ENDPOINT_DICOM_WADO_RS,
    REQUIRES_ACCESS_TOKEN,
    SNOMED_SYSTEM,
    URI_SYSTEM,
    V2_IDENTIFIER_TYPE,
)

# FHIR R4 unsignedInt: 0 to 2,147,483,647
_UNSIGNED_INT_MAX = 2**31 - 1
_OWN: Final = "wado-rs"
"""Id of an Endpoint within an ImagingStudy."""


def imaging_study(study: Study, endpoint_id: str, zone: tzinfo) -> Json:
    """FHIR R4 section 8.30, ImagingStudy; SMART Imaging Access profile `smart-imaging-study`.

    `zone` is the zone of the site, for times whose study says no timezone. `endpoint_id` is the WADO-RS Endpoint's id.
    """
    endpoints = [{"reference": f"Endpoint/{endpoint_id}"}]
    resource: Json = {"resourceType": "ImagingStudy"}
    if study.id:
        resource["id"] = study.id
    resource["identifier"] = _identifiers(study)
    resource["status"] = "available"
    resource["modality"] = [_coding(modalities.modality(term), DCM_SYSTEM) for term in modalities.acquisition_modalities(study)]
    resource["subject"] = {"reference": f"Patient/{study.patient.id}"}
    if started := timestamps.fhir_date_time(study.date, study.time, zone, study.timezone):
        resource["started"] = started
    if referrer := display_name(study.referring_physician):
        resource["referrer"] = {"display": referrer}
    resource["endpoint"] = endpoints
    resource["numberOfSeries"] = len(study.series)
    resource["numberOfInstances"] = study.instance_count
    if description := study.description.strip():
        resource["description"] = description
    if study.series:
        resource["series"] = [_series(series, study, endpoints, zone) for series in study.series]
    return {key: value for key, value in resource.items() if value != []}


def withdrawn(study: Study) -> Json:
    """FHIR R4 section 8.30, ImagingStudy of which nothing is to be seen any more: withdrawn after it was released."""
    return {
        "resourceType": "ImagingStudy",
        "id": study.id,
        "identifier": [study_identifier(study.study_instance_uid)],
        "status": "entered-in-error",
        "subject": {"reference": f"Patient/{study.patient.id}"},
        "numberOfSeries": 0,
        "numberOfInstances": 0,
    }


def endpoint(id: str, address: str, name: str) -> Json:
    """FHIR R4 section 8.32, Endpoint; SMART Imaging Access profile `smart-wado-endpoint`.

    `address` is the WADO-RS base URL, to which an app appends `/studies/{uid}`; the same access token opens it.
    """
    resource: Json = {
        "resourceType": "Endpoint",
        "id": id,
        "extension": [{"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": True}],
        "status": "active",
        "connectionType": {"system": ENDPOINT_CONNECTION_TYPE, "code": ENDPOINT_DICOM_WADO_RS},
        "payloadType": [{"text": "DICOM"}],
        "payloadMimeType": [DICOM],
        "address": address.rstrip("/"),
    }
    if name:
        resource["name"] = name
    return resource


def study_uid(study: Mapping[str, Any]) -> str:
    """The Study Instance UID of an ImagingStudy; empty where it says none."""
    for identifier in study.get("identifier", ()):
        if identifier.get("system") == DICOM_UID_SYSTEM and identifier.get("value", "").startswith("urn:oid:"):
            return str(identifier["value"].removeprefix("urn:oid:"))
    return ""


def with_own_endpoint(study: Mapping[str, Any], address: str) -> Json:
    """The ImagingStudy with a contained WADO-RS Endpoint of this address in place of those that it and its series refer to."""
    own: list[Json] = [{"reference": f"#{_OWN}"}]
    series = [{**each, "endpoint": own} if "endpoint" in each else each for each in study.get("series", ())]
    contained = [*study.get("contained", ()), endpoint(_OWN, address, "")]
    return {**study, "contained": contained, "endpoint": own, **({"series": series} if series else {})}


def accession_identifier(value: str, authority: str) -> Json:
    """FHIR R4 Identifier of type ACSN; `authority` is the issuer's OID or empty."""
    identifier: Json = {"type": {"coding": [{"system": V2_IDENTIFIER_TYPE, "code": ACCESSION_IDENTIFIER_TYPE}]}}
    if authority:
        identifier["system"] = f"urn:oid:{authority}"
    identifier["value"] = value
    return identifier


def study_identifier(study_instance_uid: str) -> Json:
    """FHIR R4 section 8.30.5: the Study Instance UID as Identifier, `urn:dicom:uid` and `urn:oid:<uid>`."""
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{study_instance_uid}"}


def _identifiers(study: Study) -> list[Json]:
    identifiers = [study_identifier(study.study_instance_uid)]
    if accession := study.accession_number.strip():
        identifiers.append(accession_identifier(accession, study.accession_authority))
    return identifiers


def _series(series: Series, study: Study, endpoints: list[dict[str, str]], zone: tzinfo) -> Json:
    projected: Json = {"uid": series.series_instance_uid}
    if (number := _unsigned(series.number)) is not None:
        projected["number"] = number
    projected["modality"] = _coding(modalities.modality(series.modality), DCM_SYSTEM)
    if description := series.description.strip():
        projected["description"] = description
    projected["numberOfInstances"] = len(series.instances)
    projected["endpoint"] = endpoints
    if body_part := series.body_part.strip():
        known = anatomy.region(body_part)
        projected["bodySite"] = _coding(known, SNOMED_SYSTEM) if known else {"display": body_part}
    if side := anatomy.laterality(series.laterality):
        projected["laterality"] = _coding(side, SNOMED_SYSTEM)
    if started := timestamps.fhir_date_time(series.date, series.time, zone, study.timezone):
        projected["started"] = started
    if series.instances:
        projected["instance"] = [_instance(instance) for instance in series.instances]
    return projected


def _instance(instance: Instance) -> Json:
    projected: Json = {
        "uid": instance.sop_instance_uid,
        "sopClass": {"system": URI_SYSTEM, "code": f"urn:oid:{instance.sop_class_uid}"},
    }
    if (number := _unsigned(instance.number)) is not None:
        projected["number"] = number
    if title := instance.title.strip():
        projected["title"] = title
    return projected


def _coding(code: Code, system: str) -> Json:
    coding: Json = {"system": system, "code": code.code}
    if code.display:
        coding["display"] = code.display
    return coding


def _unsigned(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= _UNSIGNED_INT_MAX else None
