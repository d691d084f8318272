"""HL7's validator finds no error in anything that the server itself produces. It needs Java and Maven, and runs in `make test-deep`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import imageshare, validator
from peers.fhir_site import XML, FhirSite, fhir_site
from peers.generated import Made, send
from peers.validator import Validator

pytestmark = pytest.mark.deep

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "http://example.org/p", "value": "1"}], "name": [{"family": "A"}]}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/mine"}}
BUNDLE = {
    "resourceType": "Bundle",
    "type": "batch",
    "entry": [
        {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}},
        {"request": {"method": "GET", "url": "Patient/mine"}},
        {"request": {"method": "GET", "url": "Patient/nobody"}},
        {"request": {"method": "GET", "url": "ImagingStudy"}},
    ],
}
TAG = {
    "resourceType": "Parameters",
    "parameter": [{"name": "meta", "valueMeta": {"tag": [{"system": "http://example.org/t", "code": "a"}]}}],
}


@pytest.fixture(scope="module")
def hl7() -> Iterator[Validator]:
    try:
        with validator.running() as running:
            yield running
    except validator.NoValidator as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    data: Path = tmp_path_factory.mktemp("hl7") / "data"
    with fhir_site(data) as site:
        send(
            site.node,
            Made(study=1, patient="P1", accession="A1"),
            Made(study=2, patient="P1", modality="MR"),
            Made(study=3, patient="P2"),
        )
        imageshare.publish_all(site.node)
        assert site.ask("PUT", "Patient/mine", body={**PATIENT, "id": "mine"}).status_code == 201
        assert site.ask("POST", "Observation", body=OBSERVATION).status_code == 201
        yield site


ASKED: tuple[tuple[str, str, Any], ...] = (
    ("GET", "metadata", None),
    ("GET", "ImagingStudy?_include=*&_total=accurate", None),
    ("GET", "ImagingStudy?_summary=true", None),
    ("GET", "ImagingStudy?_elements=status", None),
    ("GET", "DocumentReference", None),
    ("GET", "Endpoint", None),
    ("GET", "Patient?_revinclude=ImagingStudy:subject", None),
    ("GET", "Patient?_count=1", None),
    ("GET", "Patient?_summary=count", None),
    ("GET", "AuditEvent?_count=100", None),
    ("GET", "Patient/mine", None),
    ("GET", "Patient/mine/_history", None),
    ("GET", "_history", None),
    ("GET", "Patient/mine/$everything", None),
    ("GET", "Patient/$everything?_count=2", None),
    ("GET", "DocumentReference/$docref?patient=mine", None),
    ("GET", "Patient/mine/$meta", None),
    ("POST", "Patient/mine/$meta-add", TAG),
    ("POST", "Patient/$validate", {"resourceType": "Patient", "gender": "x"}),
    ("POST", "Patient/$validate", PATIENT),
    ("POST", "Patient", {"resourceType": "Patient", "gender": "x"}),
    ("POST", "", BUNDLE),
    ("POST", "", {**BUNDLE, "type": "transaction", "entry": [BUNDLE["entry"][0]]}),
    ("POST", "", {**BUNDLE, "type": "transaction", "entry": BUNDLE["entry"][2:3]}),
    ("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain", "data": "QUI="}),
    ("GET", "Patient/nobody", None),
    ("GET", "Patient?colour=red", None),
    ("GET", "Nothing", None),
    ("DELETE", "metadata", None),
)


def told(found: list[validator.Finding]) -> list[str]:
    return [f"{each.place}: {each.id}: {each.text}" for each in found]


@pytest.mark.parametrize(
    ("method", "path", "body"), ASKED, ids=[f"{number}-{method}-{path}" for number, (method, path, _) in enumerate(ASKED)]
)
def test_it_finds_nothing_wrong(site: FhirSite, hl7: Validator, method: str, path: str, body: Any) -> None:
    found = site.ask(method, path, body=body)
    assert found.status_code != 500
    assert told(hl7.errors(found.content)) == []


def test_xml_says_the_same(site: FhirSite, hl7: Validator) -> None:
    """The validator reads JSON here: XML is read by our own reader, which its round trips hold."""
    from profiles.fhir.json import serialize
    from profiles.fhir.xml import from_xml

    for path in ("ImagingStudy", "metadata", "Patient/mine/_history"):
        found = site.get(path, Accept=XML)
        assert told(hl7.errors(serialize(from_xml(found.content)))) == []
