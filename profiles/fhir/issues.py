"""What is wrong with a resource or a request, in FHIR's words (FHIR R4 section 2.23, OperationOutcome)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that was found. `code` is of the value set issue-type (`structure`, `required`, `value`, `code-invalid` ...).

    `expression` is a FHIRPath to the element, such as `ImagingStudy.series[0].modality`; empty where it concerns no element.
    `diagnostics` says what is wrong and what would be right. It never quotes values, which may be a patient's. `parameter` is the name of the
    parameter of the request that is at fault, where it is one.
    """

    severity: Severity
    code: str
    expression: str
    diagnostics: str
    parameter: str = ""


ALL_OK = Issue("information", "informational", "", "No issues were found.")


def is_refused(issues: Iterable[Issue]) -> bool:
    """Whether one of them is an error, for which a write is refused."""
    return any(issue.severity in ("fatal", "error") for issue in issues)


def outcome(issues: Iterable[Issue], *, id: str = "") -> dict[str, Any]:
    """FHIR R4 section 2.23: the OperationOutcome that tells the issues; one that says that all is well where there are none."""
    resource: dict[str, Any] = {"resourceType": "OperationOutcome"}
    if id:
        resource["id"] = id
    resource["issue"] = [_told(issue) for issue in issues] or [_told(ALL_OK)]
    return resource


def _told(issue: Issue) -> dict[str, Any]:
    told: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
    if issue.diagnostics:
        told["diagnostics"] = issue.diagnostics
    if issue.parameter:  # OperationOutcome.issue.location: "for HTTP errors, will be "http." + the parameter name"
        told["location"] = [f"http.{issue.parameter}"]
    if issue.expression:
        told["expression"] = [issue.expression]
    return told


def a(type_: str) -> str:
    """The name of a type with its article: a Patient, an Observation."""
    return f"an {type_}" if type_[:1] in "AEIO" else f"a {type_}"
