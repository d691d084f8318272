"""Two resources, and what FHIRPath finds in them."""

from decimal import Decimal
from typing import Any

from profiles.fhir.fhirpath import compile  # noqa: A004 (as `re.compile`)

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://x.example/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "multipleBirthInteger": 2,
    "_gender": {"id": "g1", "extension": [{"url": "http://x.example/unknown", "valueCode": "asked"}]},
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Burgers"}],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "valueQuantity": {"value": Decimal("185.0"), "unit": "lbs", "system": "http://unitsofmeasure.org", "code": "[lb_av]"},
    "effectivePeriod": {"start": "2026-01-01"},
}


def values(expression: str, resource: dict[str, Any] = PATIENT, **options: Any) -> list[Any]:
    return [node.value for node in compile(expression).evaluate(resource, **options)]
