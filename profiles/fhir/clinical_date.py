"""The one date that stands for when a resource happened, by type: what its searches are sorted by unless they say otherwise."""

from collections.abc import Mapping
from typing import Final

CLINICAL_DATE: Final[Mapping[str, str]] = {
    "AdverseEvent": "date", "AllergyIntolerance": "date", "AuditEvent": "date", "CarePlan": "date", "Claim": "created",
    "ClinicalImpression": "date", "Communication": "sent", "CommunicationRequest": "authored", "Composition": "date",
    "Condition": "onset-date", "Consent": "date", "DetectedIssue": "identified", "DeviceRequest": "authored-on", "DiagnosticReport": "date",
    "DocumentManifest": "created", "DocumentReference": "date", "Encounter": "date", "EpisodeOfCare": "date", "FamilyMemberHistory": "date",
    "Flag": "date", "Goal": "start-date", "ImagingStudy": "started", "Immunization": "date", "List": "date", "Media": "created",
    "MedicationAdministration": "effective-time", "MedicationDispense": "whenhandedover", "MedicationRequest": "authoredon",
    "MedicationStatement": "effective", "Observation": "date", "Procedure": "date", "Provenance": "recorded",
    "QuestionnaireResponse": "authored", "RequestGroup": "authored", "RiskAssessment": "date", "ServiceRequest": "authored",
    "Specimen": "collected", "Task": "authored-on",
}  # fmt: skip
"""Resource type -> its search parameter.

Of every other type the clinical date is none, so its default order is that in which its resources were created: not that of their last update,
since each update would then rewrite all that the resource is found by.
"""
