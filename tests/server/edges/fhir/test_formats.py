"""JSON and XML, in all their names, pretty or not, compressed or not (FHIR R4 sections 3.1.0.1.9 to 3.1.0.1.11)."""

from collections.abc import Iterator
from typing import Any

import pytest
from lxml import etree
from peers.fhir_site import JSON, XML, FhirSite, fhir_site, issue
from peers.shows import shows

from profiles.fhir.json import parse
from profiles.fhir.xml import from_xml

ONE: dict[str, Any] = {
    "resourceType": "Patient", "id": "one", "name": [{"family": "Ünal & <Söhne>"}],
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>a <b>b</b> c</p></div>'},
}  # fmt: skip
MANY = {
    "resourceType": "Group",
    "id": "many",
    "type": "person",
    "actual": True,
    "member": [{"entity": {"reference": f"Patient/{n}"}} for n in range(500)],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("formats") / "data") as site:
        site.put(ONE, MANY)
        site.put({**ONE, "active": True})
        yield site


@shows("format", "application/fhir+json", "json")
@shows("header", "Accept")
@pytest.mark.parametrize(
    ("accept", "told"),
    [
        (JSON, JSON), ("*/*", JSON), ("application/*", JSON), ("text/html,*/*;q=0.8", JSON), ("", JSON),
        ("application/json", "application/json"), ("text/json", "text/json; charset=utf-8"),
        (f"{JSON}; fhirVersion=4.0", f"{JSON}; fhirVersion=4.0"),
        (f"{XML};q=0.1, {JSON}", JSON), (f"{JSON}, {XML}", JSON), (f"{JSON};fhirVersion=5.0, {JSON};q=0.5", JSON),
        (f"{XML};q=0, */*", JSON),
    ],
)  # fmt: skip
def test_json_is_told_to_who_takes_it(site: FhirSite, accept: str, told: str) -> None:
    found = site.get("Patient/one", Accept=accept)
    assert (found.status_code, found.headers["content-type"]) == (200, told)
    assert found.json()["id"] == "one"


@shows("format", "application/fhir+xml", "xml")
@pytest.mark.parametrize(
    ("accept", "told"),
    [
        (XML, XML), ("application/xml", "application/xml"), ("text/xml", "text/xml; charset=utf-8"), (f"{JSON};q=0.1, {XML}", XML),
        (f"{XML}, {JSON}", XML), (f"{JSON};q=0, */*", XML),
    ],
)  # fmt: skip
def test_xml_is_told_to_who_takes_it(site: FhirSite, accept: str, told: str) -> None:
    found = site.get("Patient/one", Accept=accept)
    assert (found.status_code, found.headers["content-type"]) == (200, told)
    assert from_xml(found.content) == site.get("Patient/one").json()


@pytest.mark.parametrize(
    "path", ["Patient?_include=Patient:link", "Patient/one/_history", "Patient?_id=nobody", "_history", "metadata", "Patient?_summary=true", "?_type=Patient"],
)  # fmt: skip
def test_a_bundle_is_the_same_in_both(site: FhirSite, path: str) -> None:
    as_json, as_xml = parse(site.get(path).content), from_xml(site.get(path, Accept=XML).content)
    for each in (as_json, as_xml):
        if each["resourceType"] == "Bundle":
            del each["id"], each["meta"]
    assert as_xml == as_json


def test_a_warning_is_in_the_bundle_in_xml_too(site: FhirSite) -> None:
    found = from_xml(site.get("Patient?colour=red", Accept=XML, Prefer="handling=lenient").content)
    assert [each["search"]["mode"] for each in found["entry"]] == ["match", "outcome"]


@pytest.mark.parametrize("accept", ["text/html", "image/png", f"{JSON};q=0", f"{JSON};fhirVersion=5.0", "*/*;q=0.000"])
def test_what_is_neither_is_not_acceptable(site: FhirSite, accept: str) -> None:
    for path in ("Patient/one", "Patient", "Patient/_history", "metadata"):
        issue(site.get(path, Accept=accept), 406, "not-supported")


@shows("result", "_format")
def test_the_format_parameter_goes_before_accept(site: FhirSite) -> None:
    for value in ("json", "application/fhir%2Bjson", "application/fhir+json", "application/json", "text/json"):
        assert site.get(f"Patient?_format={value}", Accept="text/html").json()["total"] == 1
    for value in ("xml", "application/fhir+xml", "application/xml", "text/xml"):
        assert from_xml(site.get(f"Patient?_format={value}", Accept=JSON).content)["total"] == 1
    for value in ("html", "ttl", "x"):
        issue(site.get(f"Patient?_format={value}"), 406, "not-supported")


@shows("result", "_pretty")
def test_pretty_is_the_same_content(site: FhirSite) -> None:
    for path in ("Patient/one", "metadata"):
        plain, pretty = site.get(path), site.get(f"{path}?_pretty=true")
        assert plain.json() == pretty.json()
        assert b"\n  " in pretty.content
    pretty = site.get("Patient/one?_pretty=true&_format=xml")
    assert from_xml(pretty.content) == site.get("Patient/one").json()
    assert b"\n  <name>\n    <family" in pretty.content
    assert b"<p>a <b>b</b> c</p>" in pretty.content
    browser = site.get("Patient/one", Accept="text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
    assert browser.headers["content-type"] == JSON
    assert b"\n  " in browser.content


@shows("header", "Accept-Encoding")
def test_what_is_large_is_compressed_for_who_takes_it(site: FhirSite) -> None:
    for path in ("Group/many", "Group", "Group/many?_format=xml"):
        plain = site.get(path, Accept_Encoding="identity")
        packed = site.get(path, Accept_Encoding="gzip")
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) * 4 < int(plain.headers["content-length"])
        assert "Accept-Encoding" in packed.headers["vary"]
        if path == "Group/many":
            assert packed.content == plain.content
    assert "content-encoding" not in site.get("Group/many", Accept_Encoding="gzip;q=0").headers
    assert "content-encoding" not in site.get("Patient/one", Accept_Encoding="gzip").headers


def test_errors_are_told_in_the_form_that_the_client_takes(site: FhirSite) -> None:
    found = site.get("Patient/nothing", Accept=XML)
    assert (found.status_code, found.headers["content-type"]) == (404, XML)
    assert from_xml(found.content)["issue"][0]["code"] == "not-found"
    assert etree.fromstring(site.get("Patient?colour=red&_format=xml").content).tag == "{http://hl7.org/fhir}OperationOutcome"
    assert from_xml(site.ask("GET", "Patient", {}, Accept=XML).content)["issue"][0]["code"] == "login"
    issue(site.get("Patient/one", Accept="image/png"), 406, "not-supported")
