"""Our `$validate` beside HL7's validator, on a corpus of valid and broken resources. `make test-deep` asks HL7's validator itself."""

from collections.abc import Iterator

import orjson
import pytest
from peers import validator
from peers.fhir_corpus import Case, cases
from peers.validator import Validator

from profiles.fhir.json import parse
from profiles.fhir.profile_check import validate

CASES = tuple(cases())
STRICTER = frozenset(
    {
        ("Patient", "managing organization is a Patient"),
        ("ImagingStudy", "subject is a Practitioner"),
        ("ImagingStudy", "endpoint is a Patient"),
        ("DocumentReference", "author is an ImagingStudy"),
        ("DiagnosticReport", "imagingStudy is a Patient"),
        ("ServiceRequest", "requester is a Specimen"),
        ("PractitionerRole", "practitioner is a Patient"),
        ("Organization", "part of a Patient"),
        ("Binary", "data that is no base64"),
    }
)
"""What ours refuses and HL7's does not: references to the wrong type without fetching what they lead to, and data that nobody can decode."""
LAXER = frozenset({("ImagingStudy", "accession number")})
"""The other way round: HL7's takes `urn:oid:1.2.3` for no OID, for its second number."""


def is_valid(case: Case) -> bool:
    """What ours says."""
    return not any(each.severity in ("fatal", "error") for each in validate(parse(orjson.dumps(case.resource))))


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 120
    assert len({case.type for case in CASES}) >= 18
    assert {case.valid for case in CASES} == {True, False}
    assert len({(case.type, case.name) for case in CASES}) == len(CASES)


def test_ours_agrees_with_hl7s() -> None:
    differ = {(case.type, case.name) for case in CASES if is_valid(case) != case.valid}
    assert differ == STRICTER | LAXER
    assert len(differ) <= len(CASES) / 10


@pytest.fixture(scope="module")
def hl7() -> Iterator[Validator]:
    try:
        with validator.running() as running:
            yield running
    except validator.NoValidator as reason:
        pytest.skip(str(reason))


@pytest.mark.deep
def test_hl7s_says_what_is_written_down(hl7: Validator) -> None:
    said = {(case.type, case.name): not hl7.errors(case.resource) for case in CASES}
    assert said == {(case.type, case.name): case.valid for case in CASES}
