"""What this server can do, from the same tables by which it does it."""

from collections.abc import Mapping
from importlib.metadata import version

import orjson

from profiles.search_parameters import INCLUDES, OFFERED, SearchParameter
from server.settings import Settings

FHIR_VERSION = "4.0.1"


def capability_statement(settings: Settings, date: str) -> bytes:
    """FHIR R4 section 5.2, CapabilityStatement as JSON. `date` is a FHIR instant: when this process began."""
    release = version("imageshare")
    return orjson.dumps(
        {
            "resourceType": "CapabilityStatement",
            "id": "imageshare",
            "name": "Imageshare",
            "title": f"{settings.organization}: medical images",
            "status": "active",
            "date": date,
            "kind": "instance",
            "software": {"name": "imageshare", "version": release},
            "implementation": {"description": settings.organization, "url": f"{settings.base_url}/fhir"},
            "fhirVersion": FHIR_VERSION,
            "format": ["application/fhir+json", "json"],
            "rest": [
                {
                    "mode": "server",
                    "documentation": "Unknown search parameters are refused, unless the request says Prefer: handling=lenient.",
                    "security": {
                        "cors": False,
                        "description": "Every request but this one needs a bearer access token of this server with SMART scopes.",
                    },
                    "resource": [*(_resource(type_, OFFERED[type_]) for type_ in sorted(OFFERED)), _BINARY],
                }
            ],
        }
    )


_BINARY = {
    "type": "Binary",
    "documentation": "The document of the DocumentReference with the same id; needs a scope for that.",
    "interaction": [{"code": "read"}],
    "versioning": "no-version",
}


def _resource(type_: str, parameters: tuple[SearchParameter, ...]) -> Mapping[str, object]:
    versioned = type_ != "AuditEvent"
    told: dict[str, object] = {
        "type": type_,
        "interaction": [{"code": code} for code in (("read", "vread", "search-type") if versioned else ("read", "search-type"))],
        "versioning": "versioned" if versioned else "no-version",
        "readHistory": versioned,
        "conditionalRead": "not-match",
    }
    if type_ in INCLUDES:
        told["searchInclude"] = list(INCLUDES[type_])
    told["searchParam"] = [_parameter(parameter) for parameter in parameters]
    return told


def _parameter(parameter: SearchParameter) -> Mapping[str, str]:
    told = {"name": parameter.name, "definition": parameter.definition, "type": parameter.type}
    return {**told, "documentation": parameter.documentation} if parameter.documentation else told
