"""Searches over HTTP: their levels and forms, what is told of what they find, in pages, to whom."""

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from fhir.resources.R4B.bundle import Bundle
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

DCM = "http://dicom.nema.org/resources/ontology/DCM"
FORM = "application/x-www-form-urlencoded"


def study(id_: str, of: str, started: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy", "id": id_, "status": "available", "subject": {"reference": f"Patient/{of}"},
        "started": started, "series": [{"uid": "1.2.3", "modality": {"system": DCM, "code": "CT"}}], **more,
    }  # fmt: skip


def observation(id_: str, of: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": id_, "status": "final", "subject": {"reference": f"Patient/{of}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "effectiveDateTime": "2026-03-01",
        "valueQuantity": {"value": value, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}, **more,
    }  # fmt: skip


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "a", "active": True, "name": [{"family": "Müller", "given": ["Anna"]}], "birthDate": "1970-05-01",
     "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">A</div>'}, "generalPractitioner": [{"reference": "Practitioner/d"}]},
    {"resourceType": "Patient", "id": "b", "active": False, "name": [{"family": "Berger"}], "birthDate": "1980-07"},
    {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doctor"}]},
    study("s1", "a", "2026-01-05T09:30:00Z"),
    study("s2", "a", "2026-02-05T09:30:00Z", series=[{"uid": "1.2.3", "modality": {"system": DCM, "code": "CT"}, "instance": [
        {"uid": f"1.2.3.{number}", "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}} for number in range(100)
    ]}]),
    study("s3", "b", "2026-03-05T09:30:00Z"),
    observation("o1", "a", 70.5),
    observation("o2", "b", 80),
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("search") / "data", module_database_url) as site:
        for each in RESOURCES:
            site.put(each)
        yield site


@shows("interaction", "search-type")
def test_a_match_is_told_with_its_url_and_its_bytes(site: FhirSite) -> None:
    found = site.get("ImagingStudy?_id=s1")
    Bundle.model_validate(found.json())
    (entry,) = found.json()["entry"]
    assert entry["fullUrl"] == f"{site.base}/ImagingStudy/s1"
    assert entry["search"] == {"mode": "match"}
    assert site.get("ImagingStudy/s1").content in found.content
    assert found.json()["total"] == 1
    assert found.json()["link"] == [{"relation": "self", "url": f"{site.base}/ImagingStudy?_id=s1"}]
    assert found.headers["cache-control"] == "no-store"


@shows("interaction", "search-system")
@shows("result", "_type")
def test_a_search_of_the_system_is_of_all_types(site: FhirSite) -> None:
    assert set(site.ids("?_id=a,s1,o1")) == {"a", "s1", "o1"}
    assert set(site.ids("?_type=Patient,Practitioner")) == {"a", "b", "d"}
    assert site.get("?_type=Patient&name=anna").json()["total"] == 1
    issue(site.get("?_type=Study"), 400, "not-supported")
    issue(site.get("?_type=Patient,ImagingStudy&name=anna"), 400, "not-supported")
    # what the caller may not search is not among all types, and is refused by name
    some = site.token("user/Practitioner.rs")
    assert site.ids("?_lastUpdated=gt2000", some) == ["d"]
    assert "Patient" in issue(site.get("?_type=Practitioner,Patient", some), 403, "forbidden")["diagnostics"]
    assert "[base]/AuditEvent" in issue(site.get("?_type=AuditEvent"), 400, "not-supported")["diagnostics"]
    issue(site.get("?_id=a", site.token("user/Patient.r")), 403, "forbidden")


@shows("search", "compartment")
def test_a_compartment_is_searched_by_its_path(site: FhirSite) -> None:
    assert set(site.ids("Patient/a/ImagingStudy")) == {"s1", "s2"}
    assert site.ids("Patient/a/ImagingStudy?started=lt2026-02") == ["s1"]
    assert set(site.ids("Patient/a/*")) >= {"s1", "s2", "o1"}
    assert not {"s3", "o2", "b"} & set(site.ids("Patient/a/*"))
    assert site.bundle("Patient/nobody/ImagingStudy")["total"] == 0
    first = site.bundle("Patient/a/*?_count=1")
    following = {each["relation"]: each["url"] for each in first["link"]}["next"]
    assert following.startswith(f"{site.base}/Patient/a/*?")
    assert len(site.ids(following.removeprefix(f"{site.base}/"))) == 1
    mine = site.token("patient/*.rs", "a")
    assert set(site.ids("Patient/a/ImagingStudy", mine)) == {"s1", "s2"}
    issue(site.get("Patient/b/ImagingStudy", mine), 403, "forbidden")
    assert site.get("Location/a/ImagingStudy").status_code in (400, 404)


@shows("search", "POST")
def test_search_by_post_is_search(site: FhirSite) -> None:
    found = site.ask("POST", "ImagingStudy/_search", body=b"patient=a&_count=1", Content_Type=FORM)
    assert found.status_code == 200
    assert len(found.json()["entry"]) == 1
    (following,) = [link["url"] for link in found.json()["link"] if link["relation"] == "next"]
    assert dict(parse_qsl(urlsplit(following).query))["patient"] == "a"
    assert len(site.ids(following.removeprefix(f"{site.base}/"))) == 1
    both = site.ask("POST", "ImagingStudy/_search?started=ge2026-02", body=b"patient=a", Content_Type=f"{FORM}; charset=utf-8")
    assert [entry["resource"]["id"] for entry in both.json()["entry"]] == ["s2"]
    assert site.ask("POST", "_search", body=b"_type=Practitioner", Content_Type=FORM).json()["total"] == 1
    assert site.ask("POST", "Patient/a/Observation/_search", body=b"", Content_Type=FORM).json()["total"] == 1
    issue(site.ask("POST", "ImagingStudy/_search", body={"patient": "a"}), 415, "not-supported")
    issue(site.ask("POST", "ImagingStudy/_search", body=b"patient=%ff", Content_Type=FORM), 400, "invalid")
    limit = site.node.settings.max_message_bytes
    issue(site.ask("POST", "ImagingStudy/_search", body=b"a" * (limit + 1), Content_Type=FORM), 413, "too-long")
    issue(site.ask("POST", "ImagingStudy/_search", {}, body=b"patient=a", Content_Type=FORM), 401, "login")


# --- result parameters


@shows("result", "_count")
@pytest.mark.parametrize(
    "query", ["ImagingStudy?", "ImagingStudy?modality=CT&", "ImagingStudy?_sort=_lastUpdated&", "ImagingStudy?_sort=-started&",
              "Patient?_sort=family,-birthdate&", "Patient/a/*?", "?_type=Patient,ImagingStudy&", "?_type=Patient,Observation&_sort=-_lastUpdated&"],
)  # fmt: skip
def test_all_pages_make_the_whole(site: FhirSite, query: str) -> None:
    whole = site.ids(f"{query}_count=1000")
    assert len(whole) > 1
    found: list[str] = []
    path = f"{query}_count=1"
    while path:
        page = site.bundle(path)
        assert len(page["entry"]) == 1
        found.append(page["entry"][0]["resource"]["id"])
        links = {link["relation"]: link["url"] for link in page["link"]}
        if len(found) > 1:
            assert links["first"] == f"{site.base}/{query}_count=1".replace("/?", "?")
        path = links.get("next", "").removeprefix(site.base).removeprefix("/")
    assert found == whole


@shows("result", "_total")
def test_totals(site: FhirSite) -> None:
    assert site.bundle("ImagingStudy")["total"] == 3
    assert "total" not in site.bundle("ImagingStudy?_count=1")
    assert "total" not in site.bundle("ImagingStudy?_total=none")
    assert site.bundle("ImagingStudy?_count=1&_total=accurate")["total"] == 3
    assert site.bundle("ImagingStudy?modality=CT&_count=1&_total=estimate")["total"] == 3
    for counts in ("_summary=count", "_count=0"):
        found = site.bundle(f"ImagingStudy?{counts}&patient=a")
        assert found["total"] == 2
        assert "entry" not in found
    assert site.bundle("ImagingStudy?_summary=count", site.token("patient/*.rs", "b"))["total"] == 1
    assert len(site.ids("ImagingStudy?_count=999999999")) == 3


@shows("result", "_sort")
def test_sorted(site: FhirSite) -> None:
    assert site.ids("ImagingStudy?_sort=started") == ["s1", "s2", "s3"]
    assert site.ids("ImagingStudy?_sort=-started") == ["s3", "s2", "s1"]
    assert site.ids("Patient?_sort=family") == ["b", "a"]
    assert site.ids("Patient?_sort=-birthdate") == ["b", "a"]
    assert site.ids("Observation?_sort=-value-quantity") == ["o2", "o1"]
    assert site.ids("ImagingStudy?_sort=patient:Patient.family,-started") == ["s3", "s2", "s1"]


@shows("result", "_include", "_revinclude")
@shows("modifier", "iterate")
def test_what_belongs_to_it_comes_along_once(site: FhirSite) -> None:
    found = site.bundle("ImagingStudy?patient=a&_include=ImagingStudy:patient")
    assert [(each["search"]["mode"], each["resource"]["id"]) for each in found["entry"]][2:] == [("include", "a")]
    assert found["total"] == 2
    path = "Patient?_id=a&_revinclude=ImagingStudy:patient&_revinclude=Observation:subject"
    assert set(site.ids(path, mode="include")) == {"s1", "s2", "o1"}
    path = "ImagingStudy?_id=s1&_include=ImagingStudy:patient&_include:iterate=Patient:general-practitioner"
    assert set(site.ids(path, mode="include")) == {"a", "d"}
    assert set(site.ids("ImagingStudy?_id=s1&_include=*", mode="include")) == {"a"}
    mine = site.token("patient/*.rs", "a")
    assert set(site.ids(path, mine, mode="include")) == {"a"}, "no practitioner is in a patient's compartment"
    assert site.ids("ImagingStudy?_include=ImagingStudy:patient", site.token("user/ImagingStudy.rs"), mode="include") == []


@shows("result", "_summary")
def test_a_summary_is_told_of_each(site: FhirSite) -> None:
    (entry,) = site.bundle("ImagingStudy?_id=s2&_summary=true")["entry"]
    assert "instance" not in str(entry)
    assert entry["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert len(site.get("ImagingStudy?_id=s2&_summary=true").content) * 4 < len(site.get("ImagingStudy?_id=s2").content)
    (entry,) = site.bundle("Patient?_id=a&_summary=text")["entry"]
    assert entry["resource"].keys() == {"resourceType", "id", "meta", "text", "active"}
    (entry,) = site.bundle("Patient?_id=a&_summary=data")["entry"]
    assert "text" not in entry["resource"]
    issue(site.get("ImagingStudy?_summary=text&_include=ImagingStudy:patient"), 400, "not-supported")


@shows("result", "_elements")
def test_elements_are_told_of_each_match(site: FhirSite) -> None:
    found = site.bundle("ImagingStudy?_id=s2&_elements=started&_include=ImagingStudy:patient")["entry"]
    assert found[0]["resource"].keys() == {"resourceType", "id", "meta", "status", "subject", "started"}
    assert "text" in found[1]["resource"]
    issue(site.get("ImagingStudy?_elements=colour"), 400, "value")
    issue(site.get("ImagingStudy?_elements=started&_summary=true"), 400, "invalid")


def test_contained_resources_are_not_searched(site: FhirSite) -> None:
    assert site.bundle("ImagingStudy?_contained=false")["total"] == 3
    for query in ("_contained=true", "_contained=both", "_containedType=contained"):
        assert issue(site.get(f"ImagingStudy?{query}"), 400, "not-supported")["location"] == ["http._contained"]


# --- what is refused


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("ImagingStudy?colour=red", "not-supported", "colour"),
        ("ImagingStudy?identifier:exact=x", "not-supported", "identifier"),
        ("ImagingStudy?started=yesterday", "value", "started"),
        ("ImagingStudy?started=2026-02-30", "value", "started"),
        ("ImagingStudy?started=", "value", "started"),
        ("ImagingStudy?_lastUpdated=gt", "value", "_lastUpdated"),
        ("ImagingStudy?identifier=a,,b", "value", "identifier"),
        ("ImagingStudy?_count=-1", "value", "_count"),
        ("ImagingStudy?_count=many", "value", "_count"),
        ("ImagingStudy?_count=1&_count=2", "invalid", "_count"),
        ("ImagingStudy?_sort=colour", "not-supported", "_sort"),
        ("ImagingStudy?_total=maybe", "value", "_total"),
        ("ImagingStudy?_summary=most", "value", "_summary"),
        ("ImagingStudy?_include=ImagingStudy:colour", "not-supported", "_include"),
        ("ImagingStudy?_cursor=AAAA", "value", "_cursor"),
        ("ImagingStudy?_cursor=%F0%9F%98%80", "value", "_cursor"),
        ("Patient?started=2026", "not-supported", "started"),
    ],
)
def test_a_wrong_search_says_which_parameter(site: FhirSite, query: str, code: str, parameter: str) -> None:
    found = issue(site.get(query), 400, code)
    assert found["location"] == [f"http.{parameter}"]  # R4, OperationOutcome.issue.location
    assert "expression" not in found
    assert found["diagnostics"]


def test_all_that_is_wrong_is_told_with_what_may_have_been_meant(site: FhirSite) -> None:
    issues = site.get("Patient?familly=x&birthdate=x").json()["issue"]
    assert {each["location"][0] for each in issues} == {"http.familly", "http.birthdate"}
    assert "family" in issues[0]["diagnostics"] + issues[1]["diagnostics"]


@pytest.mark.parametrize(
    "query",
    ["ImagingStudy?%00=1", "ImagingStudy?_id=%00", "ImagingStudy?identifier=%ff", "ImagingStudy?" + "a=1&" * 101,
     "ImagingStudy?_id=" + ",".join(["a"] * 501), "ImagingStudy?<script>=1", "ImagingStudy?%F0%9F%98%80=1",
     "ImagingStudy?patient" + ".patient" * 60 + "=1", "Patient?_filter=" + "(" * 500, "ImagingStudy?_count=" + "9" * 400],
)  # fmt: skip
def test_a_hostile_search_is_refused(site: FhirSite, query: str) -> None:
    found = site.get(query)
    assert found.status_code == 400
    assert found.json()["resourceType"] == "OperationOutcome"
    assert "script" not in found.text


@pytest.mark.parametrize("text", ["'; DROP TABLE resource; --", "%' OR '1'='1", "\\", "_", "%"])
def test_sql_is_a_text_like_any_other(site: FhirSite, text: str) -> None:
    for parameter in ("name", "name:contains", "identifier", "_id", "general-practitioner", "_profile", "name:exact"):
        assert site.get(f"Patient?{parameter}={quote(text)}").status_code in (200, 400)
    assert len(site.ids("Patient")) == 2


@shows("header", "Prefer: handling")
def test_lenient_looks_at_what_it_knows_and_says_so(site: FhirSite) -> None:
    found = site.get("ImagingStudy?colour=red&patient=b", Prefer="handling=lenient")
    assert [entry["search"]["mode"] for entry in found.json()["entry"]] == ["match", "outcome"]
    Bundle.model_validate(found.json())
    warning = found.json()["entry"][1]["resource"]["issue"][0]
    assert (warning["severity"], "colour" in warning["diagnostics"]) == ("warning", True)
    (link,) = found.json()["link"]
    assert "colour" not in link["url"]
    assert found.json()["total"] == 1
    issue(site.get("ImagingStudy?started=x", Prefer="return=minimal; handling=lenient"), 400, "value")
    issue(site.get("ImagingStudy?colour=red", Prefer="handling=strict"), 400, "not-supported")


def test_a_page_link_is_for_its_search_and_its_caller_only(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "a")
    link = site.bundle("ImagingStudy?_count=1", mine)["link"][-1]["url"].removeprefix(f"{site.base}/")
    assert len(site.ids(link, mine)) == 1
    assert len(site.ids(link, site.token("patient/*.rs", "a"))) == 1, "a refreshed token goes on"
    assert site.get(f"{link}&_format=xml", mine).status_code == 200
    for headers in (site.token("patient/*.rs", "b"), site.token(), site.token("patient/*.rs", "a", "other-app")):
        assert issue(site.get(link, headers), 400, "value")["location"] == ["http._cursor"]
    issue(site.get(link.replace("_count=1", "_count=2"), mine), 400, "value")
    issue(site.get(link.replace("ImagingStudy?", "Observation?"), mine), 400, "value")
    issue(site.get(link[:-1] + ("A" if link[-1] != "A" else "Q"), mine), 400, "value")


# --- access and trail


def test_a_search_finds_the_tokens_patient_only(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "a")
    assert site.ids("Patient", mine) == ["a"]
    assert site.ids("Patient?_id=b", mine) == []
    assert site.ids("Practitioner", mine) == []
    assert set(site.ids("ImagingStudy", mine)) == {"s1", "s2"}
    assert set(site.ids("?_lastUpdated=gt2000", mine)) >= {"a", "s1", "s2", "o1"}
    assert not {"b", "s3", "o2", "d"} & set(site.ids("?_lastUpdated=gt2000", mine))
    texts = set()
    for query in (
        "patient=b",
        "patient=nobody",
        "patient=a,b",
        "subject=Patient/b",
        f"subject={site.base}/Patient/b",
        "subject:Patient=b",
    ):
        texts.add(issue(site.get(f"ImagingStudy?{query}", mine), 403, "forbidden")["diagnostics"])
    assert len(texts) == 1


def test_chains_tell_nothing_of_what_may_not_be_searched(site: FhirSite) -> None:
    narrow = site.token("user/ImagingStudy.rs")
    for query in (
        "patient.family=Berger",
        "_sort=patient:Patient.family",
        "patient:Patient.family=x",
        "_filter=patient.family eq Berger",
    ):
        issue(site.get(f"ImagingStudy?{query}", narrow), 403, "forbidden")
    issue(site.get("Patient?_has:Observation:subject:code=1", site.token("user/Patient.rs")), 403, "forbidden")
    assert site.ids("ImagingStudy?subject.family=Berger", site.token("user/ImagingStudy.rs user/Patient.rs")) == ["s3"]


@pytest.mark.parametrize(
    "scope", ["", "openid", "patient/Observation.rs", "patient/ImagingStudy.c", "patient/ImagingStudy.rs?x=y"]
)
def test_a_scope_that_does_not_cover_it_opens_nothing(site: FhirSite, scope: str) -> None:
    headers = site.token(scope, "a")
    for path in ("ImagingStudy", "Patient", "Endpoint", "AuditEvent", "Patient/a/ImagingStudy", "Practitioner?colour=red"):
        issue(site.get(path, headers), 403, "forbidden")


def test_a_search_is_in_the_trail_once_for_each_patient(site: FhirSite) -> None:
    before = site.mark()
    site.ids("ImagingStudy?modality=CT&_include=ImagingStudy:patient")
    events = site.events(before)
    told = {each["what"]["reference"] for event in events for each in event["entity"] if "reference" in each.get("what", {})}
    assert told == {"Patient/a", "Patient/b"}
    assert len(events) == 2
    for event in events:
        assert base64.b64decode(event["entity"][0]["query"]) == b"ImagingStudy?modality=CT&_include=ImagingStudy:patient"
        assert "PatientQuery" in event["meta"]["profile"][0]


def test_a_posted_search_is_in_the_trail_with_its_form(site: FhirSite) -> None:
    before = site.mark()
    site.ask("POST", "ImagingStudy/_search?_count=5", body=b"patient=a", Content_Type=FORM)
    (query,) = [each["query"] for each in site.events(before)[0]["entity"] if "query" in each]
    assert base64.b64decode(query) == b"ImagingStudy?_count=5&patient=a"
    before = site.mark()
    site.get("Patient/a/*?_count=5")
    (query,) = [each["query"] for each in site.events(before)[0]["entity"] if "query" in each]
    assert base64.b64decode(query) == b"Patient/a/*?_count=5"


def test_a_refused_search_is_in_the_trail_of_whose_data_it_was(site: FhirSite) -> None:
    before = site.mark()
    site.get("ImagingStudy?patient=b", site.token("patient/*.rs", "a"))
    (event,) = site.events(before)
    assert event["outcome"] == "4"
    assert "Patient/b" in str(event["entity"])
