"""A Document Source that speaks MHD: Bundles of ITI-65 as it makes them, of a patient of the server."""

import base64
import hashlib
from itertools import count
from typing import Any

Json = dict[str, Any]
MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
COMPREHENSIVE, MINIMAL = f"{MHD}/IHE.MHD.Comprehensive.ProvideBundle", f"{MHD}/IHE.MHD.Minimal.ProvideBundle"
SIMPLIFIED = f"{MHD}/IHE.MHD.SimplifiedPublish.DocumentReference"
TEXT = b"Impression: nothing new.\n"
_numbers = count(1)


def oid() -> str:
    return f"2.999.65.{next(_numbers)}"


def urn(number: int) -> str:
    return f"urn:uuid:65000000-0000-4000-8000-{number:012d}"


def concept(code: str, system: str = "urn:oid:1.3.6.1.4.1.21367.100.1") -> Json:
    return {"coding": [{"system": system, "code": code, "display": f"the {code}"}]}


def document(patient: str, unique_id: str, **changed: Any) -> Json:
    """A DocumentReference with comprehensive metadata, whose document is in the entry `urn(3)`."""
    return {
        "resourceType": "DocumentReference",
        "contained": [
            {
                "resourceType": "Patient", "id": "source", "identifier": [{"system": "urn:oid:1.2.3.4", "value": "L&7"}],
                "name": [{"family": "Doe", "given": ["Jane"]}], "gender": "female", "birthDate": "1970-01-01",
            },
            {
                "resourceType": "PractitionerRole", "id": "author", "practitioner": {"reference": "#who"},
                "organization": {"reference": "#where"}, "code": [{"text": "Attending"}], "specialty": [concept("R", "urn:oid:1.2.3.5")],
            },
            {
                "resourceType": "Practitioner", "id": "who", "identifier": [{"system": "urn:oid:1.2.3.6", "value": "11"}],
                "name": [{"family": "Welby", "given": ["Marcus"]}], "telecom": [{"system": "email", "value": "welby@example.org"}],
            },
            {"resourceType": "Organization", "id": "where", "name": "General", "identifier": [{"system": "urn:oid:1.2.3.7", "value": "G"}]},
        ],
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{unique_id}"},
        "status": "current", "type": concept("18748-4", "http://loinc.org"), "category": [concept("IMAGES")],
        "subject": {"reference": patient}, "date": "2026-01-02T10:15:00Z", "author": [{"reference": "#author"}],
        "description": "as dictated",
        "securityLabel": [concept("N", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")],
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain", "language": "en", "url": urn(3), "title": "Chest", "creation": "2026-01-02T11:15:00+01:00",
                    "size": len(TEXT), "hash": base64.b64encode(hashlib.sha1(TEXT).digest()).decode(),
                },
                "format": {"system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode", "code": "urn:ihe:iti:xds:2017:mimeTypeSufficient", "display": "as the type"},
            }
        ],
        "context": {
            "event": [concept("T-32000", "urn:oid:1.2.3.8")], "period": {"start": "2026-01-02T09:00:00Z", "end": "2026-01-02"},
            "facilityType": concept("HOSP"), "practiceSetting": concept("RAD"), "sourcePatientInfo": {"reference": "#source"},
            "related": [{"identifier": {"type": {"coding": [{"code": "urn:ihe:iti:xds:2013:order"}]}, "system": "urn:oid:1.2.3.9", "value": "O1"}}],
        },
        **changed,
    }  # fmt: skip


def listed(kind: str, patient: str, unique_id: str, *items: str, **changed: Any) -> Json:
    """A List: `submissionset` or `folder`."""
    extensions: list[Json] = [{"url": f"{MHD}/ihe-designationType", "valueCodeableConcept": concept("referral")}]
    if kind == "submissionset":
        source = {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.65"}
        extensions.append({"url": f"{MHD}/ihe-sourceId", "valueIdentifier": source})
    return {
        "resourceType": "List", "extension": extensions, "status": "current", "mode": "working", "title": f"a {kind}",
        "identifier": [{"use": "usual", "system": "urn:ietf:rfc:3986", "value": f"urn:oid:{unique_id}"}],
        "code": {"coding": [{"system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes", "code": kind}]},
        "subject": {"reference": patient}, "date": "2026-01-02T10:20:00Z",
        "entry": [{"item": {"reference": each}} for each in items], **changed,
    }  # fmt: skip


def binary(content: bytes = TEXT, **changed: Any) -> Json:
    return {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(content).decode(), **changed}


def entry(number: int, resource: Json, method: str = "POST", url: str = "") -> Json:
    return {"fullUrl": urn(number), "resource": resource, "request": {"method": method, "url": url or resource["resourceType"]}}


def provided(patient: str, unique_id: str, *more: Json, profile: str = COMPREHENSIVE, **changed: Any) -> Json:
    """A Bundle with a Submission Set, a DocumentReference (`changed`) and its Binary, and `more` entries, of which Lists are listed."""
    items = [
        urn(2),
        *(each["fullUrl"] for each in more if each["request"]["method"] == "POST" and each["resource"]["resourceType"] == "List"),
    ]
    return {
        "resourceType": "Bundle", "meta": {"profile": [profile]}, "type": "transaction",
        "entry": [
            entry(1, listed("submissionset", patient, oid(), *items)),
            entry(2, document(patient, unique_id, **changed)), entry(3, binary()), *more,
        ],
    }  # fmt: skip


def published(patient: str, unique_id: str) -> Json:
    """A DocumentReference of ITI-105, with its document in it."""
    made = document(patient, unique_id, meta={"profile": [SIMPLIFIED]})
    attachment = made["content"][0]["attachment"]
    del attachment["url"]
    attachment["data"] = base64.b64encode(TEXT).decode()
    return made


def fhir_document(identifier: Json, unique_id: str) -> Json:
    """A Bundle of type document about who has that identifier."""
    return {
        "resourceType": "Bundle", "type": "document", "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{unique_id}"},
        "timestamp": "2026-01-02T10:00:00Z",
        "entry": [
            {
                "fullUrl": urn(11), "resource": {
                    "resourceType": "Composition", "status": "final", "type": concept("11502-2", "http://loinc.org"), "subject": {"reference": urn(12)},
                    "date": "2026-01-02T10:00:00Z", "author": [{"reference": urn(13)}], "title": "Laboratory", "confidentiality": "N", "language": "de",
                },
            },
            {"fullUrl": urn(12), "resource": {"resourceType": "Patient", "identifier": [identifier], "name": [{"family": "Alba"}]}},
            {"fullUrl": urn(13), "resource": {"resourceType": "Practitioner", "name": [{"family": "Welby", "given": ["Marcus"]}]}},
        ],
    }  # fmt: skip


def cda(identifier: Json, unique_id: str) -> bytes:
    """A CDA document about who has that identifier."""
    root, value = identifier["system"].removeprefix("urn:oid:"), identifier["value"]
    return f"""<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3">
<id root="{unique_id}" extension="A1"/><code code="11488-4" codeSystem="2.16.840.1.113883.6.1" displayName="Consultation note"/>
<title>Consultation</title><effectiveTime value="20260102111500+0100"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>
<languageCode code="en-US"/><recordTarget><patientRole><id root="{root}" extension="{value}"/>
<patient><name><given>Anna</given><family>Alba</family></name><administrativeGenderCode code="F"/><birthTime value="19700101"/></patient>
</patientRole></recordTarget><author><assignedAuthor><id root="1.2.3.6" extension="11"/>
<assignedPerson><name><given>Marcus</given><family>Welby</family></name></assignedPerson>
<representedOrganization><id root="1.2.3.7" extension="G"/><name>General</name></representedOrganization></assignedAuthor></author>
<documentationOf><serviceEvent><effectiveTime><low value="20260101"/></effectiveTime></serviceEvent></documentationOf>
</ClinicalDocument>""".encode()
