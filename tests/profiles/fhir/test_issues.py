"""FHIR R4 section 2.23: OperationOutcomes are right, and say what the issues say."""

from fhir.resources.R4B.operationoutcome import OperationOutcome

from profiles.fhir.issues import Issue, a, is_refused, outcome
from profiles.fhir.validation import check


def test_an_outcome_is_a_resource_with_its_issues() -> None:
    issues = [Issue("error", "required", "Patient.name", "it has to be there"), Issue("fatal", "structure", "", "")]
    resource = outcome(issues, id="7")
    assert resource == {
        "resourceType": "OperationOutcome", "id": "7",
        "issue": [{"severity": "error", "code": "required", "diagnostics": "it has to be there", "expression": ["Patient.name"]},
                  {"severity": "fatal", "code": "structure"}],
    }  # fmt: skip
    assert check(resource) == []
    assert OperationOutcome.model_validate(resource)


def test_a_parameter_is_told_by_its_name() -> None:
    """R4, OperationOutcome.issue.location: for HTTP errors "http." and the name of the parameter; expression is FHIRPath."""
    resource = outcome([Issue("error", "not-supported", "", "there is no such parameter", "nmae")])
    assert resource["issue"][0]["location"] == ["http.nmae"]
    assert "expression" not in resource["issue"][0]
    assert check(resource) == []
    assert OperationOutcome.model_validate(resource)


def test_types_have_their_article() -> None:
    assert [a(each) for each in ("Patient", "Observation", "ImagingStudy", "?")] == [
        "a Patient",
        "an Observation",
        "an ImagingStudy",
        "a ?",
    ]


def test_without_issues_it_says_that_all_is_well() -> None:
    resource = outcome([])
    assert resource["issue"][0]["severity"] == "information"
    assert "id" not in resource
    assert check(resource) == []


def test_what_a_write_is_refused_for() -> None:
    assert is_refused([Issue("warning", "value", "", ""), Issue("error", "value", "", "")])
    assert not is_refused([Issue("warning", "value", "", ""), Issue("information", "value", "", "")])
