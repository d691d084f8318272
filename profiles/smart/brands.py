"""SMART App Launch 2.2, "User-access Brands and Endpoints": who runs this server, as apps list it for patients to choose from."""

from typing import Any, Final

Json = dict[str, Any]

_PROFILES: Final = "http://hl7.org/fhir/smart-app-launch/StructureDefinition"
_CONNECTION: Final = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"}
_FHIR_VERSION: Final = "http://hl7.org/fhir/StructureDefinition/endpoint-fhir-version"


def brand_bundle(
    *, base: str, organization: str, identifier: tuple[str, str], ids: tuple[str, str], changed: str, website: str = ""
) -> Json:
    """A Bundle of one primary brand and its FHIR endpoint.

    `base` is the server's URL, `identifier` system and value of the brand, `ids` those of Organization and Endpoint (UUIDs), `changed` a
    FHIR instant at which the content last changed.
    """
    brand, endpoint = ids
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [f"{_PROFILES}/user-access-brands-bundle"]},
        "type": "collection",
        "timestamp": changed,
        "entry": [
            {"fullUrl": f"urn:uuid:{brand}", "resource": _brand(base, organization, identifier, ids, changed, website)},
            {"fullUrl": f"urn:uuid:{endpoint}", "resource": _endpoint(base, organization, endpoint, changed)},
        ],
    }


def _brand(
    base: str, organization: str, identifier: tuple[str, str], ids: tuple[str, str], changed: str, website: str
) -> Json:  # fmt: skip
    portal = [
        {"url": "portalName", "valueString": organization},
        {"url": "portalUrl", "valueUrl": website or base},
        {"url": "portalEndpoint", "valueReference": {"reference": f"urn:uuid:{ids[1]}"}},
    ]
    return {
        "resourceType": "Organization",
        "id": ids[0],
        "meta": {"lastUpdated": changed, "profile": [f"{_PROFILES}/user-access-brand"]},
        "extension": [{"url": f"{_PROFILES}/organization-portal", "extension": portal}],
        "identifier": [{"system": identifier[0], "value": identifier[1]}],
        "active": True,
        "name": organization,
        "telecom": [{"system": "url", "value": website or base}],
        "endpoint": [{"reference": f"urn:uuid:{ids[1]}"}],
    }


def _endpoint(base: str, organization: str, id: str, changed: str) -> Json:
    return {
        "resourceType": "Endpoint",
        "id": id,
        "meta": {"lastUpdated": changed, "profile": [f"{_PROFILES}/user-access-endpoint"]},
        "extension": [{"url": _FHIR_VERSION, "valueCode": "4.0.1"}],
        "status": "active",
        "connectionType": _CONNECTION,
        "name": f"FHIR R4 of {organization}",
        "contact": [{"system": "url", "value": base}],
        "payloadType": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type", "code": "none"}]}],
        "payloadMimeType": ["application/fhir+json"],
        "address": f"{base}/fhir",
    }
